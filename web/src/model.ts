/** A model that outlives its device: where that is lost, it is opened again, once for all who use it. */
import { DeviceLostError, InvalidRequestError, toPlain } from "./errors.js";
import type { CallContext } from "./rpc.js";
import type { Facade, FacadeModel, GenerateRequest, GenerateResult, MemoryUse, ModelSpec, OpenOptions, Piece } from "./wasm.js";

/** What is told of a model and belongs to no call. */
export type Notification =
  | { type: "devicelost"; message: string; attempt: number }
  | { type: "recovered"; attempt: number; ms: number }
  | { type: "memory"; memory: MemoryUse };

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

/** The model on one device. */
class OnDevice {
  /** The model on the next device, once this one is lost. */
  next: Promise<OnDevice> | undefined;
  readonly #model: FacadeModel;
  readonly #tasks = new Set<Promise<unknown>>();

  constructor(model: FacadeModel) {
    this.#model = model;
  }

  async use<T>(task: (model: FacadeModel) => T | Promise<T>): Promise<T> {
    const result = (async () => task(this.#model))();
    this.#tasks.add(result);
    try {
      return await result;
    } finally {
      this.#tasks.delete(result);
    }
  }

  /** Gives the memory back when nothing uses the model any more: until then the wasm does not let go of it. */
  async close(): Promise<MemoryUse> {
    await Promise.allSettled(this.#tasks);
    const left = this.#model.close();
    this.#model.free();
    return left;
  }
}

/** A loaded model. */
export class Model {
  readonly #open: () => Promise<OnDevice>;
  readonly #tell: (notification: Notification) => void;
  readonly #end: AbortSignal;
  /** On the device of now, or of soon; nothing where the last recovery was given up. */
  #now: Promise<OnDevice> | undefined;
  /** Devices lost one after another without a token. */
  #losses = 0;

  /** `model` was opened by `wasm` with `spec` and `options`, and is so again until `end`. */
  constructor(
    model: FacadeModel,
    wasm: Facade,
    { spec, options }: { spec: ModelSpec; options: OpenOptions },
    tell: (notification: Notification) => void,
    end: AbortSignal,
  ) {
    this.#now = Promise.resolve(new OnDevice(model));
    this.#open = async () => {
      await adapterOf(wasm, end);
      return new OnDevice(await wasm.open(spec, options, () => {}, end));
    };
    this.#tell = tell;
    this.#end = end;
  }

  /** Has `task` done with the model; it is opened again first where the last recovery was given up. */
  async use<T>(task: (model: FacadeModel) => T | Promise<T>): Promise<T> {
    return (await this.#ready()).use(task);
  }

  /**
   * Generates, beside others. Where the device is lost on the way, it goes on after the ids that the page already has, so that the
   * page hears neither a gap nor a repeat.
   */
  async generate(request: GenerateRequest, { signal, emit }: CallContext): Promise<GenerateResult> {
    const given = [...(request.given ?? [])];
    let text = "";
    const onPiece = (piece: Piece) => {
      given.push(piece.id);
      text += piece.text;
      // a device that gave tokens to anyone before it was lost starts the count anew
      this.#losses = 0;
      emit(piece);
    };
    let losses = 0;
    let device = await this.#ready();
    for (;;) {
      const before = given.length;
      try {
        return await device.use(async (model) => {
          const replayed = given.length > 0 ? { ...request, given: [...given] } : request;
          const result = await model.generate(replayed, onPiece, signal);
          this.#tellMemory(model);
          return { ...result, text, ids: given };
        });
      } catch (error) {
        if (!isLost(error) || signal.aborted) throw error;
        losses = given.length > before ? 1 : losses + 1;
        device.next ??= this.#hold(this.#recover(device, error));
        // one that itself gets nowhere may be what devices are lost of: it ends, and those that do get on stay
        if (losses > RECOVERY_WAITS.length) throw error;
        device = await device.next;
      }
    }
  }

  /** Gives the memory back; what is left of it, or null where there was none. After the end was told. */
  async close(): Promise<MemoryUse | null> {
    const device = await this.#now?.catch(() => undefined);
    this.#now = undefined;
    return (await device?.close()) ?? null;
  }

  #ready(): Promise<OnDevice> {
    if (this.#end.aborted) return Promise.reject(new InvalidRequestError("this worker has no model"));
    return this.#now ?? this.#hold(this.#reopen(undefined));
  }

  /** Takes a device that is still to come as that of now; where it does not come, the next call asks for another one. */
  #hold(coming: Promise<OnDevice>): Promise<OnDevice> {
    this.#now = coming;
    coming.catch(() => {
      this.#now = undefined;
      this.#losses = 0;
    });
    return coming;
  }

  async #recover(lost: OnDevice, error: unknown): Promise<OnDevice> {
    // what it says about its end does not matter any more: its buffers went with the device
    lost.close().catch(() => {});
    const attempt = ++this.#losses;
    if (attempt > RECOVERY_WAITS.length) throw error;
    this.#tell({ type: "devicelost", message: toPlain(error).message, attempt });
    const start = performance.now();
    const device = await this.#reopen(error);
    this.#tell({ type: "recovered", attempt, ms: performance.now() - start });
    return device;
  }

  /** Opens the model again on a new device, from the cache where there is one. */
  async #reopen(lost: unknown): Promise<OnDevice> {
    let last = lost;
    for (const wait of RECOVERY_WAITS) {
      await sleep(wait, this.#end);
      try {
        const device = await this.#open();
        await device.use((model) => this.#tellMemory(model));
        return device;
      } catch (error) {
        if (this.#end.aborted) throw error;
        last = error;
        if (!isLost(error) && toPlain(error).name !== "WebGPUUnavailableError") break;
      }
    }
    const { message } = toPlain(last);
    throw new DeviceLostError(`the GPU device was lost and the model could not be opened again: ${message}`, { cause: last });
  }

  #tellMemory(model: FacadeModel): void {
    this.#tell({ type: "memory", memory: model.memory() });
  }
}

/** Waits for an adapter: a browser may refuse them for some seconds after its GPU process ended. */
async function adapterOf(wasm: Facade, signal: AbortSignal): Promise<void> {
  const end = performance.now() + ADAPTER_WAIT;
  for (;;) {
    try {
      await wasm.adapter();
      return;
    } catch (error) {
      if (signal.aborted || performance.now() > end) throw error;
      await sleep(ADAPTER_PAUSE, signal);
    }
  }
}
