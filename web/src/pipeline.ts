/** The door that is shaped as in Transformers.js. */
import { concurrently } from "./concurrent.js";
import { createEngine, type CallOptions, type Engine, type EngineEvents, type GenerateInput } from "./engine.js";
import { InvalidRequestError, UnsupportedParameterError } from "./errors.js";
import { createExtractor, type FeatureExtractionPipeline } from "./features.js";
import type { GenerationOptions } from "./generation.js";
import type { LoadOptions } from "./options.js";
import type { ModelSource } from "./source.js";
import { TextStreamer, type BaseStreamer } from "./streamer.js";
import { streamOf } from "./stream.js";
import type { Tokenizer } from "./tokenizer.js";
import type { FacadeMessage, MemoryReport, MemoryUse, ModelInfo, Piece } from "./wasm.js";

/** A message of a chat; fields beyond these reach the model's template. */
export interface Message extends FacadeMessage {
  role: string;
  content?: unknown;
}

/** Messages. */
export type Chat = readonly Message[];

/** How to generate: Hugging Face's settings, and what is said here. */
export interface TextGenerationOptions extends GenerationOptions, CallOptions {
  /** Hears of every token. For one text or chat, not for a list of them. */
  streamer?: BaseStreamer | undefined;
  /** How many of a list are given to the engine at once; all by default. How many of them share a step is the engine's affair. */
  batch_size?: number | undefined;
  /** `false`: only what was added to a text. Chats always come back as a whole. */
  return_full_text?: boolean | undefined;
  /** For the chat template. */
  tools?: readonly object[] | undefined;
  /** For the chat template. */
  documents?: readonly object[] | undefined;
  /** Name of one of the model's chat templates. */
  chat_template?: string | undefined;
  /** Variables for the chat template, such as `{enable_thinking: false}`. */
  tokenizer_encode_kwargs?: Record<string, unknown> | undefined;
}

/** What became of a text. */
export interface TextGenerationSingle {
  generated_text: string;
}

/** What became of a chat: its messages and the answer. */
export interface TextGenerationSingleChat {
  generated_text: Message[];
}

/** A loaded model as a function. */
export interface TextGenerationPipeline {
  /** Continues a text, or answers a chat. */
  (text: string, options?: TextGenerationOptions): Promise<[TextGenerationSingle]>;
  (messages: Chat, options?: TextGenerationOptions): Promise<[TextGenerationSingleChat]>;
  /** The same of a list, in its order, all at once. Where one fails, the call rejects and the others are ended. */
  (texts: readonly string[], options?: TextGenerationOptions): Promise<[TextGenerationSingle][]>;
  (chats: readonly Chat[], options?: TextGenerationOptions): Promise<[TextGenerationSingleChat][]>;
  /** The same, one piece of text after the other; leaving the loop ends the generation. */
  stream(input: string | Chat, options?: Omit<TextGenerationOptions, "streamer" | "batch_size">): AsyncIterableIterator<string>;
  readonly task: "text-generation";
  /** The engine below, for its other door and its events. */
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly info: ModelInfo;
  /** As `engine.memory`. */
  memory(options?: CallOptions): Promise<MemoryReport>;
  /** As `engine.on`. */
  on<T extends keyof EngineEvents>(type: T, listener: (event: EngineEvents[T]) => void): () => void;
  /** Gives all memory back and ends the worker. */
  dispose(): Promise<MemoryUse | null>;
}

/** Tasks that there are. */
export const supportedTasks = ["text-generation", "feature-extraction"] as const;

/** Loads `model` for `task`. */
export function pipeline(task: "text-generation", model: ModelSource, options?: LoadOptions): Promise<TextGenerationPipeline>;
export function pipeline(task: "feature-extraction", model: ModelSource, options?: LoadOptions): Promise<FeatureExtractionPipeline>;
export async function pipeline(
  task: string,
  model: ModelSource,
  options: LoadOptions = {},
): Promise<TextGenerationPipeline | FeatureExtractionPipeline> {
  if (task === "feature-extraction") return createExtractor(model, options);
  if (task !== "text-generation") {
    throw new UnsupportedParameterError(`task: ${task} is not supported; there is ${supportedTasks.join(", ")}`, { param: "task" });
  }
  return toPipeline(await createEngine(model, options));
}

