// The settings dialog. Values apply as they are changed; those of loading, at the next load.

import { h, iconButton } from "./dom.ts";
import { DEFAULTS, write, type Settings } from "./store.ts";

const DTYPES = [["q4", "4 bits"], ["nf4", "4 bits (nf4)"], ["q4a", "5 bits (q4a)"], ["q8", "8 bits"], ["f16", "16 bits"], ["f32", "32 bits"], ["auto", "automatic"]] as const;
const CACHE_DTYPES = [["", "automatic"], ["f16", "16 bits"], ["q8", "8 bits"], ["q4", "4 bits"]] as const;

export class SettingsDialog {
  readonly element: HTMLDialogElement;
  #body = h("div", { className: "dialog-body" });

  constructor(
    readonly settings: Settings,
    private readonly reload: () => void,
  ) {
    this.element = h(
      "dialog",
      { className: "dialog", "aria-label": "Settings" },
      h("div", { className: "dialog-head" }, h("h2", {}, "Settings"), iconButton("close", "Close settings", () => this.element.close())),
      this.#body,
    );
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
    this.#draw();
  }

  open(): void {
    this.element.showModal();
  }

  #set<K extends keyof Settings>(name: K, value: Settings[K]): void {
    this.settings[name] = value;
    write("settings", this.settings);
  }

  #slider(name: "temperature" | "topP", label: string, max: number, note: string): HTMLElement {
    const id = `setting-${name}`;
    const output = h("output", { htmlFor: id }, this.settings[name].toFixed(2));
    const input = h("input", { id, type: "range", min: name === "topP" ? "0.05" : "0", max: String(max), step: "0.05", "aria-describedby": `${id}-note` });
    input.value = String(this.settings[name]);
    input.addEventListener("input", () => {
      this.#set(name, Number(input.value));
      output.textContent = Number(input.value).toFixed(2);
    });
    return h("div", { className: "field" }, h("div", { className: "field-head" }, h("label", { htmlFor: id }, label), output), input, h("p", { className: "field-note", id: `${id}-note` }, note));
  }

  #number(name: "maxTokens" | "seed" | "context", label: string, note: string, placeholder: string): HTMLElement {
    const id = `setting-${name}`;
    const shown = this.settings[name];
    const input = h("input", { id, type: "text", inputMode: "numeric", pattern: "[0-9]*", placeholder, "aria-describedby": `${id}-note` });
    input.value = shown === 0 ? "" : String(shown);
    input.addEventListener("input", () => {
      if (!/^\d*$/.test(input.value)) return;
      if (name === "seed") this.#set("seed", input.value);
      else this.#set(name, input.value === "" ? DEFAULTS[name] : Math.max(1, Number(input.value)));
    });
    return h("div", { className: "field" }, h("label", { htmlFor: id }, label), input, h("p", { className: "field-note", id: `${id}-note` }, note));
  }

  #select<K extends "dtype" | "cacheDtype">(name: K, label: string, note: string, choices: readonly (readonly [Settings[K], string])[]): HTMLElement {
    const id = `setting-${name}`;
    const select = h("select", { id, "aria-describedby": `${id}-note` }, ...choices.map(([value, text]) => h("option", { value }, text)));
    select.value = this.settings[name];
    select.addEventListener("change", () => this.#set(name, select.value as Settings[K]));
    return h("div", { className: "field" }, h("label", { htmlFor: id }, label), select, h("p", { className: "field-note", id: `${id}-note` }, note));
  }

  #draw(): void {
    const system = h("textarea", { id: "setting-system", rows: 2, placeholder: "What the model is to be" });
    system.value = this.settings.system;
    system.addEventListener("input", () => this.#set("system", system.value));

    const keep = h("input", { id: "setting-keep", type: "checkbox" });
    keep.checked = this.settings.keep;
    keep.addEventListener("change", () => this.#set("keep", keep.checked));

    this.#body.replaceChildren(
      h("h3", {}, "Answers"),
      this.#slider("temperature", "Temperature", 2, "0 always takes the likeliest word; higher values surprise more."),
      this.#slider("topP", "Top-p", 1, "Choose among the likeliest words that together have this probability."),
      h("div", { className: "field-row" }, this.#number("maxTokens", "Longest answer", "tokens", "400"), this.#number("seed", "Seed", "equal seeds repeat answers", "random")),
      h("div", { className: "field" }, h("label", { htmlFor: "setting-system" }, "System message"), system),
      h("h3", {}, "Loading"),
      h("div", { className: "field-row" }, this.#select("dtype", "Weights", "fewer bits, less memory", DTYPES), this.#select("cacheDtype", "Cache", "fewer bits, longer chats", CACHE_DTYPES)),
      this.#number("context", "Context", "tokens that fit", "the model's"),
      h("label", { className: "check" }, keep, "Keep models on this device"),
      h(
        "div",
        { className: "row is-end" },
        h("button", { type: "button", className: "button", onclick: () => this.#reset() }, "Reset"),
        h("button", { type: "button", className: "button is-primary", onclick: () => (this.element.close(), this.reload()) }, "Reload the model"),
      ),
    );
  }

  #reset(): void {
    Object.assign(this.settings, DEFAULTS);
    write("settings", this.settings);
    this.#draw();
  }
}
