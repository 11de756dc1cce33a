/**
 * Calls across a message port: requests with an id, answers, events that belong to a request, and events that belong to none.
 * Both ends are here; a worker, its global scope and a `MessagePort` are all ports.
 */
import { AbortError, abortError, fromPlain, toPlain, toTyped, type PlainError } from "./errors.js";

/** The part of `Worker`, `MessagePort` and a worker's scope that is needed. */
export interface Port {
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
}

type ToWorker = { call: number; method: string; params: unknown } | { abort: number };

type FromWorker =
  | { result: number; value: unknown }
  | { error: number; plain: PlainError }
  | { event: number; value: unknown }
  | { notify: unknown };

/** How a call is made. */
export interface CallOptions<E> {
  signal?: AbortSignal | undefined;
  /** Hears of what the other end emits before it answers. */
  onEvent?: ((event: E) => void) | undefined;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  onEvent: ((event: never) => void) | undefined;
}

/** The end that calls. */
export class RpcClient {
  /** Hears of events that belong to no call. */
  onNotify: (value: unknown) => void = () => {};
  readonly #port: Port;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #ended: Error | undefined;

  constructor(port: Port) {
    this.#port = port;
    port.addEventListener("message", (event) => this.#receive(event.data as FromWorker));
  }

  /** Whether nothing is under way. */
  get idle(): boolean {
    return this.#pending.size === 0;
  }

  /** Calls `method` at the other end. An aborted signal rejects at once and tells the other end. */
  call<T, E = never>(method: string, params: unknown, options: CallOptions<E> = {}): Promise<T> {
    const { signal, onEvent } = options;
    if (this.#ended) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(abortError(signal));
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        const pending = this.#pending.get(id);
        if (!pending || !signal) return;
        this.#port.postMessage({ abort: id } satisfies ToWorker);
        pending.reject(abortError(signal));
      };
      const settle = () => {
        this.#pending.delete(id);
        signal?.removeEventListener("abort", onAbort);
      };
      this.#pending.set(id, {
        resolve: (value) => (settle(), resolve(value as T)),
        reject: (error) => (settle(), reject(error)),
        onEvent: onEvent as Pending["onEvent"],
      });
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        this.#port.postMessage({ call: id, method, params } satisfies ToWorker);
      } catch (error) {
        // what cannot be cloned: a function or a stream among the parameters
        this.#pending.get(id)?.reject(toTyped(error));
      }
    });
  }

  /** Rejects everything under way, and every call from now on. */
  end(error: Error): void {
    this.#ended ??= error;
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }

  /** Makes a last call: everything else is rejected, as {@link end} does. */
  endWith<T>(error: Error, method: string, signal: AbortSignal): Promise<T> {
    const others = [...this.#pending.values()];
    const last = this.call<T>(method, {}, { signal });
    this.#ended ??= error;
    for (const pending of others) pending.reject(error);
    return last;
  }

  #receive(message: FromWorker): void {
    if ("notify" in message) this.onNotify(message.notify);
    else if ("event" in message) this.#pending.get(message.event)?.onEvent?.(message.value as never);
    else if ("result" in message) this.#pending.get(message.result)?.resolve(message.value);
    else this.#pending.get(message.error)?.reject(fromPlain(message.plain));
  }
}

/** What a handler is given beside its parameters. */
export interface CallContext {
  signal: AbortSignal;
  emit(event: unknown): void;
}

/** What can be called, by name. */
export type Handlers = Record<string, (params: never, context: CallContext) => unknown>;

/** The end that answers. */
export class RpcServer {
  readonly #port: Port;
  readonly #running = new Map<number, AbortController>();

  constructor(port: Port, handlers: Handlers) {
    this.#port = port;
    port.addEventListener("message", (event) => {
      const message = event.data as ToWorker;
      if ("abort" in message) this.#running.get(message.abort)?.abort(new AbortError("aborted by the page"));
      else void this.#answer(message.call, handlers[message.method], message.params);
    });
  }

  /** Tells the other end something that belongs to no call. */
  notify(value: unknown): void {
    this.#post({ notify: value });
  }

  /** Aborts everything under way but the call of `except`. */
  abortAll(except: AbortSignal): void {
    for (const controller of this.#running.values()) {
      if (controller.signal !== except) controller.abort(new AbortError("the engine is being disposed of"));
    }
  }

  async #answer(id: number, handler: Handlers[string] | undefined, params: unknown): Promise<void> {
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      if (!handler) throw new Error("the page and the worker are of different versions of webweft");
      const context = { signal: controller.signal, emit: (value: unknown) => this.#post({ event: id, value }) };
      const value = await handler(params as never, context);
      this.#post({ result: id, value });
    } catch (error) {
      this.#post({ error: id, plain: toPlain(error) });
    } finally {
      this.#running.delete(id);
    }
  }

  #post(message: FromWorker): void {
    this.#port.postMessage(message);
  }
}
