/** One model in one worker: what both doors stand on. */
import { ChatCompletions } from "./chat.js";
import { Client } from "./client.js";
import { DisposedError, InvalidRequestError, type WebweftError } from "./errors.js";
import type {
  FacadeMessage,
  GenerateResult,
  KernelReport,
  LoadEvent,
  LoadStage,
  MemoryReport,
  MemoryUse,
  ModelInfo,
  NoticeCode,
  Piece,
  PrecisionReport,
  Roofline,
} from "./wasm.js";
import { toGenerationOptions, type GenerationOptions } from "./generation.js";
import type { Opened } from "./host.js";
import type { Notification } from "./resident.js";
import { toOpenOptions, type LoadOptions } from "./options.js";
import { readProfile } from "./profile.js";
import { Progress, type ProgressInfo } from "./progress.js";
import { resolveSource, type ModelSource } from "./source.js";
import type { SavedCache } from "./saved.js";
import { streamOf } from "./stream.js";
import { Tokenizer } from "./tokenizer.js";
import { requireWebGPU } from "./webgpu.js";

/** What {@link Engine.on} tells, by name. */
export interface EngineEvents {
  /** The same as `progress_callback`. */
  progress: ProgressInfo;
  /** What loading does now. */
  stage: { stage: LoadStage };
  /** A file is about to be read, and from where; bytes. */
  file: { file: string; size: number; from: "network" | "cache" | "local" };
  /** Something to know that is no failure, such as a cache that cannot be used. */
  notice: { code: NoticeCode; message: string };
  /** The GPU device is gone; the engine opens the model again. `attempt` counts from 1. */
  devicelost: { message: string; attempt: number };
  /** The model is back after `ms`; what was under way goes on. */
  recovered: { attempt: number; ms: number };
  /** What was measured while nothing else was done: which kernels are fastest here. */
  kernels: KernelReport;
  /** GPU memory after loading and after each generation. */
  memory: MemoryUse;
}

/** What is to be continued: exactly one of `prompt`, `ids` and `messages`. */
export interface GenerateInput {
  /** A text. */
  prompt?: string | undefined;
  /** Token ids. */
  ids?: readonly number[] | undefined;
  /** A chat, which the model's template writes as a prompt. */
  messages?: readonly FacadeMessage[] | undefined;
  /** For the template: `tools`, `documents`, `add_generation_prompt`, and variables of its own as `enable_thinking`. */
  chat?: Record<string, unknown> | undefined;
  /** Settings, over the model's own. */
  options?: GenerationOptions | undefined;
}

/** How to make a call. */
export interface CallOptions {
  /** Ends the call, also while it waits, and no other: it rejects with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

type Listener<T extends keyof EngineEvents> = (event: EngineEvents[T]) => void;

/** A loaded model in a worker of its own. Made by {@link createEngine}. */
export class Engine {
  /** The model as it was asked for. */
  readonly name: string;
  /** What was loaded. */
  readonly info: ModelInfo;
  /** The model's tokenizer, which lives in the worker. */
  readonly tokenizer: Tokenizer;
  /** OpenAI's shapes. */
  readonly chat: { readonly completions: ChatCompletions };
  readonly #client: Client;
  readonly #listeners: Listeners;
  #disposing: Promise<MemoryUse | null> | undefined;

  /** @internal */
  constructor(name: string, client: Client, opened: Opened, listeners: Listeners) {
    this.name = name;
    this.info = opened.info;
    this.#client = client;
    this.#listeners = listeners;
    this.tokenizer = new Tokenizer(client);
    this.chat = { completions: new ChatCompletions(this) };
    listeners.hear(client);
  }

  /** Listens; the returned function ends that. */
  on<T extends keyof EngineEvents>(type: T, listener: Listener<T>): () => void {
    return this.#listeners.add(type, listener);
  }

