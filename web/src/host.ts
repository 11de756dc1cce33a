/** What the worker does: one wasm, one model, and who may use it when. */
import { InvalidRequestError, WorkerError, toPlain } from "./errors.js";
import { Model } from "./model.js";
import { Queue } from "./queue.js";
import { restoreCache, saveCache } from "./saved.js";
import { RpcServer, type CallContext, type Handlers, type Port } from "./rpc.js";
import type { Facade, FacadeModel, GenerateRequest, MemoryUse, ModelInfo, ModelSpec, OpenOptions } from "./wasm.js";

/** What `open` answers. */
export interface Opened {
  info: ModelInfo;
  memory: MemoryUse;
}

/** Answers the calls that come through `port` with the engine that `load` gives. */
export class Host {
  readonly #load: (wasmUrl: string | undefined) => Promise<Facade>;
  readonly #server: RpcServer;
  readonly #queue = new Queue();
  readonly #end = new AbortController();
  #facade: Facade | undefined;
  #model: Model | undefined;

  constructor(port: Port, load: (wasmUrl: string | undefined) => Promise<Facade>) {
    this.#load = load;
    this.#server = new RpcServer(port, this.#handlers());
  }

  #handlers(): Handlers {
    type Method = (params: never, context: CallContext) => unknown;
    const alone = (method: Method): Method => (params, context) =>
      this.#queue.alone(() => method(params, context), context.signal);
    const beside = (method: Method): Method => (params, context) =>
      this.#queue.beside(() => method(params, context), context.signal);
    const ofModel = (method: (model: FacadeModel, params: never) => unknown): Method => (params) =>
      this.#opened.use((model) => method(model, params));
    return {
      init: async ({ wasmUrl }: { wasmUrl?: string }) => {
        try {
          this.#facade = await this.#load(wasmUrl);
        } catch (cause) {
          throw new WorkerError(`the wasm could not be loaded: ${toPlain(cause).message}`, { cause });
        }
      },
      open: alone((given: { spec: ModelSpec; options: OpenOptions }, context) => this.#open(given, context)),
      generate: beside((request: GenerateRequest, context) => this.#opened.generate(request, context)),
      encode: beside(ofModel((model, { text, special }: { text: string; special: boolean }) => [...model.encode(text, special)])),
      decode: beside(ofModel((model, { ids, skip }: { ids: number[]; skip: boolean }) => model.decode(new Uint32Array(ids), skip))),
      precision: beside(ofModel((model) => model.precision())),
      chatPrompt: beside(
        ofModel((model, { messages, options }: { messages: object[]; options: object }) => model.chat_prompt(messages, options)),
      ),
      // these two are answered at once, also while a reset waits
      memory: ofModel((model) => model.memory_report()),
      loseDevice: ofModel((model) => model.lose_device()),
      saveCache: beside((given: { ids?: number[]; file?: string }, { signal }) =>
        this.#opened.use((model) => saveCache(model, given, signal)),
      ),
      restoreCache: beside(({ from }: { from: Blob | string }, { signal }) =>
        this.#opened.use((model) => restoreCache(model, from, signal)),
      ),
      reset: alone(ofModel((model) => model.reset())),
      close: (_: never, context) => this.#close(context.signal),
      inspect: alone(({ spec, options }: { spec: ModelSpec; options: OpenOptions }, { signal }) =>
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

  get #opened(): Model {
    if (!this.#model) throw new InvalidRequestError("this worker has no model");
    return this.#model;
  }

  async #open(given: { spec: ModelSpec; options: OpenOptions }, { signal, emit }: CallContext): Promise<Opened> {
    if (this.#model) throw new InvalidRequestError("this worker has a model already");
    const model = await this.#wasm.open(given.spec, given.options, emit, signal);
    this.#model = new Model(model, this.#wasm, given, (told) => this.#server.notify(told), this.#end.signal);
    return { info: model.info(), memory: model.memory() };
  }

  /** Ends what is under way and drops the model; what is left of its memory, or null where there was no model. */
  async #close(signal: AbortSignal): Promise<MemoryUse | null> {
    this.#end.abort();
    this.#server.abortAll(signal);
    await this.#queue.drained();
    return (await this.#model?.close()) ?? null;
  }
}
