/** What the worker does: one wasm, one model, a queue before it, and the way back from a lost device. */
import { DeviceLostError, InvalidRequestError, WorkerError, toPlain } from "./errors.js";
import type { Facade, FacadeModel, GenerateRequest, GenerateResult, MemoryUse, ModelInfo, ModelSpec, OpenOptions, Piece } from "./wasm.js";
import { Queue } from "./queue.js";
import { RpcServer, type CallContext, type Handlers, type Port } from "./rpc.js";

/** What the worker tells of its own accord. */
export type Notification =
  | { type: "devicelost"; message: string; attempt: number }
  | { type: "recovered"; attempt: number; ms: number }
  | { type: "memory"; memory: MemoryUse };

/** What `open` answers. */
export interface Opened {
  info: ModelInfo;
  memory: MemoryUse;
}

/** How often a lost device is replaced before it is given up, and what is waited before each try, in ms. */
export const RECOVERY_WAITS = [250, 1000, 4000];

/** How long an adapter is asked for before a try counts as failed, and how often, in ms. */
const ADAPTER_WAIT = 10_000;
const ADAPTER_PAUSE = 500;

const sleep = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

const isLost = (error: unknown) => toPlain(error).name === "DeviceLostError";

/** Answers the calls that come through `port` with the engine that `load` gives. */
export class Host {
  readonly #load: (wasmUrl: string | undefined) => Promise<Facade>;
  readonly #server: RpcServer;
  readonly #queue = new Queue();
  #facade: Facade | undefined;
  #model: FacadeModel | undefined;
  #opened: { spec: ModelSpec; options: OpenOptions } | undefined;
  #closed = false;

  constructor(port: Port, load: (wasmUrl: string | undefined) => Promise<Facade>) {
    this.#load = load;
    this.#server = new RpcServer(port, this.#handlers());
  }

