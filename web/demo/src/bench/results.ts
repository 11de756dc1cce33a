// What was measured: the adapter's own rates, a row for each cell, and the lines of JSON to take along.

import { h, icon } from "../dom.ts";
import { bytes, duration, rate } from "../format.ts";
import { median, type Cell, type FirstToken, type Rates } from "./measure.ts";

const HEAD = ["Model", "Weights", "Prompt", "Cache", "Batch", "Prefill", "Decode", "of arithmetic", "of bandwidth", "Memory"];
const percent = (share: number | null) => (share === null ? "–" : `${(share * 100).toFixed(1)} %`);
const range = (runs: number[]) => (runs.length === 0 ? "" : `${rate(Math.min(...runs))} to ${rate(Math.max(...runs))}`);

/** A card of figures with names. */
export class Figures {
  readonly element: HTMLElement;
  #list = h("dl", { className: "facts" });
  #note: HTMLElement;

  constructor(title: string, note: string) {
    this.#note = h("p", { className: "card-note" }, note);
    this.element = h("section", { className: "card", "aria-label": title, hidden: true }, h("div", { className: "card-head" }, h("h2", {}, title)), this.#list, this.#note);
  }

  /** The adapter's rates; `null`: there was no memory to measure them. */
  rates(rates: Rates | null): void {
    this.#show(
      rates === null
        ? [["Not measured", "no memory was left"]]
        : [
            ["Copies", `${rate(rates.copy_gb_per_s)} GB/s`],
            ["f32", `${rate(rates.fma_gflops)} GFLOP/s`],
            ["f16", rates.f16_gflops === null ? "not here" : `${rate(rates.f16_gflops)} GFLOP/s`],
            ["8-bit integers", rates.int8_gops === null ? "not here" : `${rate(rates.int8_gops)} Gop/s`],
            ["A dispatch", `${rate(rates.dispatch_us)} µs`],
            ["A submit", `${rate(rates.submit_us)} µs`],
            ["A readback", `${rate(rates.readback_us / 1000)} ms`],
          ],
    );
  }

  firstToken({ cold_ms, warm_ms }: FirstToken): void {
    this.#show([
      ["First visit", duration(median(cold_ms))],
      ["Next visit", duration(median(warm_ms))],
    ]);
  }

  #show(figures: [string, string][]): void {
    this.#list.replaceChildren(...figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    this.element.hidden = false;
  }
}

export class Results {
  readonly element: HTMLElement;
  readonly cells: Cell[] = [];
  #rows = h("tbody");
  #left = h("ul", { className: "bench-left" });
  #lines = h("pre", { id: "lines", tabIndex: 0 });
  #copy = h("button", { type: "button", className: "button is-small", onclick: () => void this.#toClipboard() }, icon("copy"), "Copy");

  constructor() {
    const head = HEAD.map((name, index) => h("th", { scope: "col", className: index > 1 ? "is-number" : "" }, name));
    this.element = h(
      "section",
      { className: "card bench-results", "aria-label": "Results", hidden: true },
      h(
        "div",
        { className: "card-head" },
        h("h2", {}, "Results"),
        h("div", { className: "row is-tight" }, this.#copy, h("button", { type: "button", className: "button is-small bench-download", onclick: () => this.#download() }, "Download")),
      ),
      h("p", { className: "card-note" }, "Tokens per second of all sequences together, medians with the slowest and the fastest run, and which share that is of what the adapter did above."),
      h("div", { className: "bench-scroll", role: "region", "aria-label": "Table of results", tabIndex: 0 }, h("table", {}, h("thead", {}, h("tr", {}, ...head)), this.#rows)),
      this.#left,
      h("details", { className: "bench-lines" }, h("summary", {}, "Lines of JSON"), h("p", { className: "field-note" }, "A line for each cell, with every run: as native-runner bench matrix writes them, and bench compare and DuckDB read them."), this.#lines),
    );
  }

  clear(): void {
    this.cells.length = 0;
    this.#rows.replaceChildren();
    this.#left.replaceChildren();
    this.#lines.textContent = "";
    this.element.hidden = true;
  }

  add(cell: Cell): void {
    this.cells.push(cell);
    const number = (text: string, note = "") => h("td", { className: "is-number" }, text, note && h("small", {}, note));
    this.#rows.append(
      h(
        "tr",
        {},
        h("th", { scope: "row" }, cell.shape),
        h("td", {}, cell.dtype),
        ...[cell.prompt_tokens, cell.cache_tokens, cell.batch].map((value) => number(String(value))),
        number(rate(median(cell.prefill_tps)), range(cell.prefill_tps)),
        cell.decode_tps ? number(rate(median(cell.decode_tps)), range(cell.decode_tps)) : number("–"),
        number(percent(cell.prefill_share)),
        number(percent(cell.decode_share)),
        number(bytes(cell.memory.peak)),
      ),
    );
    this.#lines.textContent = this.text();
    this.element.hidden = false;
  }

  leftOut(task: string, why: string): void {
    this.#left.append(h("li", {}, icon("warn"), h("span", {}, `${task} was left out: ${why}`)));
    this.element.hidden = false;
  }

  /** A line for each cell. */
  text(): string {
    return this.cells.map((cell) => `${JSON.stringify(cell)}\n`).join("");
  }

  #download(): void {
    const address = URL.createObjectURL(new Blob([this.text()], { type: "application/jsonl" }));
    const browser = this.cells[0]?.browser.name.toLowerCase().replace(/\W+/g, "-") ?? "";
    const link = h("a", { href: address, download: `webweft-${browser}-${(this.cells[0]?.date ?? "").slice(0, 10)}.jsonl` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  async #toClipboard(): Promise<void> {
    const say = (text: string) => this.#copy.lastChild?.replaceWith(text);
    try {
      await navigator.clipboard.writeText(this.text());
      say("Copied");
    } catch {
      say("Not allowed here");
    }
    setTimeout(() => say("Copy"), 2000);
  }
}
