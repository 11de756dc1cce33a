/** Profiles: settings of a model in one object, by their names in Python's transformers. What they mean is read in the wasm. */
import { InvalidRequestError, NetworkError } from "./errors.js";
import type { GenerationOptions } from "./generation.js";
import type { CacheDtype, Dtype } from "./wasm.js";

/** How a model is opened and generates. Options of a call go over it; it goes over the model's `generation_config.json`. */
export interface Profile extends GenerationOptions {
  /** Of which model it is: for another one, its `revision` and `gguf_file` count for nothing. */
  model?: string | undefined;
  /** Branch, tag or commit on the Hub. */
  revision?: string | undefined;
  /** Which GGUF file is meant. */
  gguf_file?: string | undefined;
  /** How weights are stored. `"bfloat16"` is stored as `"float16"`. */
  torch_dtype?: ProfileDtype | undefined;
  /** The same. */
  dtype?: ProfileDtype | undefined;
  /** Weights in few bits. `"none"`: in 16, or as `torch_dtype` says. */
  quantization?: "q8" | "q4a" | "q4" | "nf4" | "none" | undefined;
  /** The same, as transformers' `BitsAndBytesConfig` has it. */
  quantization_config?: BitsAndBytesConfig | undefined;
  /** The most memory of the GPU: `"3.8GB"`, bytes, or that of device 0. */
  max_memory?: number | string | { 0: number | string } | undefined;
  /** Layers that stay on the GPU. */
  gpu_layers?: number | undefined;
  /** The most tokens of prompt and answer together. */
  context?: number | undefined;
  /** The most tokens of a prompt in one step. */
  prefill_chunk_size?: number | undefined;
  cache_dtype?: CacheDtype | undefined;
  /** `"full"`, `"window:TOKENS"` or `"snapkv:TOKENS"`. */
  cache_policy?: string | undefined;
  batch_strategy?: string | undefined;
  /** Settings of generations, as `generation_config.json` has them; those outside go over them. */
  generation_config?: (GenerationOptions & { lookahead?: number | undefined }) | undefined;
  /** How many steps the GPU may be ahead of the text. */
  lookahead?: number | undefined;
}

/** As PyTorch names it, or as the option `dtype` does. */
export type ProfileDtype = "float32" | "float16" | "bfloat16" | Dtype;

/** Quantization by transformers' names. */
export interface BitsAndBytesConfig {
  quant_method?: "bitsandbytes" | undefined;
  load_in_8bit?: boolean | undefined;
  load_in_4bit?: boolean | undefined;
  bnb_4bit_quant_type?: "nf4" | undefined;
  bnb_4bit_compute_dtype?: "float16" | "bfloat16" | undefined;
  bnb_4bit_use_double_quant?: false | undefined;
}

/** The most characters of a profile: it is a page of settings. */
const MAX_TEXT = 1 << 20;

const invalid = (message: string, cause?: unknown) => new InvalidRequestError(message, { param: "profile", cause });

/** What is given as a profile, an object, its text in YAML or JSON or the address of that, as an object. */
export async function readProfile(given: object | string | URL, signal?: AbortSignal): Promise<object> {
  if (given instanceof URL) return parse(await fetched(given, signal), given.href);
  if (typeof given !== "string") {
    if (typeof given === "object" && given !== null && !Array.isArray(given)) return given;
    throw invalid("profile: give an object, a text in YAML or JSON, or an address");
  }
  // no address has a line's end, a space after a colon or a bracket before all else
  if (/^\s*\{|\n|: /.test(given)) return parse(given, "profile");
  let url: URL;
  try {
    url = new URL(given, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw invalid(`profile: ${given} is neither YAML, JSON nor an address`, cause);
  }
  return parse(await fetched(url, signal), given);
}

async function fetched(url: URL, signal: AbortSignal | undefined): Promise<string> {
  const { href } = url;
  let response: Response;
  try {
    response = await fetch(url, signal ? { signal } : {});
  } catch (cause) {
    signal?.throwIfAborted();
    throw new NetworkError(`${href}: the profile cannot be fetched`, { url: href, cause });
  }
  if (!response.ok) {
    const { status } = response;
    throw new NetworkError(`${href}: the profile cannot be fetched (status ${status})`, { url: href, status });
  }
  return response.text();
}

/** JSON is a part of YAML; where it is not that, what reads YAML is loaded. */
async function parse(text: string, name: string): Promise<object> {
  if (text.length > MAX_TEXT) throw invalid(`${name}: more than ${MAX_TEXT} characters are no profile`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const { load } = await import("./js-yaml.js");
    try {
      // an alias within itself, or many of many, would never end as JSON
      value = load(text, { maxAliases: 0 });
    } catch (cause) {
      throw invalid(`${name}: neither YAML nor JSON: ${(cause as Error).message}`, cause);
    }
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw invalid(`${name}: keys and their values were expected`);
}