  #handlers(): Handlers {
    const queued = (method: (params: never, context: CallContext) => unknown) => (params: never, context: CallContext) =>
      this.#queue.run(() => method(params, context), context.signal);
    const ofModel = (method: (model: FacadeModel, params: never) => unknown) =>
      queued(async (params, context) => method(await this.#ready(context.signal), params));
    const memoryLater = ofModel((model) => model.memory());
    return {
      init: async ({ wasmUrl }: { wasmUrl?: string }) => {
        try {
          this.#facade = await this.#load(wasmUrl);
        } catch (cause) {
          throw new WorkerError(`the wasm could not be loaded: ${toPlain(cause).message}`, { cause });
        }
      },
      open: queued((params: { spec: ModelSpec; options: OpenOptions }, context) => this.#open(params, context)),
      generate: queued((request: GenerateRequest, context) => this.#generate(request, context)),
      encode: ofModel((model, { text, special }: { text: string; special: boolean }) => [...model.encode(text, special)]),
      decode: ofModel((model, { ids, skip }: { ids: number[]; skip: boolean }) => model.decode(new Uint32Array(ids), skip)),
      chatPrompt: ofModel((model, { messages, options }: { messages: object[]; options: object }) =>
        model.chat_prompt(messages, options),
      ),
      // these two are answered at once, also while the model generates
      memory: (params: never, context) => this.#model?.memory() ?? memoryLater(params, context),
      loseDevice: () => this.#model?.lose_device(),
      reset: ofModel((model) => model.reset()),
      close: (_: never, context) => this.#close(context.signal),
      inspect: queued(({ spec, options }: { spec: ModelSpec; options: OpenOptions }, { signal }) =>
        this.#wasm.inspect(spec, options, signal),
      ),
      adapter: () => this.#wasm.adapter(),
      cacheList: () => this.#wasm.cache_list(),
      cacheDelete: ({ key }: { key: string }) => this.#wasm.cache_delete(key),
      cacheClear: () => this.#wasm.cache_clear(),
    };
  }

  get #wasm(): Facade {
    if (!this.#facade) throw new Error("called before init");
    return this.#facade;
  }

  async #open(opened: { spec: ModelSpec; options: OpenOptions }, { signal, emit }: CallContext): Promise<Opened> {
    if (this.#opened) throw new InvalidRequestError("this worker has a model already");
    const model = await this.#wasm.open(opened.spec, opened.options, emit, signal);
    this.#model = model;
    this.#opened = opened;
    return { info: model.info(), memory: model.memory() };
  }

  /** The model; opened again where the last recovery was given up. */
  async #ready(signal: AbortSignal): Promise<FacadeModel> {
    if (!this.#opened || this.#closed) throw new InvalidRequestError("this worker has no model");
    return this.#model ?? (await this.#reopen(signal, undefined));
  }

  /**
   * Generates. Where the device is lost on the way, the model is opened again and goes on after the ids that the page already
   * has, so that it hears neither a gap nor a repeat.
   */
  async #generate(request: GenerateRequest, { signal, emit }: CallContext): Promise<GenerateResult> {
    const given = [...(request.given ?? [])];
    let text = "";
    let losses = 0;
    for (;;) {
      const model = await this.#ready(signal);
      const before = given.length;
      const onPiece = (piece: Piece) => {
        given.push(piece.id);
        text += piece.text;
        emit(piece);
      };
      try {
        const replayed = given.length > 0 ? { ...request, given: [...given] } : request;
        const result = await model.generate(replayed, onPiece, signal);
        this.#tellMemory(model);
        return { ...result, text, ids: given };
      } catch (error) {
        if (!isLost(error) || signal.aborted) throw error;
        // a device that gave tokens before it was lost starts the count anew
        losses = given.length > before ? 1 : losses + 1;
        this.#discard();
        if (losses > RECOVERY_WAITS.length) throw error;
        this.#server.notify({ type: "devicelost", message: toPlain(error).message, attempt: losses } satisfies Notification);
        const start = performance.now();
        await this.#reopen(signal, error);
        const ms = performance.now() - start;
        this.#server.notify({ type: "recovered", attempt: losses, ms } satisfies Notification);
      }
    }
  }

  /** Opens the model again on a new device, from the cache where there is one. */
  async #reopen(signal: AbortSignal, lost: unknown): Promise<FacadeModel> {
    const opened = this.#opened;
    if (!opened) throw new InvalidRequestError("this worker has no model");
    let last = lost;
    for (const wait of RECOVERY_WAITS) {
      await sleep(wait, signal);
      try {
        await this.#adapter(signal);
        const model = await this.#wasm.open(opened.spec, opened.options, () => {}, signal);
        this.#model = model;
        this.#tellMemory(model);
        return model;
      } catch (error) {
        if (signal.aborted) throw error;
        last = error;
        if (!isLost(error) && toPlain(error).name !== "WebGPUUnavailableError") break;
      }
    }
    const { message } = toPlain(last);
    throw new DeviceLostError(`the GPU device was lost and the model could not be opened again: ${message}`, { cause: last });
  }

  /** A browser may refuse adapters for some seconds after its GPU process ended. */
  async #adapter(signal: AbortSignal): Promise<void> {
    const end = performance.now() + ADAPTER_WAIT;
    for (;;) {
      try {
        await this.#wasm.adapter();
        return;
      } catch (error) {
        if (signal.aborted || performance.now() > end) throw error;
        await sleep(ADAPTER_PAUSE, signal);
      }
    }
  }

  /** Drops a model whose device is gone. What it says about that does not matter any more. */
  #discard(): void {
    const model = this.#model;
    this.#model = undefined;
    try {
      model?.close();
      model?.free();
    } catch {
      // its buffers went with the device
    }
  }

  #tellMemory(model: FacadeModel): void {
    this.#server.notify({ type: "memory", memory: model.memory() } satisfies Notification);
  }

  /** Ends what is under way and drops the model; what is left of its memory, or null where there was no model. */
  async #close(signal: AbortSignal): Promise<MemoryUse | null> {
    this.#closed = true;
    this.#server.abortAll(signal);
    await this.#queue.drained();
    const model = this.#model;
    if (!model) return null;
    this.#model = undefined;
    const left = model.close();
    model.free();
    return left;
  }
}
