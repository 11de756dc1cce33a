/** What the worker does: one wasm, one model, and who may use it when. */
import { InvalidRequestError, WorkerError, toPlain } from "./errors.js";
import { IdleWork, KernelReports } from "./kernels.js";
import { Extractor, Model } from "./model.js";
import { Queue } from "./queue.js";
import { restoreCache, saveCache } from "./saved.js";
import { RpcServer, type CallContext, type Handlers, type Port } from "./rpc.js";
import type { Notification, Resident } from "./resident.js";
import type {
  Facade,
  FacadeAny,
  FacadeModel,
  FeaturesRequest,
  GenerateRequest,
  MemoryUse,
  ModelInfo,
  ModelSpec,
  OpenOptions,
} from "./wasm.js";

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
  readonly #reports = new KernelReports();
  readonly #measuring = new IdleWork((signal) => this.#measureKernels(signal));
  #facade: Facade | undefined;
  #opened: Model | Extractor | undefined;

  constructor(port: Port, load: (wasmUrl: string | undefined) => Promise<Facade>) {
    this.#load = load;
    this.#server = new RpcServer(port, this.#handlers());
  }

  #handlers(): Handlers {
    type Method = (params: never, context: CallContext) => unknown;
    const alone = (method: Method): Method => (params, context) =>
      this.#measuring.beside(() => this.#queue.alone(() => method(params, context), context.signal));
    const beside = (method: Method): Method => (params, context) =>
      this.#measuring.beside(() => this.#queue.beside(() => method(params, context), context.signal));
    const ofModel = (method: (model: FacadeModel, params: never) => unknown): Method => (params) =>
      this.#model.use((model) => method(model, params));
    const ofAny = (method: (model: FacadeAny, params: never) => unknown): Method => (params) =>
      this.#any.use((model) => method(model, params));
    return {
      init: async ({ wasmUrl }: { wasmUrl?: string }) => {
        try {
          this.#facade = await this.#load(wasmUrl);
        } catch (cause) {
          throw new WorkerError(`the wasm could not be loaded: ${toPlain(cause).message}`, { cause });
        }
      },
      open: alone((given: { spec: ModelSpec; options: OpenOptions }, context) => this.#open(given, context)),
      openExtractor: alone((given: { spec: ModelSpec; options: OpenOptions }, context) => this.#openExtractor(given, context)),
      generate: beside((request: GenerateRequest, context) => this.#model.generate(request, context)),
      features: beside((request: FeaturesRequest, context) => this.#extractor.features(request, context)),
      encode: beside(ofAny((model, { text, special }: { text: string; special: boolean }) => [...model.encode(text, special)])),
      decode: beside(ofAny((model, { ids, skip }: { ids: number[]; skip: boolean }) => model.decode(new Uint32Array(ids), skip))),
      precision: beside(ofAny((model) => model.precision())),
      chatPrompt: beside(
        ofModel((model, { messages, options }: { messages: object[]; options: object }) => model.chat_prompt(messages, options)),
      ),
      // these are answered at once, also while a reset waits
      memory: ofAny((model) => model.memory_report()),
      kernels: ofAny((model) => model.kernels()),
      loseDevice: ofAny((model) => model.lose_device()),
      saveCache: beside((given: { ids?: number[]; file?: string }, { signal }) =>
        this.#model.use((model) => saveCache(model, given, signal)),
      ),
      restoreCache: beside(({ from }: { from: Blob | string }, { signal }) =>
        this.#model.use((model) => restoreCache(model, from, signal)),
      ),
      reset: alone(ofModel((model) => model.reset())),
      roofline: alone(ofModel((model) => model.roofline())),
      close: (_: never, context) => this.#close(context.signal),
      inspect: alone(({ spec, options }: { spec: ModelSpec; options: OpenOptions }, { signal }) =>
        this.#wasm.inspect(spec, options, signal),
      ),
      adapter: () => this.#wasm.adapter(),
      cacheList: () => this.#wasm.cache_list(),
      cacheDelete: ({ key }: { key: string }) => this.#wasm.cache_delete(key),
      cacheClear: async () => {
        await this.#reports.forget();
        await this.#wasm.cache_clear();
      },
    };
  }

  get #wasm(): Facade {
    if (!this.#facade) throw new Error("called before init");
    return this.#facade;
  }

  get #any(): Resident<FacadeAny> {
    if (!this.#opened) throw new InvalidRequestError("this worker has no model");
    return this.#opened as unknown as Resident<FacadeAny>;
  }

  get #model(): Model {
    if (!(this.#opened instanceof Model)) throw new InvalidRequestError("this worker has no model that generates");
    return this.#opened;
  }

  get #extractor(): Extractor {
    if (!(this.#opened instanceof Extractor)) throw new InvalidRequestError("this worker has no encoder");
    return this.#opened;
  }

  async #open({ spec, options }: { spec: ModelSpec; options: OpenOptions }, { signal, emit }: CallContext): Promise<Opened> {
    this.#refuseSecond();
    const open = async (hear: CallContext["emit"], until: AbortSignal) =>
      this.#wasm.open(spec, { ...options, kernels: await this.#reports.told() }, hear, until);
    const model = await open(emit, signal);
    const again = () => open(() => {}, this.#end.signal);
    this.#opened = new Model(model, again, this.#wasm, (told) => this.#server.notify(told), this.#end.signal);
    await this.#hearOfKernels(model, options);
    return { info: model.info(), memory: model.memory() };
  }

  async #openExtractor({ spec, options }: { spec: ModelSpec; options: OpenOptions }, { signal, emit }: CallContext): Promise<Opened> {
    this.#refuseSecond();
    const open = async (hear: CallContext["emit"], until: AbortSignal) =>
      this.#wasm.open_extractor(spec, { ...options, kernels: await this.#reports.told() }, hear, until);
    const model = await open(emit, signal);
    const again = () => open(() => {}, this.#end.signal);
    this.#opened = new Extractor(model, again, this.#wasm, (told) => this.#server.notify(told), this.#end.signal);
    await this.#hearOfKernels(model, options);
    return { info: model.info(), memory: model.memory() };
  }

  /** Keeps what was found when `model` was opened; the rest is found later. */
  async #hearOfKernels(model: FacadeAny, options: OpenOptions): Promise<void> {
    const report = model.kernels();
    if (!report) return;
    await this.#reports.learn(report);
    this.#measuring.want(!report.is_tuned && options.autotune !== false);
  }

  async #measureKernels(signal: AbortSignal): Promise<void> {
    const report = await this.#any.use((model) => model.measure_kernels(signal));
    if (!report || this.#end.signal.aborted) return;
    await this.#reports.keep(report);
    this.#server.notify({ type: "kernels", report } satisfies Notification);
  }

  #refuseSecond(): void {
    if (this.#opened) throw new InvalidRequestError("this worker has a model already");
  }

  /** Ends what is under way and drops the model; what is left of its memory, or null where there was no model. */
  async #close(signal: AbortSignal): Promise<MemoryUse | null> {
    this.#end.abort();
    this.#measuring.want(false);
    this.#server.abortAll(signal);
    await this.#queue.drained();
    return (await this.#opened?.close()) ?? null;
  }
}
