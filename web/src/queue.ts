import { abortError } from "./errors.js";

/** Runs tasks one after another, in the order in which they came. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `task` after those before it; an abort while it waits rejects at once, and it never runs. */
  run<T>(task: () => T | Promise<T>, signal: AbortSignal): Promise<T> {
    const result = new Promise<T>((resolve, reject) => {
      const onAbort = () => reject(abortError(signal));
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      const turn = async () => {
        signal.removeEventListener("abort", onAbort);
        if (signal.aborted) return;
        try {
          resolve(await task());
        } catch (error) {
          reject(error);
        }
      };
      this.#last = this.#last.then(turn);
    });
    return result;
  }

  /** When everything that is in the queue now has ended. */
  drained(): Promise<unknown> {
    return this.#last;
  }
}
