/** Vectors of texts, in the shapes of Transformers.js. */
import type { Client } from "./client.js";
import { openInWorker, type CallOptions, type EngineEvents, type InWorker, type Listeners } from "./engine.js";
import { DisposedError, InvalidRequestError, UnsupportedParameterError } from "./errors.js";
import type { LoadOptions } from "./options.js";
import type { ModelSource } from "./source.js";
import { Tokenizer } from "./tokenizer.js";
import type { Features, FeaturesRequest, KernelReport, MemoryReport, MemoryUse, ModelInfo } from "./wasm.js";

/** Two texts that belong together: a question and a passage, say. */
export interface TextPair {
  text: string;
  text_pair: string;
}

/** How texts become vectors. */
export interface FeatureExtractionOptions extends CallOptions {
  /** What stands for a text: the mean of its tokens, the first one (`"cls"`), or by default every token (`"none"`). */
  pooling?: "none" | "mean" | "cls" | undefined;
  /** Whether each vector is divided by its length. */
  normalize?: boolean | undefined;
}

/** Numbers in rows, as Transformers.js gives them. */
export class Tensor {
  readonly type = "float32";
  readonly data: Float32Array<ArrayBuffer>;
  readonly dims: readonly number[];

  constructor(data: Float32Array<ArrayBuffer>, dims: readonly number[]) {
    this.data = data;
    this.dims = dims;
  }

  get size(): number {
    return this.data.length;
  }

  /** Lists within lists, the innermost of numbers. */
  tolist(): unknown[] {
    const list = (begin: number, dims: readonly number[]): unknown[] => {
      const [count = 0, ...inner] = dims;
      const each = inner.reduce((product, size) => product * size, 1);
      if (inner.length === 0) return [...this.data.subarray(begin, begin + count)];
      return Array.from({ length: count }, (_, at) => list(begin + at * each, inner));
    };
    return list(0, this.dims);
  }
}

/** A loaded encoder as a function. */
export interface FeatureExtractionPipeline {
  /**
   * Of each text a row: `[texts, width]`, or without pooling `[texts, tokens of the longest, width]`, zero where a text is shorter. What is
   * longer than the model takes is cut.
   */
  (texts: string | TextPair | readonly (string | TextPair)[], options?: FeatureExtractionOptions): Promise<Tensor>;
  readonly task: "feature-extraction";
  readonly tokenizer: Tokenizer;
  readonly info: ModelInfo;
  /** As that of an engine. */
  memory(options?: CallOptions): Promise<MemoryReport>;
  /** As that of an engine. */
  kernels(options?: CallOptions): Promise<KernelReport | null>;
  /** As that of an engine. */
  on<T extends keyof EngineEvents>(type: T, listener: (event: EngineEvents[T]) => void): () => void;
  /** Loses the GPU device, as a driver's reset does: to test what a page does then. */
  loseDevice(): Promise<void>;
  /** Gives all memory back and ends the worker. */
  dispose(): Promise<MemoryUse | null>;
}

/** Opens the encoder `model` in a new worker. */
export async function createExtractor(model: ModelSource, options: LoadOptions = {}): Promise<FeatureExtractionPipeline> {
  return toExtractor(await openInWorker("openExtractor", "feature-extraction", model, options));
}

/** What is in the worker as a function. */
export function toExtractor({ client, opened, listeners }: Pick<InWorker, "client" | "opened" | "listeners">): FeatureExtractionPipeline {
  const extract = async (input: unknown, options: FeatureExtractionOptions = {}): Promise<Tensor> => {
    const { signal, ...rest } = options;
    const request = { texts: toTexts(input), ...toRequest(rest) };
    const { data, dims } = await client.call<Features>("features", request, { signal });
    return new Tensor(data, dims);
  };
  listeners.hear(client);
  let disposing: Promise<MemoryUse | null> | undefined;
  return Object.assign(extract, {
    task: "feature-extraction" as const,
    tokenizer: new Tokenizer(client),
    info: opened.info,
    memory: (options: CallOptions = {}): Promise<MemoryReport> => client.call("memory", {}, options),
    kernels: (options: CallOptions = {}): Promise<KernelReport | null> => client.call("kernels", {}, options),
    on: listeners.add.bind(listeners) as FeatureExtractionPipeline["on"],
    loseDevice: (): Promise<void> => client.call("loseDevice", {}),
    dispose: () => (disposing ??= dispose(client, listeners)),
  });
}

async function dispose(client: Client, listeners: Listeners): Promise<MemoryUse | null> {
  const left = await client.close(new DisposedError("the pipeline was disposed of"));
  listeners.clear();
  return left;
}

const isPair = (value: unknown): value is TextPair =>
  typeof value === "object" && value !== null && typeof (value as TextPair).text === "string" && typeof (value as TextPair).text_pair === "string";

function toTexts(input: unknown): FeaturesRequest["texts"] {
  const all: unknown[] = Array.isArray(input) ? input : [input];
  return all.map((one) => {
    if (typeof one === "string") return one;
    if (isPair(one)) return [one.text, one.text_pair];
    throw new InvalidRequestError("input: give a text, a {text, text_pair}, or a list of these", { param: "input" });
  });
}

/** Options of Transformers.js that mean nothing here. */
const unsupported = new Set(["quantize", "precision"]);

function toRequest(options: Omit<FeatureExtractionOptions, "signal">): Omit<FeaturesRequest, "texts"> {
  const request: Omit<FeaturesRequest, "texts"> = {};
  for (const [param, value] of Object.entries(options) as [string, unknown][]) {
    if (value === undefined || (unsupported.has(param) && value === false)) continue;
    if (param === "pooling") {
      if (value !== "none" && value !== "mean" && value !== "cls") {
        const message = `pooling ${String(value)} is not supported: give "none", "mean" or "cls"`;
        throw new UnsupportedParameterError(message, { param });
      }
      request.pooling = value;
    } else if (param === "normalize") {
      if (typeof value !== "boolean") throw new InvalidRequestError("normalize is true or false", { param });
      request.normalize = value;
    } else if (unsupported.has(param)) {
      throw new UnsupportedParameterError(`the option ${param} is not supported`, { param });
    } else {
      throw new InvalidRequestError(`there is no option ${param}`, { param });
    }
  }
  return request;
}
