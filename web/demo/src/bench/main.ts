// The benchmark page: what to measure, how far it is, what came of it.
//
// The address fills the form in with the names of `native-runner bench matrix`: `?shapes=26M&dtypes=q4&prompts=32&cache=0&batch=1`,
// `new-tokens`, `runs`, `quick`; with `&start` it begins at once. `data-state` of the body tells ready, busy, done, cancelled or failed.

import { cache, canRun } from "webweft";
import { h, logo } from "../dom.ts";
import { builtInUrl } from "../models.ts";
import { problem } from "../problem.ts";
import { themeSwitch } from "../theme.ts";
import { Form } from "./form.ts";
import { BUILT_IN, shapeOf, type Matrix } from "./matrix.ts";
import { adapterName, browser, measure, type Adapter, type FirstToken } from "./measure.ts";
import { Figures, Results } from "./results.ts";
import { checkpoint } from "./shapes.ts";

/** How long a page has for its first token, in ms. */
const PATIENCE = 120_000;

const query = new URLSearchParams(location.search);
const form = new Form(query, (matrix) => void run(matrix));
const results = new Results();
const roofline = new Figures("What this adapter can do", "Through WebGPU, measured in the same run: copies between buffers, chains of multiply-adds, and what each dispatch, submit and readback costs.");
const first = new Figures("From the page's load to the first token", "Of the built-in model. Before the first visit, what this page kept of the model is deleted; files that the browser itself caches may still be there.");
const device = h("p", { className: "bench-device" }, "Looking at this device …");
const stage = h("p", { className: "bench-stage", role: "status" });
const fill = h("div", { className: "bar-fill" });
const bar = h("div", { className: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
const cancel = h("button", { type: "button", className: "button bench-cancel", onclick: () => running?.abort() }, "Cancel");
const progress = h("section", { className: "card bench-progress", "aria-label": "Progress", hidden: true }, stage, bar, cancel);
const trouble = h("div", { role: "alert" });
let running: AbortController | null = null;

document.querySelector("#bench")!.append(
  h(
    "header",
    { className: "top" },
    h("a", { className: "brand", href: "./", "aria-label": "webweft, start page" }, logo(), h("span", {}, "webweft")),
    h("span", { className: "bench-title" }, "Benchmark"),
    h("div", { className: "top-tools" }, h("a", { className: "button is-small bench-chat", href: "./" }, "Chat"), themeSwitch()),
  ),
  h(
    "main",
    { className: "bench" },
    h("div", { className: "bench-hero" }, h("h1", {}, "How fast is this device?"), h("p", {}, "Language models of random weights are made here, in this tab, and run: how many tokens of a prompt are read in a second, and how many are written. Nothing is sent anywhere."), device),
    form.element,
    progress,
    trouble,
    roofline.element,
    first.element,
    results.element,
  ),
);

function state(name: "looking" | "ready" | "busy" | "done" | "cancelled" | "failed"): void {
  document.body.dataset.state = name;
}

function at(words: string, share: number): void {
  stage.textContent = words;
  const percent = Math.round(share * 100);
  fill.style.width = `${percent}%`;
  bar.setAttribute("aria-valuenow", String(percent));
}

async function run(matrix: Matrix): Promise<void> {
  if (running) return;
  const mine = (running = new AbortController());
  const { signal } = mine;
  state("busy");
  form.busy(true);
  progress.hidden = false;
  trouble.replaceChildren();
  results.clear();
  first.element.hidden = roofline.element.hidden = true;
  try {
    let firstToken: FirstToken | null = null;
    if (matrix.shapes.includes(BUILT_IN)) {
      at("Measuring the time to the first token", 0);
      firstToken = await timeFirstToken(matrix.runs, signal);
      first.firstToken(firstToken);
    }
    const listener = { at, roofline: roofline.rates.bind(roofline), cell: results.add.bind(results), leftOut: results.leftOut.bind(results) };
    await measure(matrix, firstToken, listener, signal);
    state("done");
  } catch (error) {
    if (!signal.aborted) trouble.replaceChildren(problem(error, [{ label: "Try again", run: () => form.start() }]));
    state(signal.aborted ? "cancelled" : "failed");
  } finally {
    running = null;
    progress.hidden = true;
    form.busy(false);
  }
}

/** Loads the page `first-token.html` in a frame, as a first visit and as the next one, in turn. */
async function timeFirstToken(runs: number, signal: AbortSignal): Promise<FirstToken> {
  const times: FirstToken = { cold_ms: [], warm_ms: [] };
  const own = builtInUrl().replace(/\/$/, "");
  for (let round = 0; round < runs; round++) {
    for (const entry of await cache.list()) {
      if (entry.name.replace(/\/$/, "") === own) await cache.delete(entry.key);
    }
    times.cold_ms.push(await frame(signal));
    times.warm_ms.push(await frame(signal));
  }
  return times;
}

function frame(signal: AbortSignal): Promise<number> {
  const element = h("iframe", { src: "./first-token.html", title: "Time to the first token", className: "sr-only" });
  return new Promise<number>((resolve, reject) => {
    const end = new AbortController();
    const stop = (settle: () => void) => {
      end.abort();
      settle();
    };
    const listen = { signal: end.signal };
    addEventListener(
      "message",
      ({ source, data }) => {
        if (source !== element.contentWindow) return;
        if (typeof data?.firstTokenMs === "number") stop(() => resolve(data.firstTokenMs));
        else if (data?.firstTokenError) stop(() => reject(new Error(data.firstTokenError)));
      },
      listen,
    );
    signal.addEventListener("abort", () => stop(() => reject(signal.reason)), listen);
    AbortSignal.timeout(PATIENCE).addEventListener("abort", () => stop(() => reject(new Error("the first token did not come"))), listen);
    document.body.append(element);
  }).finally(() => element.remove());
}

// for the browser's console, and for the test that holds them against the native runner's
Object.assign(globalThis, { checkpoint: (name: string) => checkpoint(shapeOf(name)) });

state("looking");
try {
  // the built-in model's description is all that this reads
  const { adapter, error } = await canRun(builtInUrl(), { cache: false });
  if (!adapter) throw error;
  const { name, version } = browser();
  device.textContent = `${adapterName(adapter as Adapter)} · ${name} ${version.split(".")[0]}`;
  form.adapt(adapter.kind === "CPU");
  state("ready");
  if (query.has("start")) form.start();
} catch (error) {
  device.remove();
  form.element.remove();
  trouble.replaceChildren(problem(error, [{ label: "Try again", run: () => location.reload() }]));
  state("failed");
}
