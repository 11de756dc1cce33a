/** What the wasm gives: `src/web.rs` of the repository, seen from TypeScript. */

/** Where a model's files are, as the wasm takes it. */
export type ModelSpec =
  | { kind: "hub"; repo: string; revision?: string; endpoint?: string; token?: string }
  | { kind: "url"; url: string; token?: string; digests?: Record<string, string> }
  | { kind: "files"; name?: string; files: Record<string, Blob> };

/** How weights are stored on the GPU. */
export type Dtype = "q4" | "q4a" | "nf4" | "q8" | "f16" | "f32" | "auto";

/** How keys and values of the sequences are stored on the GPU. */
export type CacheDtype = "f32" | "f16" | "q8" | "q4";

/** How a model is loaded, as the wasm takes it. */
export interface OpenOptions {
  dtype?: Dtype;
  cache_dtype?: CacheDtype;
  cache_policy?: string;
  batch_strategy?: string;
  context?: number;
  prefill_chunk?: number;
  memory_limit?: number;
  gpu_layers?: number;
  cache?: "none" | "stored" | "quantized";
  concurrency?: number;
  retries?: number;
  backoff_ms?: number;
  portable?: boolean;
  autotune?: boolean;
  /** {@link KernelReport}s of earlier visits, each as JSON: what cannot be read, or is of another version, is left out. */
  kernels?: string[];
  gguf_file?: string;
  /** {@link Profile}; the options here go over it. */
  profile?: object;
}

/** What loading does at the moment. */
export type LoadStage = "config" | "compile" | "weights" | "verify" | "keep" | "ready";

/** Something that the page may want to know, and that is no failure. */
export type NoticeCode = "cache_unavailable" | "cache_stale" | "kernels_wrong" | "offline";

/** What the wasm tells while it loads. Bytes. */
export type LoadEvent =
  | { type: "file"; file: string; size: number; from: "network" | "cache" | "local" }
  | { type: "progress"; file: string; loaded: number; size: number; total_loaded: number; total: number }
  | { type: "done"; file: string }
  | { type: "stage"; stage: LoadStage }
  | { type: "notice"; code: NoticeCode; message: string };

/** The GPU that is used. */
export interface AdapterReport {
  /** As the driver names it. */
  name: string;
  /** `"discrete GPU"`, `"integrated GPU"`, `"CPU"`, ... */
  kind: string;
  backend: string;
  /** Browsers do not tell it. */
  driver?: string;
  features: { shader_f16: boolean; subgroups: boolean; timestamps: boolean };
  /** Bytes and counts. */
  limits: { max_buffer: number; max_binding: number; [name: string]: number };
}

/** What a GPU does at most, as it was measured. */
export interface Roofline {
  /** Bytes that copies between buffers read and write, both counted. */
  bytes_per_second: number;
  /** Size of the copy that was fastest, in bytes. */
  copied: number;
  /** Multiplications and additions in f32. */
  operations_per_second: number;
  /** The same in f16; `null` without `shader-f16`. */
  f16_operations_per_second: number | null;
  /** Of packed products of 8-bit integers; `null` where the language has none. */
  int8_operations_per_second: number | null;
  /** In microseconds: what a dispatch adds to a submit, what a submit adds to others, and from a submit to its bytes in JavaScript. */
  costs: { dispatch_us: number; submit_us: number; readback_us: number };
}

/** Which kernels are right and fastest on an adapter, for its browser and this version. */
export interface KernelReport {
  adapter: string;
  /** The browser, as it names itself. */
  driver: string;
  /** Of webweft. */
  version: string;
  /** What needs more than WebGPU's defaults, and what was wrong with its answers; `null`: it may be used. */
  verdicts: { variant: "subgroups" | "packed_dot"; wrong: string | null }[];
  /** Whether measuring is done; where the browser has no timestamps, it measures nothing. */
  is_tuned: boolean;
  /**
   * What was measured, as far as there was a choice and time: the candidates, the one taken without measurement first, with the first
   * quartile, the median and the third quartile in microseconds, and which of them is taken.
   */
  measured: { what: string; candidates: [name: string, us: [number, number, number]][]; chosen: number }[];
  /** What is taken. */
  kernels: {
    /** How sums of products of few rows are made. */
    sums: "workgroup" | "subgroups" | "alone";
    /** Up to so many rows a product is made row by row. */
    few_rows: number;
    /** Whether each invocation makes tiles, or attends, by itself. */
    tiles_alone: boolean;
    attention_alone: boolean;
    /** The widest rows that products of few of them normalize by themselves. */
    norm_in_products: number;
    /** How sums of norms are made. */
    norms: "workgroup" | "subgroups" | "alone";
    /** Whether products of packed 8-bit integers are taken. */
    packed_dot: boolean;
  };
}