  /** Generates; `onPiece` hears of every token. Calls run side by side: the engine computes what is under way in one step. */
  generate(
    input: GenerateInput,
    options: CallOptions & { onPiece?: ((piece: Piece) => void) | undefined } = {},
  ): Promise<GenerateResult> {
    try {
      const { prompt, ids, messages, chat } = input;
      if ([prompt, ids, messages].filter((one) => one !== undefined).length !== 1) {
        throw new InvalidRequestError("give exactly one of prompt, ids and messages", { param: "prompt" });
      }
      const request: Record<string, unknown> = { options: toGenerationOptions(input.options ?? {}, this.info.generation_defaults) };
      if (prompt !== undefined) request["prompt"] = prompt;
      if (ids !== undefined) request["ids"] = [...ids];
      if (messages !== undefined) request["messages"] = messages;
      if (chat !== undefined) request["chat"] = chat;
      return this.#client.call<GenerateResult, Piece>("generate", request, { signal: options.signal, onEvent: options.onPiece });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Generates, piece by piece. Leaving the loop ends the generation. */
  stream(input: GenerateInput, options: CallOptions = {}): AsyncIterableIterator<Piece> {
    return streamOf((signal, push) => this.generate(input, { signal, onPiece: push }), options.signal);
  }

  /** Memory that the model takes, by what it is for, by label, and over time. */
  memory(options: CallOptions = {}): Promise<MemoryReport> {
    return this.#client.call("memory", {}, options);
  }

  /** Which types activations and cache have by now, why, and which values they did not hold. */
  precision(options: CallOptions = {}): Promise<PrecisionReport> {
    return this.#client.call("precision", {}, options);
  }

  /**
   * Which kernels are taken on this GPU, and what was found about them: wrong ones are not used, and once nothing is under way, it is
   * measured which are fastest. `null` with `portable`, and where nothing could be tested.
   */
  kernels(options: CallOptions = {}): Promise<KernelReport | null> {
    return this.#client.call("kernels", {}, options);
  }

  /**
   * Saves what the cache holds, keys and values, of the text that ended last, or of the longest beginning of `ids` (a prompt and what
   * followed it). With `file`, under this name in the browser's private file system (OPFS), where {@link restoreCache} finds it at the
   * next visit; else as a `blob`.
   *
   * @throws {SavedCacheError} where the cache has nothing of it
   * @throws {StorageError} where the browser's storage refuses
   */
  async saveCache(options: CallOptions & { ids?: readonly number[] | undefined; file?: string | undefined } = {}): Promise<SavedCache> {
    const { ids, file, signal } = options;
    const given = { ...(ids && { ids: [...ids] }), ...(file !== undefined && { file: fileName(file) }) };
    return this.#client.call("saveCache", given, { signal });
  }

  /**
   * Puts back what {@link saveCache} saved, here or at an earlier visit: a blob, its bytes, or a name. Prompts that begin with its tokens
   * do not compute them again (`cached_tokens`). The model, its `dtype` and the options of the cache must be the same. Gives how many
   * tokens there are.
   *
   * @throws {SavedCacheError} where it does not fit, is damaged, or (`code` is `"not_found"`) nothing has this name
   */
  async restoreCache(from: Blob | Uint8Array<ArrayBuffer> | ArrayBuffer | string, options: CallOptions = {}): Promise<number> {
    const file = typeof from === "string" ? fileName(from) : from instanceof Blob ? from : new Blob([from]);
    return this.#client.call("restoreCache", { from: file }, options);
  }

  /** Forgets the cached conversations. Waits for the generations before it, as those after it wait for it. */
  reset(options: CallOptions = {}): Promise<void> {
    return this.#client.call("reset", {}, options);
  }

  /**
   * Measures what this GPU can do at most: bandwidth, arithmetic, and the cost of dispatches, submits and readbacks. It takes two seconds
   * (some twenty where each answer of the browser takes 100 ms) and up to 512 MiB of GPU memory for as long; no generation runs meanwhile.
   *
   * @throws {OutOfMemoryError} where not even the smallest copy has room
   */
  roofline(options: CallOptions = {}): Promise<Roofline> {
    return this.#client.call("roofline", {}, options);
  }

  /** Loses the GPU device, as a driver's reset does: to test what a page does then. */
  loseDevice(): Promise<void> {
    return this.#client.call("loseDevice", {});
  }

  /**
   * Ends what is under way and what waits (with a `DisposedError`), gives all GPU memory back and ends the worker. Resolves to
   * what is still in use on the GPU, which is nothing; to `null` where the worker did not answer and took it along.
   */
  dispose(): Promise<MemoryUse | null> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  async #dispose(): Promise<MemoryUse | null> {
    const left = await this.#client.close(new DisposedError("the engine was disposed of"));
    this.#listeners.clear();
    return left;
  }
}

/** A name that may be that of a file. */
function fileName(name: string): string {
  if (name !== "" && !/[/\\\0]|^\.+$/.test(name)) return name;
  throw new InvalidRequestError("file: a name without slashes is expected", { param: "file" });
}

/** Listeners by the event's name. */
export class Listeners {
  readonly #all = new Map<string, Set<(event: never) => void>>();

