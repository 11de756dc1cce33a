// The dialog that chooses a model: suggestions, any name on the Hub or address, or a folder. What is chosen is looked at first:
// whether it runs here, how much comes over the network, how much memory it takes.

import { h, icon, iconButton } from "./dom.ts";
import { bytes } from "./format.ts";
import { SUGGESTIONS } from "./models.ts";
import { describe } from "./problem.ts";

/** A model to load, and what it is called. */
export interface Choice {
  model: string | File[] | FileSystemEntry[];
  name: string;
  revision?: string;
  token?: string;
  host?: string;
  builtIn?: boolean;
}

/** What is known of a model before its weights are fetched. Bytes. */
export interface Verdict {
  ok: boolean;
  reason?: string | undefined;
  dtype?: string | undefined;
  weights_bytes?: number | undefined;
  cache_bytes?: number | undefined;
  download_bytes?: number | undefined;
  context?: number | undefined;
  suggestions: { dtype: Dtype; context: number; weights_bytes: number }[];
}

type Dtype = "q4" | "q4a" | "nf4" | "q8" | "f16" | "f32";

export interface PickerEvents {
  check(choice: Choice, signal: AbortSignal): Promise<Verdict>;
  /** Another way to store weights, for this load and those after it. */
  choose(dtype: Dtype, context: number): void;
  load(choice: Choice): void;
  builtIn(): Choice;
}

