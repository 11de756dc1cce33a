/** Chat completions in OpenAI's shapes. */
import { parseChatRequest, type ChatRequest } from "./chat-request.js";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatFinishReason,
  ChoiceLogprobs,
  CompletionUsage,
  PlainChatCompletionRequest,
  StreamingChatCompletionRequest,
  TokenLogprob,
} from "./chat-types.js";
import { concurrently } from "./concurrent.js";
import type { CallOptions, Engine } from "./engine.js";
import { streamOf } from "./stream.js";
import type { GenerateResult, ModelInfo, Piece } from "./wasm.js";
import { version } from "./version.js";

/** `engine.chat.completions`. */
export class ChatCompletions {
  readonly #engine: Engine;

  /** @internal */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Answers a chat. With `stream: true`, the answer is an async iterable of chunks; leaving its loop ends the generation.
   *
   * @throws {UnsupportedParameterError} for fields that OpenAI has and this does not, as `tools`; it names the field
   * @throws {InvalidRequestError} for fields and values that make no sense
   */
  create(request: PlainChatCompletionRequest, options?: CallOptions): Promise<ChatCompletion>;
  create(request: StreamingChatCompletionRequest, options?: CallOptions): Promise<AsyncIterableIterator<ChatCompletionChunk>>;
  create(
    request: ChatCompletionRequest,
    options?: CallOptions,
  ): Promise<ChatCompletion | AsyncIterableIterator<ChatCompletionChunk>>;
  async create(
    request: ChatCompletionRequest,
    options: CallOptions = {},
  ): Promise<ChatCompletion | AsyncIterableIterator<ChatCompletionChunk>> {
    const parsed = parseChatRequest(request, this.#engine.info.context);
    const head: Head = {
      id: `chatcmpl-${randomId()}`,
      created: Math.floor(Date.now() / 1000),
      model: parsed.model ?? this.#engine.name,
      system_fingerprint: fingerprint(this.#engine.info),
    };
    if (parsed.stream) {
      return streamOf<ChatCompletionChunk>((signal, push) => this.#stream(head, parsed, signal, push), options.signal);
    }
    const answers = await concurrently(parsed.inputs, parsed.inputs.length, options.signal, async (input, signal, index) => {
      const pieces: Piece[] = [];
      const result = await this.#engine.generate(input, { signal, onPiece: (piece) => pieces.push(piece) });
      const choice: ChatCompletion["choices"][number] = {
        index,
        message: { role: "assistant", content: result.text, refusal: null },
        logprobs: parsed.logprobs ? toLogprobs(pieces) : null,
        finish_reason: finishReason(result),
      };
      return { choice, result };
    });
    return {
      ...head,
      object: "chat.completion",
      choices: answers.map(({ choice }) => choice),
      usage: toUsage(answers.map(({ result }) => result)),
    };
  }

  async #stream(
    head: Head,
    request: ChatRequest,
    signal: AbortSignal,
    push: (chunk: ChatCompletionChunk) => void,
  ): Promise<void> {
    type Choice = ChatCompletionChunk["choices"][number];
    const send = (choices: Choice[], usage: CompletionUsage | null) => {
      const chunk: ChatCompletionChunk = { ...head, object: "chat.completion.chunk", choices };
      if (request.includeUsage) chunk.usage = usage;
      push(chunk);
    };
    const results = await concurrently(request.inputs, request.inputs.length, signal, async (input, signal, index) => {
      const say = (delta: Choice["delta"], logprobs: ChoiceLogprobs | null, finish_reason: Choice["finish_reason"]) =>
        send([{ index, delta, logprobs, finish_reason }], null);
      let begun = false;
      const begin = () => {
        if (!begun) say({ role: "assistant", content: "" }, null, null);
        begun = true;
      };
      const onPiece = (piece: Piece) => {
        begin();
        // a token may add no text yet; then there is only something to say if its probability is wanted
        if (piece.text === "" && !request.logprobs) return;
        say({ content: piece.text }, request.logprobs ? toLogprobs([piece]) : null, null);
      };
      const result = await this.#engine.generate(input, { signal, onPiece });
      begin();
      say({}, null, finishReason(result));
      return result;
    });
    if (request.includeUsage) send([], toUsage(results));
  }
}

interface Head {
  id: string;
  created: number;
  model: string;
  system_fingerprint: string;
}

function randomId(): string {
  // randomUUID is missing on pages that are not secure; getRandomValues is everywhere
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What the same seed gives the same text with: version, types, adapter. */
function fingerprint(info: ModelInfo): string {
  return ["webweft", version, info.dtype, info.activations, info.adapter.name].join("_").replace(/[^\w.]+/g, "-");
}

const finishReason = (result: GenerateResult): ChatFinishReason => (result.finish_reason === "length" ? "length" : "stop");

function toLogprobs(pieces: Piece[]): ChoiceLogprobs {
  const content = pieces.map(
    (piece): TokenLogprob => ({
      token: piece.token ?? piece.text,
      bytes: piece.bytes ?? null,
      // -9999 stands for very unlikely in OpenAI's API; JSON has no -Infinity
      logprob: finite(piece.logprob),
      top_logprobs: (piece.top ?? []).map((top) => ({ token: top.text, bytes: top.bytes, logprob: finite(top.logprob) })),
    }),
  );
  return { content, refusal: null };
}

const finite = (logprob: number | undefined) => (logprob !== undefined && Number.isFinite(logprob) ? logprob : -9999);

/** Usage of one request: its answers have one prompt, and are generated at the same time. */
function toUsage(results: GenerateResult[]): CompletionUsage {
  const most = (of: (result: GenerateResult) => number) => Math.max(...results.map(of));
  const sum = (of: (result: GenerateResult) => number) => results.reduce((total, result) => total + of(result), 0);
  const perSecond = (tokens: number, ms: number) => (ms > 0 ? (1000 * tokens) / ms : 0);
  const prompt_tokens = most((result) => result.prompt_tokens);
  const completion_tokens = sum(({ ids }) => ids.length);
  const prefill_ms = most(({ timing }) => timing.prefill_ms);
  const decode_ms = most(({ timing }) => timing.decode_ms);
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    // what an answer found of another one's prompt was not there before the request
    prompt_tokens_details: { cached_tokens: Math.min(...results.map((result) => result.cached_tokens)) },
    extra: {
      prefill_tokens_per_s: perSecond(sum(({ timing }) => timing.prefill_tokens), prefill_ms),
      decode_tokens_per_s: perSecond(sum(({ timing }) => timing.decode_tokens), decode_ms),
      prefill_ms,
      decode_ms,
    },
  };
}
