// GPU memory by what it is for, since the model's device was opened: a stacked area chart, and the numbers beside it.

import type { MemoryReport } from "webweft";
import { h, svg } from "./dom.ts";
import { bytes, duration } from "./format.ts";

export const CATEGORIES = ["weights", "cache", "activations", "staging"] as const;
export type Category = (typeof CATEGORIES)[number];
const LABEL: Record<Category, string> = { weights: "Weights", cache: "Cache", activations: "Working", staging: "Transfer" };

const WIDTH = 320;
const HEIGHT = 120;
/** What is above the highest peak. */
const HEADROOM = 1.2;

export class MemoryChart {
  readonly element: HTMLElement;
  #areas: Record<string, SVGPathElement> = {};
  #values: Record<string, HTMLElement> = {};
  #peaks: Record<string, HTMLElement> = {};
  #peakLine = svg("line", { class: "chart-peak", x1: 0, x2: WIDTH });
  #peakText = svg("text", { class: "chart-text", x: WIDTH - 4, "text-anchor": "end" });
  #total = h("strong", { className: "figure" });
  #since = h("span", {});
  #wasm = h("span", {});
  #chart: SVGSVGElement;

  constructor() {
    for (const name of CATEGORIES) this.#areas[name] = svg("path", { class: `chart-area is-${name}` });
    this.#chart = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img" },
      ...[0.25, 0.5, 0.75].map((part) => svg("line", { class: "chart-grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
      ...[...CATEGORIES].map((name) => this.#areas[name]),
      this.#peakLine,
      this.#peakText,
    );
    const rows = CATEGORIES.map((name) => {
      const value = (this.#values[name] = h("td", {}));
      const peak = (this.#peaks[name] = h("td", {}));
      return h("tr", {}, h("th", { scope: "row" }, h("span", { className: `swatch is-${name}` }), LABEL[name]), value, peak);
    });
    const head = h("tr", {}, h("td", {}), h("th", { scope: "col" }, "now"), h("th", { scope: "col" }, "peak"));
    this.element = h(
      "section",
      { className: "card", "aria-label": "Memory" },
      h("div", { className: "card-head" }, h("h2", {}, "GPU memory"), this.#total),
      this.#chart,
      h("div", { className: "chart-times" }, this.#since, h("span", {}, "now")),
      h("table", { className: "legend" }, h("thead", {}, head), h("tbody", {}, ...rows)),
      h("p", { className: "card-note" }, "WebAssembly on the host: ", this.#wasm),
    );
    this.show(null);
  }

  /** Draws what a model's device holds; nothing without one. */
  show(report: MemoryReport | null): void {
    const [total, peak] = [report?.total ?? 0, report?.peak ?? 0];
    this.#total.textContent = bytes(total);
    this.#wasm.textContent = bytes(report?.wasm ?? 0);
    this.#since.textContent = report ? `${duration(report.ms)} ago` : "";
    this.#chart.setAttribute("aria-label", `GPU memory over time: now ${bytes(total)}, at most ${bytes(peak)}`);
    const most = Math.max(1, peak) * HEADROOM;
    const y = (value: number) => (HEIGHT - (value / most) * HEIGHT).toFixed(1);
    const x = (ms: number) => ((ms / (report?.ms || 1)) * WIDTH).toFixed(1);
    const timeline = report?.timeline ?? [];
    const below = timeline.map(() => 0);
    for (const name of CATEGORIES) {
      this.#values[name]!.textContent = bytes(report?.categories[name] ?? 0);
      this.#peaks[name]!.textContent = bytes(report?.peak_categories[name] ?? 0);
      // a sample lasts until the next one
      const steps = (values: number[]) => {
        const ends = timeline.map((_, index) => timeline[index + 1]?.ms ?? report!.ms);
        return values.flatMap((value, index) => [`${x(timeline[index]!.ms)} ${y(value)}`, `${x(ends[index]!)} ${y(value)}`]);
      };
      const bottom = steps(below).reverse();
      timeline.forEach((sample, index) => (below[index]! += sample[name]));
      this.#areas[name]!.setAttribute("d", timeline.length > 0 ? `M${steps(below).join("L")}L${bottom.join("L")}Z` : "");
    }
    for (const end of ["y1", "y2"]) this.#peakLine.setAttribute(end, y(peak));
    this.#peakLine.setAttribute("visibility", peak > 0 ? "visible" : "hidden");
    this.#peakText.setAttribute("y", String(Number(y(peak)) - 4));
    this.#peakText.textContent = peak > 0 ? `peak ${bytes(peak)}` : "";
  }
}
