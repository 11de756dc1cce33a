/**
 * The real client and host, over a real message channel, with an engine that needs no GPU: it counts. Node has no WebGPU; with a real
 * engine, the same is tested in browsers.
 */
import { after } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Client } from "../../dist/client.js";
import { Engine, Listeners } from "../../dist/engine.js";
import { toExtractor } from "../../dist/features.js";
import { Host, type Opened } from "../../dist/host.js";
import type { Facade, FacadeExtractor, FacadeModel, FeaturesRequest, GenerateRequest, GenerateResult, KernelReport, MemoryUse, ModelInfo, OpenOptions, Piece } from "../../dist/wasm.js";

export const named = (name: string, message: string, fields: object = {}): Error =>
  Object.assign(new Error(message), { name, code: name.toLowerCase(), ...fields });

const categories = { weights: 0, cache: 0, activations: 0, staging: 0 };
const memoryOf = (total: number): MemoryUse => ({ total, peak: 100, categories, peak_categories: categories, wasm: 1 });

/** What the counting engine is told to do, and what it saw. */
export class Script {
  /** After how many tokens each generation, in the order in which they start, loses the device; `undefined`: it does not. */
  losses: (number | undefined)[] = [];
  /** Thrown by `open`, one by one. */
  openFails: Error[] = [];
  /** Thrown by `adapter`, one by one. */
  adapterFails: Error[] = [];
  /** Thrown by `generate`; only for the prompt of that name, if there is one. */
  generateFails: Error | undefined;
  failingPrompt: string | undefined;
  /** Never answers to its signal. */
  deaf = false;
  requests: GenerateRequest[] = [];
  featuresRequests: FeaturesRequest[] = [];
  opened = 0;
  closed = 0;
  freed = 0;
  aborted = 0;
  reset = 0;
  /** The bytes that were put back last. */
  restored: number[] = [];
  /** What is known of kernels, what `open` was told of them, how often measuring began, and what ends it. */
  kernels: KernelReport | null = null;
  known: (string[] | undefined)[] = [];
  measuring = 0;
  measured = () => {};
  /** The most generations at once. */
  most = 0;

  readonly facade: Facade = {
    open: async (_, options) => {
      this.known.push(options.kernels);
      const fail = this.openFails.shift();
      if (fail) throw fail;
      this.opened += 1;
      return this.#model();
    },
    open_extractor: async () => {
      const fail = this.openFails.shift();
      if (fail) throw fail;
      this.opened += 1;
      return this.#extractor();
    },
    inspect: async () => {
      throw named("NetworkError", "no network", { url: "https://host/config.json", status: 503 });
    },
    adapter: async () => {
      const fail = this.adapterFails.shift();
      if (fail) throw fail;
      return info.adapter;
    },
    cache_list: async () => [],
    cache_delete: async () => false,
    cache_clear: async () => {},
  };

  /** Of each text a vector of its length and its place. */
  #extractor(): FacadeExtractor {
    const { generate: _, ...model } = this.#model();
    const loses = this.losses.shift() !== undefined;
    return {
      ...model,
      features: async (request, signal) => {
        await turn();
        if (signal.aborted) throw named("AbortError", "aborted");
        this.featuresRequests.push(request);
        if (loses) throw named("DeviceLostError", "the GPU device was lost");
        const rows = request.texts.map((text, at) => [text.length, at]);
        return { data: Float32Array.from(rows.flat()), dims: [rows.length, 2], tokens: rows.map(() => 1) };
      },
    };
  }

  #model(): FacadeModel {
    let running = 0;
    let lost = false;
    const idle = () => {
      if (running > 0) throw named("BusyError", "a generation is under way");
    };
    const generate = async (request: GenerateRequest, tell: (piece: Piece) => void, signal: AbortSignal): Promise<GenerateResult> => {
      if (lost) throw named("DeviceLostError", "the GPU device was lost");
      running += 1;
      this.most = Math.max(this.most, running);
      try {
        this.requests.push(request);
        if (this.generateFails && request.prompt === (this.failingPrompt ?? request.prompt)) throw this.generateFails;
        const count = Number(request.options?.["max_new_tokens"] ?? 3);
        const done = request.given?.length ?? 0;
        const ids: number[] = [];
        const loseAt = this.losses.shift();
        for (let id = done; id < count; id += 1) {
          await turn();
          if (signal.aborted && !this.deaf) {
            this.aborted += 1;
            return result(ids, "abort");
          }
          if (lost || id - done === loseAt) {
            lost = true;
            throw named("DeviceLostError", "the GPU device was lost");
          }
          ids.push(id);
          tell({ id, text: ` ${id}`, ...(request.options?.["logprobs"] === undefined ? {} : scores(id)) });
        }
        return result(ids, count < 10 ? "stop" : "length");
      } finally {
        running -= 1;
      }
    };
    return {
      info: () => info,
      memory: () => memoryOf(100),
      memory_report: () => ({ ...memoryOf(100), labels: [], ms: 2, timeline: [{ ms: 1, ...categories, weights: 100 }], leaks: [] }),
      precision: async () => {
        await turn();
        const found = { class: "mlp" as const, layer: 3, position: 17, count: 1 };
        return { activations: "f16", cache: "f16", steps: 9, overflows: [found], demoted: ["mlp"], decisions: [] };
      },
      encode: (text) => new Uint32Array([...text].map((char) => char.codePointAt(0) ?? 0)),
      decode: (ids) => String.fromCodePoint(...ids),
      chat_prompt: (messages) => JSON.stringify(messages),
      generate,
      roofline: async () => ({
        bytes_per_second: 1,
        copied: 1,
        operations_per_second: 1,
        f16_operations_per_second: null,
        int8_operations_per_second: null,
        costs: { dispatch_us: 1, submit_us: 1, readback_us: 1 },
      }),
      reset: () => {
        idle();
        this.reset += 1;
      },
      save_cache: async (ids, tell) => {
        if (ids?.length === 0) throw named("SavedCacheError", "the cache holds none of these tokens", { code: "empty" });
        const bytes = Uint8Array.from(ids ?? [7, 8, 9]);
        tell(bytes.slice(0, 2));
        tell(bytes.slice(2));
        return { tokens: bytes.length, bytes: bytes.length };
      },
      restore_cache: async (file) => {
        this.restored = [...new Uint8Array(await file.arrayBuffer())];
        return file.size;
      },
      kernels: () => this.kernels,
      measure_kernels: async (signal) => {
        this.measuring += 1;
        await new Promise<void>((resolve, reject) => {
          this.measured = resolve;
          signal.addEventListener("abort", () => reject(named("AbortError", "aborted")), { once: true });
        });
        return (this.kernels = this.kernels && { ...this.kernels, is_tuned: true });
      },
      lose_device() {
        lost = true;
      },
      close: () => {
        idle();
        this.closed += 1;
        return memoryOf(0);
      },
      // what is borrowed cannot be freed
      free: () => {
        idle();
        this.freed += 1;
      },
    };
  }
}

