// What is to be measured: chips and numbers, filled in for this adapter, by the two buttons above them, and by the page's address.

import { h } from "../dom.ts";
import { BUILT_IN, DTYPES, NAMES, tasks, usual, type Dtype, type Matrix } from "./matrix.ts";
import { SHAPES } from "./shapes.ts";

const NUMBERS = [
  ["prompts", "Prompt", "tokens"],
  ["cache", "In the cache before", "tokens"],
  ["batch", "At once", "sequences"],
  ["newTokens", "Then generate", "tokens each"],
  ["runs", "Runs", "and one to warm up"],
] as const;
type NumberName = (typeof NUMBERS)[number][0];

/** Names of the address, as those of the flags of `native-runner bench matrix`. */
const PARAMETERS: Record<string, keyof Matrix> = { shapes: "shapes", dtypes: "dtypes", prompts: "prompts", cache: "cache", batch: "batch", "new-tokens": "newTokens", runs: "runs" };

const list = (text: string) => text.split(/[\s,]+/).filter((word) => word !== "");

export class Form {
  readonly element: HTMLElement;
  #shapes: Map<string, HTMLInputElement>;
  #dtypes: Map<string, HTMLInputElement>;
  #numbers = new Map<NumberName, HTMLInputElement>();
  #count = h("p", { className: "bench-count", role: "status" });
  #presets = new Map<boolean, HTMLButtonElement>();
  #start = h("button", { type: "submit", className: "button is-primary" }, "Start");
  #fields = h("fieldset", { className: "bench-fields" });
  #isCpu = false;

  /** `query`: of the page's address. */
  constructor(
    readonly query: URLSearchParams,
    onStart: (matrix: Matrix) => void,
  ) {
    const asked = list(query.get("shapes") ?? "");
    const hidden = SHAPES.filter(({ name }) => !NAMES.includes(name) && asked.includes(name));
    this.#shapes = chips([...hidden.map(({ name }) => name), ...NAMES], { [BUILT_IN]: "the built-in model" });
    this.#dtypes = chips(DTYPES);
    for (const [quick, label] of [[true, "Quick"], [false, "Everything usual"]] as const) {
      this.#presets.set(quick, h("button", { type: "button", className: "button is-small", onclick: () => this.#fill(usual(this.#isCpu, quick)) }, label));
    }
    const numbers = NUMBERS.map(([name, label, unit]) => {
      const isList = name === "prompts" || name === "cache" || name === "batch";
      const input = h("input", { type: "text", inputMode: isList ? "text" : "numeric", autocomplete: "off", spellcheck: false, size: isList ? 10 : 5 });
      input.name = name;
      this.#numbers.set(name, input);
      return h("label", { className: "bench-number" }, h("span", {}, label), input, h("span", { className: "field-note" }, unit));
    });
    this.#fields.append(
      h("div", { className: "row" }, ...this.#presets.values()),
      group("Models: by their number of weights", this.#shapes),
      group("Weights stored as", this.#dtypes),
      h("div", { className: "bench-numbers" }, ...numbers),
    );
    this.element = h(
      "form",
      { className: "card bench-form", "aria-label": "What to measure", oninput: () => this.#tell() },
      this.#fields,
      h("div", { className: "bench-begin" }, this.#start, this.#count),
    );
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      const matrix = this.#tell();
      if (matrix) onStart(matrix);
    });
  }

  /** Fills in what is usual on this kind of adapter, and what the address says. */
  adapt(isCpu: boolean): void {
    this.#isCpu = isCpu;
    const matrix = usual(isCpu, this.query.has("quick") || ![...this.query.keys()].some((key) => key in PARAMETERS));
    for (const [parameter, field] of Object.entries(PARAMETERS)) {
      const given = this.query.get(parameter);
      if (given === null) continue;
      const words = list(given);
      const value = field === "shapes" || field === "dtypes" ? words : field === "newTokens" || field === "runs" ? Number(words[0]) : words.map(Number);
      Object.assign(matrix, { [field]: value });
    }
    this.#fill(matrix);
  }

  /** As if the button were pressed. */
  start(): void {
    (this.element as HTMLFormElement).requestSubmit();
  }

  busy(isBusy: boolean): void {
    this.#fields.disabled = isBusy;
    this.#start.hidden = isBusy;
    this.#count.hidden = isBusy;
  }

  #fill(matrix: Matrix): void {
    for (const [name, box] of this.#shapes) box.checked = matrix.shapes.some((shape) => shape.toLowerCase() === name.toLowerCase());
    for (const [name, box] of this.#dtypes) box.checked = matrix.dtypes.includes(name as Dtype);
    for (const [name, input] of this.#numbers) input.value = [matrix[name]].flat().join(", ");
    this.#tell();
  }

  /** What is asked for, if that can be measured; tells how much that is, or what is wrong. */
  #tell(): Matrix | null {
    const chosen = (boxes: Map<string, HTMLInputElement>) => [...boxes].filter(([, box]) => box.checked).map(([name]) => name);
    const numbers = (name: NumberName) => list(this.#numbers.get(name)!.value).map(Number);
    const one = (name: NumberName) => numbers(name)[0] ?? Number.NaN;
    const matrix: Matrix = {
      shapes: chosen(this.#shapes),
      dtypes: chosen(this.#dtypes) as Dtype[],
      prompts: numbers("prompts"),
      cache: numbers("cache"),
      batch: numbers("batch"),
      newTokens: one("newTokens"),
      runs: one("runs"),
    };
    let problem = "";
    let count = 0;
    try {
      count = tasks(matrix).length;
      if (count === 0) problem = "Choose a model, a way to store weights, and a number of each.";
    } catch (error) {
      problem = (error as Error).message;
    }
    const large = matrix.shapes.includes("7B") ? " 7B needs 13.5 GB of the browser's storage." : this.#isCpu && matrix.shapes.some((name) => ["0.5B", "1B"].includes(name)) ? " Without a GPU, the large ones take very long." : "";
    this.#count.textContent = problem || `${count} ${count === 1 ? "cell" : "cells"}.${large}`;
    this.#count.classList.toggle("is-wrong", problem !== "");
    this.#start.disabled = problem !== "";
    return problem === "" ? matrix : null;
  }
}

function chips(names: readonly string[], notes: Record<string, string> = {}): Map<string, HTMLInputElement> {
  return new Map(names.map((name) => [name, h("input", { type: "checkbox", value: name, title: notes[name] })]));
}

function group(legend: string, boxes: Map<string, HTMLInputElement>): HTMLElement {
  const all = [...boxes].map(([name, box]) => h("label", { className: "chip" }, box, box.title ? `${name}, ${box.title}` : name));
  return h("fieldset", { className: "bench-group" }, h("legend", {}, legend), h("div", { className: "chips" }, ...all));
}
