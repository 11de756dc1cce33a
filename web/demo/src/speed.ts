// Tokens per second: live while an answer comes, exact when it is there.

import { h, svg } from "./dom.ts";
import { duration, rate } from "./format.ts";

const WIDTH = 320;
const HEIGHT = 44;
const BARS = 64;

export class SpeedCard {
  readonly element: HTMLElement;
  #figure = h("strong", { className: "figure figure-large" }, "–");
  #bars = svg("g", { class: "spark" });
  #first = h("span", {}, "–");
  #tokens = h("span", {}, "–");
  #times: number[] = [];
  #history: number[] = [];
  #begin = 0;
  #count = 0;

  constructor() {
    this.element = h(
      "section",
      { className: "card", "aria-label": "Speed" },
      h("div", { className: "card-head" }, h("h2", {}, "Speed"), h("span", {}, this.#figure, h("span", { className: "unit" }, " tokens/s"))),
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart chart-spark", "aria-hidden": "true", preserveAspectRatio: "none" }, this.#bars),
      h("dl", { className: "pairs" }, h("div", {}, h("dt", {}, "First token after"), h("dd", {}, this.#first)), h("div", {}, h("dt", {}, "Tokens"), h("dd", {}, this.#tokens))),
    );
  }

  /** An answer was asked for. */
  start(): void {
    this.#begin = performance.now();
    this.#times = [];
    this.#history = [];
    this.#count = 0;
    this.#figure.textContent = "…";
    this.#first.textContent = "…";
    this.#tokens.textContent = "0";
    this.#bars.replaceChildren();
  }

  /** A token came; gives tokens per second over the last two seconds. */
  token(): number {
    const now = performance.now();
    if (this.#count === 0) this.#first.textContent = duration(now - this.#begin);
    this.#count += 1;
    this.#times.push(now);
    while (this.#times.length > 2 && now - this.#times[0]! > 2000) this.#times.shift();
    const span = now - this.#times[0]!;
    const speed = span > 0 ? ((this.#times.length - 1) * 1000) / span : 0;
    this.#tokens.textContent = String(this.#count);
    if (speed > 0) {
      this.#figure.textContent = rate(speed);
      this.#history.push(speed);
      this.#draw();
    }
    return speed;
  }

  /** The answer is there: the exact number over all of it, where it is known. */
  end(tokens?: number, ms?: number): number {
    const count = tokens ?? this.#count;
    const time = ms ?? (this.#times.at(-1) ?? this.#begin) - this.#begin;
    const speed = time > 0 ? (count * 1000) / time : 0;
    this.#figure.textContent = speed > 0 ? rate(speed) : "–";
    this.#tokens.textContent = String(count);
    if (this.#first.textContent === "…") this.#first.textContent = "–";
    return speed;
  }

  #draw(): void {
    const shown = this.#history.slice(-BARS);
    const most = Math.max(...shown) * 1.05;
    const width = WIDTH / BARS;
    this.#bars.replaceChildren(
      ...shown.map((value, index) => {
        const height = Math.max(1, (value / most) * HEIGHT);
        return svg("rect", { x: index * width, y: HEIGHT - height, width: width - 1.5, height, rx: 1 });
      }),
    );
  }
}
