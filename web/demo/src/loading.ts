// What is shown while a model loads: stage, bytes, speed, and when it will be there.

import { h, icon } from "./dom.ts";
import { bytes, duration } from "./format.ts";

const STAGES = [
  ["config", "Read its description"],
  ["weights", "Fetch weights"],
  ["verify", "Check them"],
  ["ready", "Ready"],
] as const;
/** Stages that are no steps of their own: pipelines compile and files are kept while weights arrive. */
const PART_OF: Record<string, string> = { compile: "config", keep: "verify" };
const SAYS: Record<string, string> = {
  config: "Reading the model's description",
  compile: "Compiling for your GPU",
  weights: "Fetching weights",
  verify: "Checking what arrived",
  keep: "Keeping it for the next visit",
  ready: "Ready",
};

export class LoadingCard {
  readonly element: HTMLElement;
  #bar = h("div", { className: "bar-fill" });
  #track: HTMLElement;
  #stage = h("p", { className: "loading-stage", "aria-live": "polite" }, "Starting");
  #amount = h("span", {}, "");
  #speed = h("span", {}, "");
  #left = h("span", {}, "");
  #steps = new Map<string, HTMLElement>();
  #samples: [number, number][] = [];

  constructor(name: string, cancel: () => void) {
    this.#track = h("div", { className: "bar is-waiting", role: "progressbar", "aria-label": `Loading ${name}`, "aria-valuemin": "0", "aria-valuemax": "100" }, this.#bar);
    const steps = h("ol", { className: "steps" });
    for (const [stage, label] of STAGES) {
      const step = h("li", {}, h("span", { className: "step-dot" }, icon("check")), label);
      this.#steps.set(stage, step);
      steps.append(step);
    }
    this.element = h(
      "section",
      { className: "loading", "aria-label": "Loading" },
      h("h2", {}, name),
      this.#stage,
      this.#track,
      h("div", { className: "loading-numbers" }, this.#amount, this.#speed, this.#left),
      steps,
      h("button", { type: "button", className: "button", onclick: cancel }, "Cancel"),
    );
  }

  stage(stage: string): void {
    this.#stage.textContent = SAYS[stage] ?? stage;
    const at = STAGES.findIndex(([name]) => name === (PART_OF[stage] ?? stage));
    STAGES.forEach(([name], index) => {
      const step = this.#steps.get(name)!;
      step.classList.toggle("is-done", index < at || stage === "ready");
      step.classList.toggle("is-now", index === at && stage !== "ready");
    });
  }

  /** Bytes of all weights. */
  progress(loaded: number, total: number): void {
    if (total <= 0) return;
    const percent = Math.min(100, (loaded / total) * 100);
    this.#track.classList.remove("is-waiting");
    this.#track.setAttribute("aria-valuenow", String(Math.round(percent)));
    this.#bar.style.width = `${percent}%`;
    this.#amount.textContent = `${bytes(loaded)} of ${bytes(total)}`;
    const now = performance.now();
    this.#samples.push([now, loaded]);
    while (this.#samples.length > 2 && now - this.#samples[0]![0] > 5000) this.#samples.shift();
    const [time, before] = this.#samples[0]!;
    const speed = now - time > 200 ? ((loaded - before) * 1000) / (now - time) : 0;
    if (speed > 0) {
      this.#speed.textContent = `${bytes(speed)}/s`;
      this.#left.textContent = loaded < total ? `${duration(((total - loaded) / speed) * 1000)} left` : "";
    }
  }
}
