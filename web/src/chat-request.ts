/** Requests in OpenAI's shape: checked, and as the engine takes them. */
import type { ChatCompletionRequest } from "./chat-types.js";
import type { GenerateInput } from "./engine.js";
import { InvalidRequestError, UnsupportedParameterError } from "./errors.js";
import type { FacadeMessage } from "./wasm.js";
import type { GenerationOptions } from "./generation.js";

/** Fields of a request that are supported. */
export const supportedFields = [
  "messages",
  "model",
  "stream",
  "stream_options",
  "max_completion_tokens",
  "max_tokens",
  "temperature",
  "top_p",
  "stop",
  "seed",
  "logprobs",
  "top_logprobs",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "user",
  "n",
  "response_format",
  "top_k",
  "min_p",
  "repetition_penalty",
  "prompt_lookup_num_tokens",
  "chat_template_kwargs",
] as const satisfies readonly (keyof ChatCompletionRequest)[];

/** Fields that OpenAI's API has and this one does not. */
const unsupported = new Set([
  ...["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "audio", "modalities", "prediction"],
  ...["reasoning_effort", "verbosity", "web_search_options", "store", "metadata", "service_tier", "safety_identifier"],
  ...["prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "moderation"],
]);

const invalid = (param: string, message: string) => new InvalidRequestError(`${param}: ${message}`, { param });
const refused = (param: string, message: string) => new UnsupportedParameterError(`${param}: ${message}`, { param });

/** A checked request. */
export interface ChatRequest {
  /** One for each answer that is wanted: they differ in their seeds. */
  inputs: GenerateInput[];
  model: string | undefined;
  stream: boolean;
  includeUsage: boolean;
  logprobs: boolean;
}

/** `body` as the engine takes it; `context` is the most tokens that it holds. */
export function parseChatRequest(body: ChatCompletionRequest, context: number): ChatRequest {
  if (typeof body !== "object" || body === null) throw invalid("body", "expected an object");
  for (const [name, value] of Object.entries(body)) {
    if (value === undefined || value === null || (supportedFields as readonly string[]).includes(name)) continue;
    if (unsupported.has(name)) throw refused(name, "not supported");
    throw invalid(name, "there is no such field");
  }
  if (present(body.response_format) && (body.response_format as { type?: unknown }).type !== "text") {
    throw refused("response_format", 'only {"type": "text"} is supported');
  }
  const stream = flag(body, "stream") ?? false;
  const options: GenerationOptions = {};

  const most = number(body, "max_completion_tokens", 1, Infinity, true);
  const most_old = number(body, "max_tokens", 1, Infinity, true);
  if (most !== undefined && most_old !== undefined && most !== most_old) {
    throw invalid("max_tokens", "differs from max_completion_tokens, which is another name of it");
  }
  options.max_new_tokens = most ?? most_old ?? context;

  const temperature = number(body, "temperature", 0, 2);
  const top_p = number(body, "top_p", 0, 1);
  const top_k = number(body, "top_k", 0, Infinity, true);
  const min_p = number(body, "min_p", 0, 1);
  if (temperature === 0) options.do_sample = false;
  // any of them says that the answer is to be drawn
  else if ([temperature, top_p, top_k, min_p].some((value) => value !== undefined)) {
    Object.assign(options, { do_sample: true, temperature, top_p: top_p === 0 ? Number.MIN_VALUE : top_p, top_k, min_p });
  }
  options.seed = number(body, "seed", -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, true);
  if (options.seed !== undefined && options.seed < 0) options.seed += Number.MAX_SAFE_INTEGER;
  options.presence_penalty = number(body, "presence_penalty", -2, 2);
  options.frequency_penalty = number(body, "frequency_penalty", -2, 2);
  options.repetition_penalty = number(body, "repetition_penalty", 0, Infinity);
  options.prompt_lookup_num_tokens = number(body, "prompt_lookup_num_tokens", 0, 31, true);

  if (present(body.stop)) {
    const stop = typeof body.stop === "string" ? [body.stop] : body.stop;
    if (!Array.isArray(stop) || stop.some((one) => typeof one !== "string" || one === "")) {
      throw invalid("stop", "expected a text or a list of texts, none of them empty");
    }
    options.stop_strings = [...stop];
  }

  const logprobs = flag(body, "logprobs") ?? false;
  const top_logprobs = number(body, "top_logprobs", 0, 20, true);
  if (top_logprobs !== undefined && !logprobs) throw invalid("top_logprobs", "needs logprobs: true");
  if (logprobs) options.logprobs = top_logprobs ?? 0;

  if (present(body.logit_bias)) {
    if (typeof body.logit_bias !== "object") throw invalid("logit_bias", "expected an object of token ids and numbers");
    options.sequence_bias = Object.entries(body.logit_bias).map(([id, bias]) => {
      const param = `logit_bias[${JSON.stringify(id)}]`;
      if (!/^\d+$/.test(id)) throw invalid(param, "the key is no token id");
      if (typeof bias !== "number" || !(Math.abs(bias) <= 100)) throw invalid(param, "expected a number of -100 to 100");
      return [[Number(id)], bias];
    });
  }

  const usage = body.stream_options;
  if (present(usage)) {
    if (typeof usage !== "object") throw invalid("stream_options", "expected an object");
    if (!stream) throw invalid("stream_options", "needs stream: true");
    for (const [name, value] of Object.entries(usage)) {
      if (name === "include_obfuscation" && !value) continue;
      if (name !== "include_usage") throw refused(`stream_options.${name}`, "not supported");
    }
  }
  if (present(body.model) && typeof body.model !== "string") throw invalid("model", "expected a text");
  if (present(body.user) && typeof body.user !== "string") throw invalid("user", "expected a text");
  const chat = body.chat_template_kwargs ?? {};
  if (typeof chat !== "object" || Array.isArray(chat)) throw invalid("chat_template_kwargs", "expected an object");

  const n = number(body, "n", 1, 128, true) ?? 1;
  const input: GenerateInput = { messages: toMessages(body.messages), chat: { add_generation_prompt: true, ...chat } };
  return {
    inputs: Array.from({ length: n }, (_, at) => ({ ...input, options: { ...options, seed: seedOf(options.seed, at) } })),
    model: body.model ?? undefined,
    stream,
    includeUsage: usage?.include_usage === true,
    logprobs,
  };
}

/** The seed of answer `at`; of none, each draws its own. Behind the largest comes 0. */
function seedOf(first: number | undefined, at: number): number | undefined {
  if (first === undefined) return undefined;
  const left = Number.MAX_SAFE_INTEGER - first;
  return at <= left ? first + at : at - left - 1;
}

function present<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

function flag(body: ChatCompletionRequest, name: "stream" | "logprobs"): boolean | undefined {
  const value: unknown = body[name];
  if (!present(value)) return undefined;
  if (typeof value !== "boolean") throw invalid(name, "expected true or false");
  return value;
}

function number(
  body: ChatCompletionRequest,
  name: keyof ChatCompletionRequest,
  least: number,
  most: number,
  whole = false,
): number | undefined {
  const value: unknown = body[name];
  if (!present(value)) return undefined;
  if (typeof value !== "number" || !(value >= least && value <= most) || (whole && !Number.isSafeInteger(value))) {
    const range = most === Infinity ? `of at least ${least}` : `of ${least} to ${most}`;
    throw invalid(name, `expected a ${whole ? "whole number" : "number"} ${range}, got ${JSON.stringify(value) ?? String(value)}`);
  }
  return value;
}

/** Messages as templates expect them: texts in one piece; what OpenAI now calls `developer` is `system` to them. */
function toMessages(messages: unknown): FacadeMessage[] {
  if (!Array.isArray(messages) || messages.length === 0) throw invalid("messages", "expected a list of at least one message");
  return messages.map((message: unknown, at): FacadeMessage => {
    const param = `messages[${at}]`;
    if (typeof message !== "object" || message === null) throw invalid(param, "expected an object");
    const { role, content } = message as { role?: unknown; content?: unknown };
    if (typeof role !== "string") throw invalid(`${param}.role`, "expected a text");
    const said: FacadeMessage = { ...message, role: role === "developer" ? "system" : role };
    if (Array.isArray(content)) said.content = content.map((part, i) => textOf(part, `${param}.content[${i}]`)).join("");
    else if (present(content) && typeof content !== "string") throw invalid(`${param}.content`, "expected a text or a list of parts");
    return said;
  });
}

function textOf(part: unknown, param: string): string {
  if (typeof part !== "object" || part === null) throw invalid(param, "expected an object");
  const { type, text } = part as { type?: unknown; text?: unknown };
  if (type !== "text") throw refused(`${param}.type`, `${JSON.stringify(type)} is not supported: only texts are`);
  if (typeof text !== "string") throw invalid(`${param}.text`, "expected a text");
  return text;
}
