import { abortError } from "./errors.js";

type Task<T> = () => T | Promise<T>;

/** Starts tasks in the order in which they came: some side by side, others alone. */
export class Queue {
  /** When all so far have ended. */
  #all: Promise<void> = Promise.resolve();
  /** When the last that runs alone has ended, with those before it. */
  #alone: Promise<void> = Promise.resolve();

  /**
   * Runs `task` beside others; it waits only for those before it that run alone. An abort while it waits rejects at once, and it
   * never runs.
   */
  beside<T>(task: Task<T>, signal: AbortSignal): Promise<T> {
    const result = after(this.#alone, task, signal);
    this.#all = ended(this.#all, result);
    return result;
  }

  /** Runs `task` after all those before it and before all those behind it. An abort while it waits is as in {@link beside}. */
  alone<T>(task: Task<T>, signal: AbortSignal): Promise<T> {
    const result = after(this.#all, task, signal);
    this.#all = this.#alone = ended(this.#all, result);
    return result;
  }

  /** When everything that is in the queue now has ended. */
  drained(): Promise<void> {
    return this.#all;
  }
}

async function after<T>(others: Promise<void>, task: Task<T>, signal: AbortSignal): Promise<T> {
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => reject(abortError(signal));
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    void others.then(() => (signal.removeEventListener("abort", onAbort), resolve()));
  });
  return task();
}

/** Both have ended, however. Without their values: the next promise of the queue would keep them. */
async function ended(one: Promise<unknown>, other: Promise<unknown>): Promise<void> {
  await Promise.allSettled([one, other]);
}
