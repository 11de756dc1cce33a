/** What outlives its device: where that is lost, it is opened again, once for all who use it. */
import { DeviceLostError, InvalidRequestError, toPlain } from "./errors.js";
import type { Facade, FacadeAny, KernelReport, MemoryUse } from "./wasm.js";

/** What is told of a model and belongs to no call. */
export type Notification =
  | { type: "devicelost"; message: string; attempt: number }
  | { type: "recovered"; attempt: number; ms: number }
  | { type: "kernels"; report: KernelReport }
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
class OnDevice<M extends FacadeAny> {
  /** The model on the next device, once this one is lost. */
  next: Promise<OnDevice<M>> | undefined;
  readonly #model: M;
  readonly #tasks = new Set<Promise<unknown>>();

  constructor(model: M) {
    this.#model = model;
  }

  async use<T>(task: (model: M) => T | Promise<T>): Promise<T> {
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

/** A loaded model, whatever it does. */
export class Resident<M extends FacadeAny> {
  readonly #open: () => Promise<OnDevice<M>>;
  readonly #tell: (notification: Notification) => void;
  readonly #end: AbortSignal;
  /** On the device of now, or of soon; nothing where the last recovery was given up. */
  #now: Promise<OnDevice<M>> | undefined;
  /** Devices lost one after another without a result. */
  #losses = 0;

  /** `model` was opened as `open` does, and is so again, on an adapter of `wasm`, until `end`. */
  constructor(model: M, open: () => Promise<M>, wasm: Facade, tell: (notification: Notification) => void, end: AbortSignal) {
    this.#now = Promise.resolve(new OnDevice(model));
    this.#open = async () => {
      await adapterOf(wasm, end);
      return new OnDevice(await open());
    };
    this.#tell = tell;
    this.#end = end;
  }

  /** Has `task` done with the model; it is opened again first where the last recovery was given up. */
  async use<T>(task: (model: M) => T | Promise<T>): Promise<T> {
    return (await this.#ready()).use(task);
  }

  /** As {@link use}; where the device is lost on the way, `task` begins again on the next one. `progress` counts what came of it so far. */
  protected async persist<T>(signal: AbortSignal, progress: () => number, task: (model: M) => Promise<T>): Promise<T> {
    let losses = 0;
    let device = await this.#ready();
    for (;;) {
      const before = progress();
      try {
        return await device.use(async (model) => {
          const result = await task(model);
          this.#tellMemory(model);
          return result;
        });
      } catch (error) {
        if (!isLost(error) || signal.aborted) throw error;
        losses = progress() > before ? 1 : losses + 1;
        device.next ??= this.#hold(this.#recover(device, error));
        // one that itself gets nowhere may be what devices are lost of: it ends, and those that do get on stay
        if (losses > RECOVERY_WAITS.length) throw error;
        device = await device.next;
      }
    }
  }

  /** A device that gave something to anyone before it was lost starts the count anew. */
  protected progressed(): void {
    this.#losses = 0;
  }

  /** Gives the memory back; what is left of it, or null where there was none. After the end was told. */
  async close(): Promise<MemoryUse | null> {
    const device = await this.#now?.catch(() => undefined);
    this.#now = undefined;
    return (await device?.close()) ?? null;
  }

  #ready(): Promise<OnDevice<M>> {
    if (this.#end.aborted) return Promise.reject(new InvalidRequestError("this worker has no model"));
    return this.#now ?? this.#hold(this.#reopen(undefined));
  }

  /** Takes a device that is still to come as that of now; where it does not come, the next call asks for another one. */
  #hold(coming: Promise<OnDevice<M>>): Promise<OnDevice<M>> {
    this.#now = coming;
    coming.catch(() => {
      this.#now = undefined;
      this.#losses = 0;
    });
    return coming;
  }

  async #recover(lost: OnDevice<M>, error: unknown): Promise<OnDevice<M>> {
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
  async #reopen(lost: unknown): Promise<OnDevice<M>> {
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

  #tellMemory(model: M): void {
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