/** What a step of decoding reads, in bytes, and what a token of a prompt takes. */
export interface Traffic {
  /** All weights; of an embedding that is no output head only a row is read, which is not counted. */
  weights: number;
  /** Keys and values of one position, in all layers. */
  cache_per_token: number;
  /** Multiplications and additions of the layers, attention apart. */
  operations_per_token: number;
}

/** A loaded model. */
export interface ModelInfo {
  /** As `config.json` has it: `"llama"`, `"qwen3"`, ... */
  model_type: string;
  architecture: {
    layers: number;
    hidden_size: number;
    heads: number;
    kv_heads: number;
    head_dim: number;
    intermediate_size: number;
    vocab_size: number;
    /** Positions that the model was made for. */
    context: number;
    /** How positions are told apart, in words. */
    positions: string;
    /** Sliding windows: the width, and how many layers have it. */
    windows: Record<string, number>;
    /** Whether the output head is the embedding. */
    tied: boolean;
    /** Elements of embedding and output head. */
    embedding_parameters: number;
  };
  /** Number of weights. */
  parameters: number;
  /** What its speed is bound by; encoders do not tell it. */
  traffic?: Traffic;
  /** How the weights are stored. */
  dtype: string;
  /** Why, where `dtype: "auto"` chose it. */
  dtype_reason?: string | null;
  /** How another tool quantized the checkpoint: `gptq`, `awq`, ... */
  quantization?: string | null;
  /** Type of the activations. */
  activations: string;
  /** How keys and values are stored: `cache_dtype`, or what follows from `activations`. */
  cache_dtype: string;
  /** What is kept of a long sequence: `"full"`, `"window:512"`, `"snapkv:512"`, ... */
  cache_policy: string;
  /** Tokens that fit, prompt and answer together. */
  context: number;
  /** Where not all layers stay on the GPU. */
  offload?: Offload | null;
  /** Bytes that the GPU was found to give, where it refused more and `memoryLimit` was not given. */
  found_budget?: number | null;
  has_tokenizer: boolean;
  has_chat_template: boolean;
  /** Tensors of the files that the architecture does not use. */
  extra_tensors: string[];
  adapter: AdapterReport;
  /**
   * `ms`: all of it; `weights_ms`: from the first byte of weights to the last that is in place; `verified_bytes`: how many of the bytes
   * were checked against a digest, which takes its time.
   */
  load: { ms: number; weights_ms: number; bytes: number; verified_bytes: number; from: "network" | "cache" | "local" };
  /** What `generation_config.json` says, and `profile` over it. */
  generation_defaults: Record<string, unknown>;
  /** Bytes of the wasm's own memory. */
  wasm_memory: number;
}

/** GPU memory by what it is for, in bytes. */
export interface MemoryCategories {
  weights: number;
  cache: number;
  activations: number;
  staging: number;
}

/** Which types activations and cache have, why, and which values they did not hold. */
export interface PrecisionReport {
  /** Type of the activations by now: `"f16"`, or of each class of operations, where some keep `f32`. */
  activations: string;
  /** How keys and values are stored by now. */
  cache: string;
  /** Steps that were looked at. */
  steps: number;
  /** Values that f16 did not hold: what made them first, before the token at `position` came, and how often. They were made again in f32. */
  overflows: { class: "norm" | "attention" | "cache" | "mlp" | "head"; layer: number | null; position: number; count: number }[];
  /** Classes of operations that keep f32 since. */
  demoted: string[];
  /** What was chosen at first, and why. */
  decisions: { what: string; chosen: string; reason: string }[];
}

/** Memory in use, in bytes. */
export interface MemoryUse {
  /** On the GPU, now. */
  total: number;
  /** On the GPU, at most so far. */
  peak: number;
  categories: MemoryCategories;
  peak_categories: MemoryCategories;
  /** The wasm's own memory. */
  wasm: number;
}

/** GPU memory from one moment on, until the next sample. Bytes. */
export interface MemorySample extends MemoryCategories {
  /** Milliseconds since the device was opened. */
  ms: number;
}

/** A buffer on the GPU. */
export interface MemoryBuffer {
  label: string;
  category: keyof MemoryCategories;
  size: number;
  /** The model that it belongs to. */
  owner: string | null;
}

