/** Models that several users of a page share. */
import { createEngine, type Engine } from "./engine.js";
import { DisposedError, OutOfMemoryError, abortError } from "./errors.js";
import type { LoadOptions } from "./options.js";
import { toPipeline, type TextGenerationPipeline } from "./pipeline.js";
import type { MemoryUse } from "./wasm.js";

/** When models go that nobody uses. */
export interface PoolOptions {
  /** How long such a model stays, in ms; five minutes by default. */
  idleTimeout?: number | undefined;
  /** For devices with little memory: models go with their last user, and prompts are computed in smaller pieces (`prefillChunk`). */
  lowMemory?: boolean | undefined;
}

/** As `LOW_MEMORY_CHUNK` of the engine. */
const LOW_MEMORY_CHUNK = 64;

interface Kept {
  engine: Promise<Engine>;
  loaded: boolean;
  users: number;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Ends the loading. */
  abort: AbortController;
}

/**
 * Loads each model once, however many pipelines of the page want it. One that nobody uses stays for a while; where memory ends it goes
 * sooner, the one first that was used longest ago.
 */
export class ModelPool {
  /** The one that was used longest ago is the first of those that nobody uses. */
  readonly #kept = new Map<string, Kept>();
  readonly #idleTimeout: number;
  readonly #lowMemory: boolean;
  readonly #create: typeof createEngine;

  constructor(options: PoolOptions = {}, create: typeof createEngine = createEngine) {
    this.#lowMemory = options.lowMemory ?? false;
    this.#idleTimeout = this.#lowMemory ? 0 : (options.idleTimeout ?? 300_000);
    this.#create = create;
  }

  /** How many models there are, used or not. */
  get size(): number {
    return this.#kept.size;
  }

  /**
   * As `pipeline`, with the model that is here already where name or address and options are equal. `on` and `progress_callback` hear of a
   * load that this call begins; `signal` ends the load where nobody else waits for it. `dispose()` of what is returned tells the pool that
   * it is not used any more: it resolves to what is left on the GPU where the model goes then, else to `null`.
   */
  async pipeline(task: "text-generation", model: string | URL, options: LoadOptions = {}): Promise<TextGenerationPipeline> {
    const { on: _, progress_callback: __, signal, ...settings } = options;
    if (signal?.aborted) throw abortError(signal);
    const key = JSON.stringify([task, String(model), Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1))]);
    const kept = this.#kept.get(key) ?? this.#begin(key, model, options);
    clearTimeout(kept.timer);
    kept.users += 1;
    try {
      const engine = await within(kept.engine, signal);
      // a worker that broke is of no use to anyone
      await engine.memory({ signal });
      kept.loaded = true;
      let leaving: Promise<MemoryUse | null> | undefined;
      return toPipeline(engine, () => (leaving ??= this.#leave(key, kept)));
    } catch (error) {
      if (!signal?.aborted && this.#kept.get(key) === kept) this.#kept.delete(key);
      void this.#leave(key, kept);
      throw error;
    }
  }

  /** Ends all models, used or not. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#kept].map(([key, kept]) => this.#end(key, kept)));
  }

  #begin(key: string, model: string | URL, options: LoadOptions): Kept {
    const abort = new AbortController();
    const given: LoadOptions = { ...options, signal: abort.signal };
    if (this.#lowMemory) given.prefillChunk = Math.min(given.prefillChunk ?? LOW_MEMORY_CHUNK, LOW_MEMORY_CHUNK);
    const kept: Kept = { engine: this.#open(model, given), loaded: false, users: 0, timer: undefined, abort };
    kept.engine.then(() => (kept.loaded = true), () => {});
    this.#kept.set(key, kept);
    return kept;
  }

  async #open(model: string | URL, options: LoadOptions): Promise<Engine> {
    for (;;) {
      try {
        return await this.#create(model, options);
      } catch (error) {
        const idle = [...this.#kept].find(([, { users }]) => users === 0);
        if (!(error instanceof OutOfMemoryError) || !idle) throw error;
        await this.#end(...idle);
      }
    }
  }

  async #leave(key: string, kept: Kept): Promise<MemoryUse | null> {
    kept.users -= 1;
    if (kept.users > 0) return null;
    const isCurrent = this.#kept.get(key) === kept;
    if (!isCurrent || !kept.loaded || this.#idleTimeout === 0) return this.#end(key, kept);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    kept.timer = setTimeout(() => void this.#end(key, kept), this.#idleTimeout);
    return null;
  }

  async #end(key: string, kept: Kept): Promise<MemoryUse | null> {
    if (this.#kept.get(key) === kept) this.#kept.delete(key);
    clearTimeout(kept.timer);
    kept.abort.abort(new DisposedError("the model was not wanted any more"));
    const engine = await kept.engine.catch(() => null);
    return (await engine?.dispose()) ?? null;
  }
}

/** What comes, unless the signal comes first. */
async function within<T>(coming: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return coming;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(abortError(signal));
    signal.addEventListener("abort", stop, { once: true });
  });
  return Promise.race([coming, aborted]).finally(() => signal.removeEventListener("abort", stop));
}
