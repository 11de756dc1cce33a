/** The page's end: starts the worker and calls it. */
import { InternalError, WorkerError, type WebweftError, abortError, toTyped } from "./errors.js";
import type { MemoryUse } from "./wasm.js";
import type { AssetOptions } from "./options.js";
import { RpcClient, type CallOptions, type Port } from "./rpc.js";

const absolute = (url: string | URL) => new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);

/**
 * A worker whose script has another origin than the page: browsers refuse it as such, but a script of the page's own may import
 * it. Only here is a blob made, since a strict policy forbids blobs.
 */
function foreignWorker(url: URL): Worker {
  const source = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  const address = URL.createObjectURL(source);
  const worker = new Worker(address, { type: "module" });
  // the script is fetched before the first message, and not again
  worker.addEventListener("message", () => URL.revokeObjectURL(address), { once: true });
  return worker;
}

const isForeign = (url: URL) => /^https?:$/.test(url.protocol) && url.origin !== globalThis.location?.origin;

function startWorker(workerUrl: string | URL | undefined): Worker {
  if (workerUrl !== undefined) {
    const url = absolute(workerUrl);
    return isForeign(url) ? foreignWorker(url) : new Worker(url, { type: "module" });
  }
  // As a variable: with the literal, bundlers would take it for a file to copy. Bundled scripts carry their own worker, below.
  const here = import.meta.url;
  const beside = new URL("worker.js", here);
  if (isForeign(beside)) return foreignWorker(beside);
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
}

/** What is needed of a worker. */
export interface WorkerLike extends Port {
  terminate(): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(
    type: "error" | "messageerror",
    listener: (event: { message?: string; preventDefault?(): void }) => void,
  ): void;
}

/** What a worker has for giving its memory back before it is ended without, in ms. */
const CLOSE_WAIT = 5000;

function hint(): string {
  if (import.meta.url.includes("/.vite/deps/")) return "add webweft to optimizeDeps.exclude in vite.config.js";
  return "see workerUrl, and the page's security policy";
}

/** One worker with the wasm in it. */
export class Client {
  readonly #worker: WorkerLike;
  readonly #rpc: RpcClient;
  #started = false;

  constructor(worker: WorkerLike) {
    this.#worker = worker;
    this.#rpc = new RpcClient(worker);
    worker.addEventListener("error", (event) => {
      event.preventDefault?.();
      const what = event.message || `its script could not be loaded: ${hint()}`;
      if (this.#started) this.#fail(new InternalError(`the worker failed: ${what}`));
      else this.#fail(new WorkerError(`the worker did not start: ${what}`));
    });
    worker.addEventListener("messageerror", () => this.#fail(new WorkerError("the worker's answer could not be read")));
  }

  /** Starts a worker and loads the wasm in it. */
  static async start(options: AssetOptions, signal?: AbortSignal): Promise<Client> {
    if (typeof Worker === "undefined") throw new WorkerError("webweft runs in browsers: there are no workers here");
    if (signal?.aborted) throw abortError(signal);
    let client: Client;
    try {
      client = new Client(startWorker(options.workerUrl));
    } catch (error) {
      throw new WorkerError(`the worker could not be made: ${toTyped(error).message}`, { cause: error });
    }
    await client.init(options.wasmUrl === undefined ? undefined : absolute(options.wasmUrl).href, signal);
    return client;
  }

  /** Loads the wasm; ends the worker where that fails. */
  async init(wasmUrl?: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.call("init", { wasmUrl }, { signal });
      this.#started = true;
    } catch (error) {
      this.terminate(toTyped(error));
      throw error;
    }
  }

  /** Hears of what the worker tells of its own accord. */
  set onNotify(listener: (value: unknown) => void) {
    this.#rpc.onNotify = listener;
  }

  call<T, E = never>(method: string, params: unknown, options?: CallOptions<E>): Promise<T> {
    return this.#rpc.call(method, params, options);
  }

  /**
   * Rejects what is under way and every later call with `error`, lets the worker give its memory back, and ends it. What it says
   * is left; `null` where it says nothing.
   */
  async close(error: Error): Promise<MemoryUse | null> {
    const closing = this.#rpc.endWith<MemoryUse | null>(error, "close", AbortSignal.timeout(CLOSE_WAIT));
    const left = await closing.catch(() => null);
    this.#worker.terminate();
    return left;
  }

  /** Ends the worker; what is under way, and every later call, is rejected with `error`. */
  terminate(error: Error): void {
    this.#rpc.end(error);
    this.#worker.terminate();
  }

  #fail(error: WebweftError): void {
    this.terminate(error);
  }
}
