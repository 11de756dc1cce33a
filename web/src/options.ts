/** How a model is opened: what a page may say, checked, and as the wasm takes it. */
import type { EngineEvents } from "./engine.js";
import { InvalidRequestError, UnsupportedParameterError } from "./errors.js";
import type { CacheDtype, Dtype, OpenOptions } from "./wasm.js";
import type { ProgressInfo } from "./progress.js";
import type { Profile } from "./profile.js";
import type { SourceOptions } from "./source.js";

/** Where the package's own files are, if not beside its script. */
export interface AssetOptions {
  /** Address of `webweft_bg.wasm`. */
  wasmUrl?: string | URL | undefined;
  /** Address of `worker.js`. Another origin is fine where its files allow it (CORS). */
  workerUrl?: string | URL | undefined;
}

/** How to open a model. */
export interface LoadOptions extends SourceOptions, AssetOptions {
  /**
   * How weights are stored on the GPU; `"q4"` by default, but `"auto"` for a checkpoint that another tool quantized. `"auto"` takes the best
   * quality that `memoryLimit` holds with `context`. `"fp16"` and `"fp32"` are other names of `"f16"` and `"f32"`.
   */
  dtype?: Dtype | "fp16" | "fp32" | undefined;
  /**
   * How the cache stores keys and values; by default as the activations are, `"f16"` or `"f32"`. `"q8"` takes about half of `"f16"`
   * and `"q4"` a third, at a small cost in quality; longer contexts and more sequences fit.
   */
  cache_dtype?: CacheDtype | undefined;
  /**
   * What is kept of a long sequence, in tokens: `"full"` (the default) keeps all up to `context`; `"window:512"` its first tokens and
   * the last ones, and goes on for ever; `"snapkv:512"` of a longer prompt those that its end attends to most.
   */
  cache_policy?: string | undefined;
  /**
   * How many of the generations under way share a step: `"fixed:8"` at most so many; `"timeout:8:50ms"` waits so long for so many;
   * `"memory-aware"` as many as memory holds; `"latency-aware:40ms"` as many as keep a step within that.
   */
  batch_strategy?: string | undefined;
  /** Only `"webgpu"`; for code that was written for Transformers.js. */
  device?: "webgpu" | undefined;
  /** The most tokens of prompt and answer together. Bounded by the model and by the GPU's limits. */
  context?: number | undefined;
  /** The most tokens of a prompt in one step. */
  prefillChunk?: number | undefined;
  /** The most bytes of GPU memory. Layers that do not fit are kept in a file of the page's own and copied to the GPU for every step. */
  memoryLimit?: number | undefined;
  /** How many layers stay on the GPU, the first ones; by default as many as `memoryLimit` holds, or all. */
  gpuLayers?: number | undefined;
  /**
   * Whether the model is kept for the next visit: `true` (the default) keeps its files, `"quantized"` keeps the weights as they are
   * on the GPU (smaller and faster to load), `false` keeps nothing. Given files are never kept.
   */
  cache?: boolean | "quantized" | undefined;
  /** Requests in flight; 4 by default. */
  concurrency?: number | undefined;
  /** How often a broken request is resumed before it is given up. */
  retries?: number | undefined;
  /** What is waited before the first of them, in ms; twice as long before each further one. */
  backoffMs?: number | undefined;
  /**
   * Which GGUF file is meant, where there are several, or safetensors, too: its name, or the type in its name (`"Q8_0"`). By default the
   * only one, or the one in Q4_K_M. An address that ends in `.gguf` says it, too.
   */
  gguf_file?: string | undefined;
  /**
   * Settings of the model by the names of Python's transformers, loading and generation: an object, its text in YAML or JSON, or the address
   * of that. Other options, and those of a call, go over it; it goes over the model's `generation_config.json`.
   */
  profile?: Profile | string | URL | undefined;
  /** WebGPU's default limits and no optional feature, as on the weakest adapter. */
  portable?: boolean | undefined;
  /**
   * Whether it is measured, once, while nothing else is done, which kernels are fastest on this GPU; by default it is. What is found is
   * kept for the next visit.
   */
  autotune?: boolean | undefined;
  /** Hears of progress in the shapes of Transformers.js. */
  progress_callback?: ((info: ProgressInfo) => void) | undefined;
  /** Listeners that are there from the beginning; as `engine.on`. */
  on?: { [T in keyof EngineEvents]?: ((event: EngineEvents[T]) => void) | undefined } | undefined;
  /** Ends the loading. */
  signal?: AbortSignal | undefined;
}

