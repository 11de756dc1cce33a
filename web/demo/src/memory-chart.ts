// GPU memory by what it is for, over the last minutes: a stacked area chart, and the numbers beside it.

import { h, svg } from "./dom.ts";
import { bytes } from "./format.ts";

export const CATEGORIES = ["weights", "cache", "activations", "staging"] as const;
export type Category = (typeof CATEGORIES)[number];
const LABEL: Record<Category, string> = { weights: "Weights", cache: "Cache", activations: "Working", staging: "Transfer" };

export interface MemorySample {
  total: number;
  peak: number;
  categories: Record<Category, number>;
  /** Of the WebAssembly module, on the host. */
  wasm: number;
}

const WIDTH = 320;
const HEIGHT = 120;
/** Samples that are shown; older ones leave on the left. */
const KEPT = 160;

export class MemoryChart {
  readonly element: HTMLElement;
  #samples: MemorySample[] = [];
  #areas: Record<string, SVGPathElement> = {};
  #values: Record<string, HTMLElement> = {};
  #shares: Record<string, HTMLElement> = {};
  #peakLine = svg("line", { class: "chart-peak", x1: 0, x2: WIDTH });
  #peakText = svg("text", { class: "chart-text", x: WIDTH - 4, "text-anchor": "end" });
  #total = h("strong", { className: "figure" }, "0 B");
  #wasm = h("span", {}, "0 B");
  #chart: SVGSVGElement;

  constructor() {
    for (const name of CATEGORIES) this.#areas[name] = svg("path", { class: `chart-area is-${name}` });
    this.#chart = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": "GPU memory over time" },
      ...[0.25, 0.5, 0.75].map((part) => svg("line", { class: "chart-grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
      ...[...CATEGORIES].map((name) => this.#areas[name]),
      this.#peakLine,
      this.#peakText,
    );
    const legend = h("dl", { className: "legend" });
    for (const name of CATEGORIES) {
      this.#values[name] = h("span", { className: "legend-value" }, "0 B");
      this.#shares[name] = h("span", { className: `swatch is-${name}` });
      legend.append(h("div", {}, h("dt", {}, this.#shares[name], LABEL[name]), h("dd", {}, this.#values[name])));
    }
    this.element = h(
      "section",
      { className: "card", "aria-label": "Memory" },
      h("div", { className: "card-head" }, h("h2", {}, "GPU memory"), this.#total),
      this.#chart,
      legend,
      h("p", { className: "card-note" }, "WebAssembly on the host: ", this.#wasm),
    );
  }

  push(sample: MemorySample): void {
    this.#samples.push(sample);
    if (this.#samples.length > KEPT) this.#samples.shift();
    this.#draw();
  }

  clear(): void {
    this.#samples = [];
    this.#draw();
  }

  #draw(): void {
    const samples = this.#samples;
    const last = samples.at(-1);
    this.#total.textContent = bytes(last?.total ?? 0);
    this.#wasm.textContent = bytes(last?.wasm ?? 0);
    const peak = last?.peak ?? 0;
    this.#chart.setAttribute("aria-label", `GPU memory over time: now ${bytes(last?.total ?? 0)}, at most ${bytes(peak)}`);
    // Loading may have taken many times what is in use now; the chart follows what it shows, and names the peak.
    const most = Math.max(1, ...samples.map((sample) => sample.total)) * 1.35;
    const above = peak > most * 0.97;
    const y = (value: number) => HEIGHT - (value / most) * HEIGHT;
    const step = WIDTH / (KEPT - 1);
    const x = (index: number) => WIDTH - (samples.length - 1 - index) * step;
    const below = samples.map(() => 0);
    for (const name of CATEGORIES) {
      this.#values[name]!.textContent = bytes(last?.categories[name] ?? 0);
      const floor = [...below];
      samples.forEach((sample, index) => (below[index]! += sample.categories[name]));
      if (samples.length === 0) {
        this.#areas[name]!.setAttribute("d", "");
        continue;
      }
      const top = below.map((value, index) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`);
      const bottom = floor.map((value, index) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`).reverse();
      this.#areas[name]!.setAttribute("d", `M${top.join("L")}L${bottom.join("L")}Z`);
    }
    const line = above ? 0 : y(peak);
    this.#peakLine.setAttribute("y1", line.toFixed(1));
    this.#peakLine.setAttribute("y2", line.toFixed(1));
    this.#peakLine.setAttribute("visibility", above || peak === 0 ? "hidden" : "visible");
    this.#peakText.setAttribute("y", String(above ? 14 : Math.max(12, line - 4)));
    this.#peakText.textContent = peak > 0 ? `${above ? "↑ " : ""}peak ${bytes(peak)}` : "";
  }
}