/** All that is known of a model's memory: what takes it, and when. */
export interface MemoryReport extends MemoryUse {
  /** What is in use, by label, the largest first; `*` stands for numbers, so that layers are told together. */
  labels: { label: string; category: keyof MemoryCategories; buffers: number; bytes: number }[];
  /** Now, in milliseconds since the device was opened. */
  ms: number;
  /** At most 512 samples, oldest first, with every peak among them. */
  timeline: MemorySample[];
  /** Buffers that outlive their model; there are none. */
  leaks: MemoryBuffer[];
}

/** A token among those that were likely at a place. */
export interface TopToken {
  id: number;
  text: string;
  bytes: number[];
  /** Natural logarithm of its probability. */
  logprob: number;
}

/** A generated token, and what it adds to the text. */
export interface Piece {
  id: number;
  /** Empty while a character is incomplete or a stop string may have begun. */
  text: string;
  /** The token itself, its bytes and its log-probability, where `logprobs` asks for them. */
  token?: string;
  bytes?: number[];
  logprob?: number;
  top?: TopToken[];
}

/** A message of a chat; templates may know more fields. */
export interface FacadeMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** One generation, as the wasm takes it. Exactly one of `prompt`, `ids`, `messages`. */
export interface GenerateRequest {
  prompt?: string;
  ids?: number[];
  messages?: FacadeMessage[];
  /** For the chat template. */
  chat?: { add_generation_prompt?: boolean; tools?: object[]; documents?: object[]; [extra: string]: unknown };
  /** By their names in Hugging Face's `GenerationConfig`; over the model's `generation_config.json`. */
  options?: Record<string, unknown>;
  /** Ids that this generation already gave out: they are replayed and not given again. */
  given?: number[];
}

/** How a generation ended. */
export interface GenerateResult {
  text: string;
  ids: number[];
  prompt_tokens: number;
  /** Of the prompt's, those that were still in the cache. */
  cached_tokens: number;
  finish_reason: "stop" | "length" | "abort";
  /** What the model gave up so far because memory ran short, in words: bits of the cache, positions, layers that stay on the GPU. */
  concessions: string[];
  timing: Timing;
}

/** How long a generation took. */
export interface Timing {
  prefill_tokens: number;
  prefill_ms: number;
  decode_tokens: number;
  decode_ms: number;
  /** Guesses that were looked at, and those that became tokens (`prompt_lookup_num_tokens`). */
  drafted: number;
  accepted: number;
}

/** A kept model. */
export interface CacheEntry {
  /** What `cache.delete` takes. */
  key: string;
  kind: "hub" | "url";
  /** The repository, or the address. */
  name: string;
  /** The branch, tag or commit that was asked for. */
  revision: string | null;
  /** The commit that it led to. */
  commit: string | null;
  /** Bytes on the disk. */
  bytes: number;
  /** Whole files, with their bytes. */
  files: [name: string, bytes: number][];
  /** Whether the model opens without a network. */
  complete: boolean;
  /** When it was first kept, in milliseconds since 1970. */
  created: number;
  /** When it was opened last. */
  last_used: number;
}

/** What a model takes on the GPU at one dtype. Bytes. */
export interface OnGpu {
  dtype: Exclude<Dtype, "auto">;
  weights: number;
  largest_buffer: number;
  cache_per_1k: number;
  /** How long a sequence may become where nobody says, in tokens. */
  context: number;
  /** The cache at that length. */
  cache: number;
  /** Whether it could run here, perhaps with a shorter context. */
  fits: boolean;
  /** The longest sequence within `memoryLimit`, where one was given. */
  longest_context: number | null;
  note: string | null;
}

/** A model of which not all layers stay on the GPU: the others are kept in a file, and copied there for every step. Bytes. */
export interface Offload {
  /** Layers that stay, of so many. */
  resident: number;
  layers: number;
  /** What is copied for every step. */
  moved: number;
  /** The two places that layers pass through. */
  slots: number;
  /** Tokens that a sequence may have. */
  context: number;
  /** The most at once. */
  total: number;
}

/** A model at one dtype, with the context that is wanted. Bytes. */
export interface Format {
  dtype: Exclude<Dtype, "auto">;
  /** What the sizes are for: `context`, else as many tokens as the default has and `memoryLimit` holds. */
  context: number;
  weights: number;
  cache: number;
  activations: number;
  /** Gone when the weights are loaded; cache and activations come then. */
  staging: number;
  /** The most at once. */
  total: number;
  fits: boolean;
  why_not: string | null;
  /** How it would run nevertheless. */
  offload: Offload | null;
  /** The longest sequence that fits, in tokens; 0 where none does. */
  longest_context: number;
  /** What decoding reads for a token. */
  bytes_per_token: number;
  /** f16 is 1. */
  relative_speed: number;
  tokens_per_second: number | null;
  /** To be expected, f32 being 1; `null` where another tool quantized the model. */
  perplexity: number | null;
}