const known = new Set<string>([
  "revision", "remoteHost", "token", "digests", "wasmUrl", "workerUrl", "dtype", "cache_dtype", "cache_policy", "batch_strategy",
  "device", "context", "prefillChunk", "memoryLimit", "gpuLayers", "cache", "concurrency", "retries", "backoffMs", "portable", "autotune", "gguf_file", "profile",
  "progress_callback", "on", "signal",
] satisfies (keyof LoadOptions)[]);

/** Options of Transformers.js that mean nothing here. */
const unsupported = new Set([
  "config", "cache_dir", "local_files_only", "subfolder", "model_file_name", "use_external_data_format", "session_options",
]);

const cacheDtypes: readonly unknown[] = ["f32", "f16", "q8", "q4"] satisfies CacheDtype[];

const dtypes: Record<string, Dtype> = {
  q4: "q4", q4a: "q4a", nf4: "nf4", q8: "q8", f16: "f16", fp16: "f16", f32: "f32", fp32: "f32", auto: "auto",
};

/** `options` as the wasm takes them. */
export function toOpenOptions(options: LoadOptions): OpenOptions {
  for (const [param, value] of Object.entries(options)) {
    if (value === undefined || known.has(param)) continue;
    if (unsupported.has(param)) throw new UnsupportedParameterError(`the option ${param} is not supported`, { param });
    throw new InvalidRequestError(`there is no option ${param}`, { param });
  }
  const open: OpenOptions = {};
  const { dtype, cache_dtype, device, cache } = options;
  if (dtype !== undefined) {
    const stored = dtypes[dtype];
    if (!stored) {
      const message = `dtype ${String(dtype)} is not supported: give q4, q4a, nf4, q8, f16, f32 or auto`;
      throw new UnsupportedParameterError(message, { param: "dtype" });
    }
    open.dtype = stored;
  }
  if (cache_dtype !== undefined) {
    if (!cacheDtypes.includes(cache_dtype)) {
      const message = `cache_dtype ${String(cache_dtype)} is not supported: give f32, f16, q8 or q4`;
      throw new UnsupportedParameterError(message, { param: "cache_dtype" });
    }
    open.cache_dtype = cache_dtype;
  }
  if (device !== undefined && device !== "webgpu") {
    throw new UnsupportedParameterError(`device ${String(device)} is not supported: it is always webgpu`, { param: "device" });
  }
  if (cache !== undefined) {
    if (cache !== true && cache !== false && cache !== "quantized") {
      throw new InvalidRequestError('cache is true, false or "quantized"', { param: "cache" });
    }
    open.cache = cache === true ? "stored" : cache === false ? "none" : cache;
  }
  const whole = (param: keyof LoadOptions, least: number) => {
    const value = options[param];
    if (value === undefined) return undefined;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least) {
      throw new InvalidRequestError(`${param} is ${String(value)}, expected a whole number of at least ${least}`, { param });
    }
    return value;
  };
  const numbers: [keyof OpenOptions, number | undefined][] = [
    ["context", whole("context", 1)],
    ["prefill_chunk", whole("prefillChunk", 1)],
    ["memory_limit", whole("memoryLimit", 1)],
    ["gpu_layers", whole("gpuLayers", 0)],
    ["concurrency", whole("concurrency", 1)],
    ["retries", whole("retries", 0)],
    ["backoff_ms", whole("backoffMs", 0)],
  ];
  for (const [name, value] of numbers) if (value !== undefined) Object.assign(open, { [name]: value });
  if (options.portable !== undefined) open.portable = options.portable;
  if (options.autotune !== undefined) {
    if (typeof options.autotune !== "boolean") throw new InvalidRequestError("autotune is true or false", { param: "autotune" });
    open.autotune = options.autotune;
  }
  const text = (param: "gguf_file" | "cache_policy" | "batch_strategy", meaning: string) => {
    const value: unknown = options[param];
    if (value === undefined) return;
    if (typeof value !== "string" || value === "") throw new InvalidRequestError(`${param} is ${meaning}`, { param });
    open[param] = value;
  };
  text("gguf_file", "the name of a file, or the type in it");
  text("cache_policy", '"full", "window:TOKENS" or "snapkv:TOKENS"');
  text("batch_strategy", '"fixed:N", "timeout:N:MSms", "memory-aware" or "latency-aware:MSms"');
  return open;
}
