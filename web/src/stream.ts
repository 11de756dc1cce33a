/**
 * Values that come when they come and are taken when they are wanted; what is not taken yet is kept. Leaving the loop early calls
 * `onLeave`. To be iterated once.
 */
export class BufferedStream<T> implements AsyncIterableIterator<T> {
  readonly #values: T[] = [];
  readonly #onLeave: () => void;
  #end: { error?: unknown } | undefined;
  #waiting: (() => void)[] = [];

  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  push(value: T): void {
    if (this.#end) return;
    this.#values.push(value);
    this.#wake();
  }

  /** No more values: at their end, or with an error after them. */
  end(failure?: { error: unknown }): void {
    this.#end ??= failure ?? {};
    this.#wake();
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    for (;;) {
      if (this.#values.length > 0) return { done: false, value: this.#values.shift() as T };
      if (this.#end) {
        const end = this.#end;
        this.#end = {};
        if ("error" in end) throw end.error;
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    const running = !this.#end;
    this.#values.length = 0;
    this.#end = {};
    this.#wake();
    if (running) this.#onLeave();
    return { done: true, value: undefined };
  }

  async throw(error?: unknown): Promise<IteratorResult<T, undefined>> {
    await this.return();
    throw error;
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** A stream over `run`, which is given what to push to; leaving the stream aborts it. */
export function streamOf<T>(
  run: (signal: AbortSignal, push: (value: T) => void) => Promise<unknown>,
  signal: AbortSignal | undefined,
): BufferedStream<T> {
  const left = new AbortController();
  const either = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
  const stream = new BufferedStream<T>(() => left.abort());
  run(either, (value) => stream.push(value)).then(
    () => stream.end(),
    (error: unknown) => stream.end({ error }),
  );
  return stream;
}