  add<T extends keyof EngineEvents>(type: T, listener: Listener<T>): () => void {
    const some = this.#all.get(type) ?? new Set();
    this.#all.set(type, some);
    some.add(listener);
    return () => void some.delete(listener);
  }

  emit<T extends keyof EngineEvents>(type: T, event: EngineEvents[T]): void {
    for (const listener of [...(this.#all.get(type) ?? [])]) {
      try {
        (listener as Listener<T>)(event);
      } catch (error) {
        // a page's mistake must not end the engine's work; the page's own handlers of errors hear of it
        reportError(error);
      }
    }
  }

  clear(): void {
    this.#all.clear();
  }

  /** Passes on what the worker tells of its own accord. */
  hear(client: Client): void {
    client.onNotify = (value) => {
      const notification = value as Notification;
      if (notification.type === "memory") this.emit("memory", notification.memory);
      else if (notification.type === "kernels") this.emit("kernels", notification.report);
      else if (notification.type === "devicelost") {
        this.emit("devicelost", { message: notification.message, attempt: notification.attempt });
      } else this.emit("recovered", { attempt: notification.attempt, ms: notification.ms });
    };
  }
}

/** What was opened in a worker of its own. */
export interface InWorker {
  name: string;
  client: Client;
  opened: Opened;
  listeners: Listeners;
}

/** Opens `model` in a new worker, for `task`. */
export async function openInWorker(
  method: "open" | "openExtractor",
  task: string,
  model: ModelSource,
  options: LoadOptions,
): Promise<InWorker> {
  // first of all and without waiting: dropped items can only be read within their event
  const source = resolveSource(model, options);
  source.catch(() => {});
  const open = toOpenOptions(options);
  requireWebGPU();
  const { name, spec } = await source;
  if (options.profile !== undefined) open.profile = await readProfile(options.profile, options.signal);
  const listeners = new Listeners();
  if (options.progress_callback) listeners.add("progress", options.progress_callback);
  for (const [type, listener] of Object.entries(options.on ?? {})) {
    if (listener) listeners.add(type as keyof EngineEvents, listener as Listener<keyof EngineEvents>);
  }
  const progress = new Progress(name, (info) => listeners.emit("progress", info));
  const client = await Client.start(options, options.signal);
  try {
    const opened = await client.call<Opened, LoadEvent>(
      method,
      { spec, options: open },
      {
        signal: options.signal,
        onEvent(event) {
          if (event.type === "stage") listeners.emit("stage", { stage: event.stage });
          else if (event.type === "notice") listeners.emit("notice", { code: event.code, message: event.message });
          else if (event.type === "file") listeners.emit("file", { file: event.file, size: event.size, from: event.from });
          progress.hear(event);
        },
      },
    );
    listeners.emit("memory", opened.memory);
    progress.ready(task);
    return { name, client, opened, listeners };
  } catch (error) {
    client.terminate(error as WebweftError);
    throw error;
  }
}

/** Opens `model` in a new worker. */
export async function createEngine(model: ModelSource, options: LoadOptions = {}): Promise<Engine> {
  const { name, client, opened, listeners } = await openInWorker("open", "text-generation", model, options);
  return new Engine(name, client, opened, listeners);
}