/** What to call a model: of an address, its path. */
export const shortName = (model: string) => model.replace(/^https?:\/\/[^/]+\//, "").replace(/\/$/, "") || model;

export class Picker {
  readonly element: HTMLDialogElement;
  #events: PickerEvents;
  #input: HTMLInputElement;
  #token: HTMLInputElement;
  #revision: HTMLInputElement;
  #host: HTMLInputElement;
  #verdict = h("div", { className: "verdict-place", "aria-live": "polite" });
  #folder: HTMLInputElement;
  #looking: AbortController | null = null;

  constructor(events: PickerEvents, host: string) {
    this.#events = events;
    this.#input = h("input", { id: "model", type: "text", placeholder: "org/name, or the address of a folder or a .gguf", spellcheck: false, autocomplete: "off", autocapitalize: "off" });
    this.#token = h("input", { id: "token", type: "password", autocomplete: "off", placeholder: "hf_…" });
    this.#revision = h("input", { id: "revision", type: "text", placeholder: "main", spellcheck: false, autocomplete: "off" });
    this.#host = h("input", { id: "host", type: "url", placeholder: "https://huggingface.co", spellcheck: false, autocomplete: "off" });
    this.#host.value = host;
    this.#folder = h("input", { type: "file", multiple: true, className: "sr-only", tabIndex: -1, "aria-label": "Model folder", id: "folder" });
    this.#folder.setAttribute("webkitdirectory", "");
    this.#folder.addEventListener("change", () => {
      const files = [...(this.#folder.files ?? [])];
      if (files.length > 0) this.files(files);
      this.#folder.value = "";
    });
    const form = h(
      "form",
      {
        className: "picker-form",
        onsubmit: (event: Event) => {
          event.preventDefault();
          const text = this.#input.value.trim();
          if (text) void this.look(this.#choice(text));
        },
      },
      h("label", { htmlFor: "model" }, "Any model of the Hugging Face Hub, or an address"),
      h("div", { className: "row is-tight" }, this.#input, h("button", { type: "submit", className: "button is-primary" }, "Look")),
      h(
        "details",
        { className: "more", open: host !== "" },
        h("summary", {}, "Access token, revision, server"),
        h("div", { className: "field" }, h("label", { htmlFor: "token" }, "Access token"), this.#token, h("p", { className: "field-note" }, "For private and gated models. It is sent to the server below and kept nowhere.")),
        h("div", { className: "field-row" }, h("div", { className: "field" }, h("label", { htmlFor: "revision" }, "Revision"), this.#revision), h("div", { className: "field" }, h("label", { htmlFor: "host" }, "Server"), this.#host)),
      ),
    );
    const suggestions = h(
      "ul",
      { className: "suggestions", "aria-label": "Suggested models" },
      h("li", {}, this.#suggestion("Stories", "Built in", "tells little stories", () => this.#load(this.#events.builtIn()))),
      ...SUGGESTIONS.map((model) =>
        h("li", {}, this.#suggestion(model.title, bytes(model.size), model.note, () => {
          this.#input.value = model.id;
          void this.look(this.#choice(model.id));
        })),
      ),
    );
    this.element = h(
      "dialog",
      { className: "dialog is-wide", "aria-label": "Choose a model" },
      h("div", { className: "dialog-head" }, h("h2", {}, "Choose a model"), iconButton("close", "Close", () => this.element.close())),
      h(
        "div",
        { className: "dialog-body" },
        suggestions,
        form,
        this.#verdict,
        h("div", { className: "drop-hint" }, icon("folder"), h("p", {}, h("strong", {}, "Have the files already?"), " Drop a model's folder on this page, or"), h("button", { type: "button", className: "button is-small", onclick: () => this.#folder.click() }, "choose a folder"), this.#folder),
      ),
    );
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
    this.element.addEventListener("close", () => this.#looking?.abort());
  }

  open(focusToken = false): void {
    this.#verdict.replaceChildren();
    if (!this.element.open) this.element.showModal();
    if (focusToken) {
      this.element.querySelector("details")!.open = true;
      this.#token.focus();
    } else this.#input.focus();
  }

  /** Files of a folder that was chosen or dropped. */
  files(files: File[]): void {
    const first = files[0]?.webkitRelativePath.split("/")[0];
    const choice = { model: files, name: first || "Local model" };
    if (!this.element.open) this.element.showModal();
    void this.look(choice);
  }

  /** What was dropped on the page. */
  entries(entries: FileSystemEntry[]): void {
    if (!this.element.open) this.element.showModal();
    void this.look({ model: entries, name: entries.length === 1 ? entries[0]!.name : "Local model" });
  }

  /** Looks at a model, and shows what came of it. */
  async look(choice: Choice): Promise<void> {
    this.#looking?.abort();
    const looking = (this.#looking = new AbortController());
    this.#verdict.replaceChildren(h("p", { className: "looking" }, h("span", { className: "spinner" }), `Looking at ${choice.name} …`));
    let card: HTMLElement;
    try {
      card = this.#card(choice, await this.#events.check(choice, looking.signal));
    } catch (error) {
      if (looking.signal.aborted) return;
      const { name, text, detail } = describe(error);
      card = h("div", { className: "verdict is-no", "data-error": name }, h("p", { className: "verdict-head" }, icon("warn"), text), h("details", {}, h("summary", {}, "Details"), h("pre", {}, detail)));
      if (name === "AccessDeniedError") this.element.querySelector("details")!.open = true;
    }
    if (looking.signal.aborted) return;
    this.#verdict.replaceChildren(card);
    card.scrollIntoView({ block: "nearest" });
  }

  #choice(text: string): Choice {
    const choice: Choice = { model: text, name: shortName(text) };
    if (this.#revision.value.trim()) choice.revision = this.#revision.value.trim();
    if (this.#token.value.trim()) choice.token = this.#token.value.trim();
    if (this.#host.value.trim()) choice.host = this.#host.value.trim();
    return choice;
  }

  #load(choice: Choice): void {
    this.element.close();
    this.#events.load(choice);
  }

  #suggestion(title: string, size: string, note: string, onclick: () => void): HTMLButtonElement {
    return h("button", { type: "button", className: "suggestion", onclick }, h("span", { className: "suggestion-title" }, title), h("span", { className: "suggestion-size" }, size), h("span", { className: "suggestion-note" }, note));
  }

  #card(choice: Choice, verdict: Verdict): HTMLElement {
    const facts: [string, string][] = [];
    if (verdict.download_bytes !== undefined) facts.push([typeof choice.model === "string" ? "To fetch" : "To read", verdict.download_bytes === 0 ? "nothing" : bytes(verdict.download_bytes)]);
    if (verdict.weights_bytes !== undefined) facts.push([`Weights${verdict.dtype ? ` as ${verdict.dtype}` : ""}`, bytes(verdict.weights_bytes)]);
    if (verdict.cache_bytes !== undefined) facts.push(["Cache", bytes(verdict.cache_bytes)]);
    if (verdict.context !== undefined) facts.push(["Context", `${verdict.context.toLocaleString("en")} tokens`]);
    return h(
      "div",
      { className: `verdict ${verdict.ok ? "is-yes" : "is-no"}` },
      h("p", { className: "verdict-head" }, icon(verdict.ok ? "check" : "warn"), verdict.ok ? `${choice.name} runs here` : `${choice.name} does not run here`),
      !verdict.ok && verdict.reason ? h("p", {}, verdict.reason) : null,
      facts.length > 0 ? h("dl", { className: "facts" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : null,
      !verdict.ok && verdict.suggestions.length > 0
        ? h(
            "div",
            { className: "row" },
            "It would fit: ",
            ...verdict.suggestions.map(({ dtype, context, weights_bytes }) =>
              h("button", { type: "button", className: "button is-small", onclick: () => (this.#events.choose(dtype, context), this.#load(choice)) }, `${dtype}, ${context.toLocaleString("en")} tokens (${bytes(weights_bytes)})`),
            ),
          )
        : null,
      verdict.ok ? h("button", { type: "button", className: "button is-primary is-load", onclick: () => this.#load(choice) }, "Load it") : null,
    );
  }
}