/** What `dtype: "auto"` becomes, and why. */
export interface Recommendation {
  /** `null` where none fits. */
  dtype: Exclude<Dtype, "auto"> | null;
  /** In words; where none fits what is missing, and what would fit. */
  reason: string;
  budget: number | null;
  context: number | null;
  /** Every dtype, the most bits first. */
  formats: Format[];
}

/** What is known of a model before its weights are fetched. */
export interface Inspection {
  place: string;
  model_type: string | null;
  architectures: string[];
  supported: boolean;
  problems: string[];
  /** What it is for: `"text-generation"`, `"feature-extraction"`; `null` where that is not known. */
  task: string | null;
  architecture: ModelInfo["architecture"] | null;
  parameters: number;
  files: { name: string; bytes: number; tensors: number }[];
  stored: { dtype: string; tensors: number; bytes: number }[];
  tokenizer: { kind: string; vocab_size: number } | null;
  chat_templates: string[];
  /** How another tool quantized it: `"gptq"`, `"awq"`, ... */
  quantization: string | null;
  /** What `dtype: "auto"` becomes. */
  auto: Exclude<Dtype, "auto"> | null;
  on_gpu: OnGpu[];
  recommendation: Recommendation | null;
  adapter: AdapterReport;
  /** What options and profile ask for. */
  wanted?: { dtype: Dtype | null; context: number | null };
}

/** What is asked of an encoder, as the wasm takes it. */
export interface FeaturesRequest {
  /** Texts, and pairs of them. */
  texts: (string | [string, string])[];
  pooling?: "none" | "mean" | "cls";
  normalize?: boolean;
}

/** What an encoder makes of texts. */
export interface Features {
  /** Row after row; zeros pad the tokens of shorter texts. */
  data: Float32Array<ArrayBuffer>;
  /** `[texts, width]`, or without pooling `[texts, tokens of the longest, width]`. */
  dims: number[];
  /** Of each text how many tokens it has. */
  tokens: number[];
}

/** What all opened models have. */
export interface FacadeAny {
  info(): ModelInfo;
  memory(): MemoryUse;
  memory_report(): MemoryReport;
  /** Once no step runs. */
  precision(): Promise<PrecisionReport>;
  encode(text: string, add_special_tokens: boolean): Uint32Array;
  decode(ids: Uint32Array, skip_special_tokens: boolean): string;
  kernels(): KernelReport | null;
  /** The same once it was measured, where that was not yet. */
  measure_kernels(signal: AbortSignal): Promise<KernelReport | null>;
  lose_device(): void;
  close(): MemoryUse;
  free(): void;
}

/** An encoder. */
export interface FacadeExtractor extends FacadeAny {
  /** Calls run one after another. */
  features(request: FeaturesRequest, signal: AbortSignal): Promise<Features>;
}

/** A model that generates. */
export interface FacadeModel extends FacadeAny {
  chat_prompt(messages: object[], options: object): string;
  /** May be called while others are under way: they share steps, and each ends by itself. */
  generate(request: GenerateRequest, on_piece: (piece: Piece) => void, signal: AbortSignal): Promise<GenerateResult>;
  /** Of `ids`, or of the text that ended last. */
  save_cache(
    ids: Uint32Array | undefined,
    on_bytes: (bytes: Uint8Array<ArrayBuffer>) => void,
    signal: AbortSignal,
  ): Promise<{ tokens: number; bytes: number }>;
  /** How many tokens it holds. */
  restore_cache(file: Blob, signal: AbortSignal): Promise<number>;
  reset(): void;
  /** While no step runs. */
  roofline(): Promise<Roofline>;
}

export interface Facade {
  open(
    spec: ModelSpec,
    options: OpenOptions,
    on_event: (event: LoadEvent) => void,
    signal: AbortSignal,
  ): Promise<FacadeModel>;
  /** As `open`, of an encoder. */
  open_extractor(
    spec: ModelSpec,
    options: OpenOptions,
    on_event: (event: LoadEvent) => void,
    signal: AbortSignal,
  ): Promise<FacadeExtractor>;
  inspect(spec: ModelSpec, options: OpenOptions, signal: AbortSignal): Promise<Inspection>;
  adapter(): Promise<AdapterReport>;
  cache_list(): Promise<CacheEntry[]>;
  cache_delete(key: string): Promise<boolean>;
  cache_clear(): Promise<void>;
}