const isMessage = (value: unknown): value is Message => typeof value === "object" && value !== null && "role" in value;
const isChat = (value: unknown): value is Chat => Array.isArray(value) && value.length > 0 && value.every(isMessage);

/** An engine as a function; `dispose` is what its `dispose` does. */
export function toPipeline(engine: Engine, dispose: () => Promise<MemoryUse | null> = () => engine.dispose()): TextGenerationPipeline {
  async function generate(input: unknown, { batch_size, ...options }: TextGenerationOptions = {}): Promise<unknown> {
    if (typeof input === "string" || isChat(input)) return generateOne(engine, input, options);
    if (!Array.isArray(input) || !input.every((one) => typeof one === "string" || isChat(one))) {
      throw new InvalidRequestError("input: give a text, a list of messages, or a list of these", { param: "input" });
    }
    if (options.streamer) {
      throw new InvalidRequestError("streamer: it hears of one text or chat, not of a list of them", { param: "streamer" });
    }
    if (batch_size !== undefined && !(Number.isSafeInteger(batch_size) && batch_size > 0)) {
      const message = `batch_size is ${String(batch_size)}, expected a whole number of at least 1`;
      throw new InvalidRequestError(message, { param: "batch_size" });
    }
    return concurrently(input as (string | Chat)[], batch_size ?? input.length, options.signal, (one, signal) =>
      generateOne(engine, one, { ...options, signal }),
    );
  }
  const members = {
    task: "text-generation" as const,
    engine,
    tokenizer: engine.tokenizer,
    info: engine.info,
    stream(input: string | Chat, options: Omit<TextGenerationOptions, "streamer" | "batch_size"> = {}) {
      return streamOf<string>((signal, push) => {
        const tell = (piece: Piece) => void (piece.text !== "" && push(piece.text));
        return generateOne(engine, input, { ...options, signal }, tell);
      }, options.signal);
    },
    memory: (options?: CallOptions) => engine.memory(options),
    on: engine.on.bind(engine),
    dispose,
  };
  return Object.assign(generate as TextGenerationPipeline, members);
}

async function generateOne(
  engine: Engine,
  input: string | Chat,
  options: Omit<TextGenerationOptions, "batch_size">,
  tell?: (piece: Piece) => void,
): Promise<[TextGenerationSingle] | [TextGenerationSingleChat]> {
  const { streamer, signal, return_full_text, tools, documents, chat_template, tokenizer_encode_kwargs, ...settings } = options;
  const request: GenerateInput = { options: settings };
  if (typeof input === "string") {
    request.prompt = input;
  } else if (isChat(input)) {
    request.messages = input;
    const chat: Record<string, unknown> = { add_generation_prompt: true, ...tokenizer_encode_kwargs };
    for (const [name, value] of Object.entries({ tools, documents, chat_template })) if (value !== undefined) chat[name] = value;
    request.chat = chat;
  } else {
    throw new InvalidRequestError("input: give a text or a list of messages", { param: "input" });
  }
  if (streamer) await announcePrompt(engine, request, streamer, signal);
  const onPiece = (piece: Piece) => {
    tell?.(piece);
    streamer?.put([[BigInt(piece.id)]]);
    if (piece.text !== "" && streamer instanceof TextStreamer) streamer.put_text(piece.text);
  };
  try {
    const { text } = await engine.generate(request, { signal, onPiece });
    streamer?.end();
    if (typeof input !== "string") return [{ generated_text: [...input, { role: "assistant", content: text }] }];
    return [{ generated_text: return_full_text === false ? text : input + text }];
  } catch (error) {
    streamer?.abort(error);
    throw error;
  }
}

/** Streamers hear of the prompt first. */
async function announcePrompt(
  engine: Engine,
  request: GenerateInput,
  streamer: BaseStreamer,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { tokenizer } = engine;
  if (streamer instanceof TextStreamer && streamer.skip_prompt) return streamer.put([]);
  const text = request.prompt ?? (await tokenizer.apply_chat_template(request.messages ?? [], { ...request.chat, signal }));
  const ids = await tokenizer.encode(text, { add_special_tokens: request.prompt !== undefined, signal });
  streamer.put([ids.map(BigInt)]);
  if (streamer instanceof TextStreamer) {
    streamer.put_text(request.prompt ?? (await tokenizer.decode(ids, { skip_special_tokens: true, signal })));
  }
}
