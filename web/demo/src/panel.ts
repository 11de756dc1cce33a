// The column beside the chat: speed, memory, the adapter, and which models are kept on this device.

import { h, icon, iconButton } from "./dom.ts";
import { bytes, count } from "./format.ts";
import { MemoryChart } from "./memory-chart.ts";
import { SpeedCard } from "./speed.ts";

export interface Adapter {
  name: string;
  kind: string;
  backend: string;
  driver?: string;
  features: Record<string, boolean>;
  limits: Record<string, number>;
}

export interface Loaded {
  adapter: Adapter;
  model_type: string;
  parameters: number;
  dtype: string;
  quantization?: string | null;
  activations: string;
  cache_dtype: string;
  context: number;
  architecture: { layers: number; hidden_size: number; vocab_size: number };
  load: { ms: number; bytes: number; from: string };
}

export interface Kept {
  key: string;
  name: string;
  bytes: number;
}

const FEATURES: Record<string, string> = { shader_f16: "16-bit floats", subgroups: "subgroups", timestamps: "timestamps" };
const FROM: Record<string, string> = { network: "the network", cache: "this device", local: "files" };

const pairs = (list: [string, string][]) => h("dl", { className: "pairs" }, ...list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

export class Panel {
  readonly speed = new SpeedCard();
  readonly memory = new MemoryChart();
  readonly element: HTMLElement;
  #device = h("section", { className: "card", "aria-label": "Device" }, h("div", { className: "card-head" }, h("h2", {}, "Device")), h("p", { className: "card-note" }, "No model is loaded."));
  #model = h("section", { className: "card", "aria-label": "Model", hidden: true });
  #kept = h("section", { className: "card", "aria-label": "Kept models", hidden: true });

  constructor(close: () => void) {
    this.element = h(
      "aside",
      { className: "panel", id: "panel", "aria-label": "Details" },
      h("div", { className: "panel-head" }, h("h2", {}, "Details"), iconButton("close", "Close details", close)),
      this.speed.element,
      this.memory.element,
      this.#model,
      this.#device,
      this.#kept,
    );
  }

  loaded(info: Loaded): void {
    const { architecture, load, adapter } = info;
    const seconds = load.ms / 1000;
    this.#model.hidden = false;
    this.#model.replaceChildren(
      h("div", { className: "card-head" }, h("h2", {}, "Model"), h("span", { className: "badge" }, info.quantization ?? info.dtype)),
      pairs([
        ["Architecture", `${info.model_type}, ${architecture.layers} layers`],
        ...(info.parameters ? [["Weights", count(info.parameters)] as [string, string]] : []),
        ["Vocabulary", count(architecture.vocab_size)],
        ["Context", `${info.context.toLocaleString("en")} tokens`],
        ["Activations", info.activations],
        ["Cache", info.cache_dtype],
        ["Loaded", `${bytes(load.bytes)} from ${FROM[load.from] ?? load.from} in ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`],
      ]),
    );
    this.adapter(adapter);
  }

  adapter(adapter: Adapter): void {
    const limits = adapter.limits;
    const rows: [string, string][] = [["Kind", adapter.kind], ["Backend", adapter.backend === "BrowserWebGpu" ? "WebGPU" : adapter.backend]];
    if (adapter.driver) rows.push(["Driver", adapter.driver]);
    if (limits.max_buffer) rows.push(["Largest buffer", bytes(limits.max_buffer)]);
    if (limits.max_binding) rows.push(["Largest binding", bytes(limits.max_binding)]);
    this.#device.replaceChildren(
      h("div", { className: "card-head" }, h("h2", {}, "Device")),
      h("p", { className: "device-name" }, adapter.name || "Unnamed adapter"),
      pairs(rows),
      h(
        "ul",
        { className: "chips", "aria-label": "Features" },
        ...Object.entries(adapter.features).map(([name, there]) =>
          h("li", { className: there ? "chip is-on" : "chip is-off" }, icon(there ? "check" : "close"), FEATURES[name] ?? name, h("span", { className: "sr-only" }, there ? ": yes" : ": no")),
        ),
      ),
    );
  }

  kept(list: Kept[], remove: (key: string) => void, clear: () => void): void {
    this.#kept.hidden = false;
    const total = list.reduce((sum, entry) => sum + entry.bytes, 0);
    this.#kept.replaceChildren(
      h("div", { className: "card-head" }, h("h2", {}, "Kept on this device"), h("span", { className: "figure" }, list.length > 0 ? bytes(total) : "")),
      list.length === 0
        ? h("p", { className: "card-note" }, "Nothing yet. Models that you load are kept, so that the next visit needs no network.")
        : h(
            "ul",
            { className: "kept" },
            ...list.map((entry) =>
              h("li", {}, h("span", { className: "kept-name", title: entry.name }, entry.name), h("span", { className: "kept-size" }, bytes(entry.bytes)), iconButton("trash", `Delete ${entry.name} from this device`, () => remove(entry.key))),
            ),
          ),
    );
    if (list.length > 1) this.#kept.append(h("button", { type: "button", className: "button is-small", onclick: clear }, "Delete all"));
  }
}