const scores = (id: number) => ({
  token: ` ${id}`,
  bytes: [32, 48 + id],
  logprob: -0.5,
  top: [{ id: 9, text: "x", bytes: [120], logprob: -Infinity }],
});

const result = (ids: number[], finish_reason: GenerateResult["finish_reason"]): GenerateResult => ({
  text: ids.map((id) => ` ${id}`).join(""),
  ids,
  prompt_tokens: 7,
  cached_tokens: 2,
  finish_reason,
  concessions: [],
  timing: { prefill_tokens: 5, prefill_ms: 10, decode_tokens: ids.length, decode_ms: 20, drafted: 0, accepted: 0 },
});

export const info: ModelInfo = {
  model_type: "llama",
  architecture: {
    layers: 1,
    hidden_size: 1,
    heads: 1,
    kv_heads: 1,
    head_dim: 1,
    intermediate_size: 1,
    vocab_size: 10,
    context: 64,
    positions: "learned",
    windows: {},
    tied: true,
    embedding_parameters: 1,
  },
  parameters: 1,
  dtype: "q4",
  activations: "f16",
  cache_dtype: "f16",
  cache_policy: "full",
  context: 64,
  has_tokenizer: true,
  has_chat_template: true,
  extra_tensors: [],
  adapter: {
    name: "Some GPU (1)",
    kind: "CPU",
    backend: "BrowserWebGpu",
    features: { shader_f16: false, subgroups: false, timestamps: false },
    limits: { max_buffer: 1, max_binding: 1 },
  },
  load: { ms: 1, weights_ms: 1, bytes: 1, verified_bytes: 0, from: "network" },
  generation_defaults: {},
  wasm_memory: 1,
};

// open ports would keep the process alive
const ports: MessagePort[] = [];
after(() => ports.forEach((port) => port.close()));

/** A client at one end of a channel, and the host with `script` at the other. */
export async function connect(script: Script): Promise<{ client: Client; ended: () => boolean; port: MessagePort }> {
  const { port1, port2 } = new MessageChannel();
  ports.push(port1, port2);
  new Host(port2 as never, async () => script.facade);
  let ended = false;
  const worker = Object.assign(port1, {
    terminate() {
      ended = true;
      port1.close();
    },
  });
  port1.start();
  port2.start();
  const client = new Client(worker as never);
  await client.init();
  return { client, ended: () => ended, port: port1 };
}

/** An engine over `script`. */
export async function engineOf(script = new Script(), options: OpenOptions = {}) {
  const { client, ended, port } = await connect(script);
  const opened = await client.call<Opened>("open", { spec: { kind: "url", url: "https://host/m" }, options });
  const listeners = new Listeners();
  return { engine: new Engine("some/model", client, opened, listeners), script, client, ended, port };
}

/** An extractor over `script`. */
export async function extractorOf(script = new Script()) {
  const { client, ended } = await connect(script);
  const opened = await client.call<Opened>("openExtractor", { spec: { kind: "url", url: "https://host/m" }, options: {} });
  return { extractor: toExtractor({ client, opened, listeners: new Listeners() }), script, client, ended };
}
