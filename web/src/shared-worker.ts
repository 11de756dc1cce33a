/** A worker for what needs no model; kept a little, since such calls come in groups. */
import { Client } from "./client.js";
import { DisposedError, InternalError, WorkerError } from "./errors.js";
import type { AssetOptions } from "./options.js";

/** What an unused worker is kept, in ms. */
const KEEP = 2000;

interface Kept {
  client: Promise<Client>;
  users: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

const kept = new Map<string, Kept>();

/** Runs `use` with a worker that has no model. */
export async function withWorker<T>(options: AssetOptions, use: (client: Client) => Promise<T>): Promise<T> {
  const key = `${String(options.workerUrl)} ${String(options.wasmUrl)}`;
  const one = kept.get(key) ?? { client: Client.start(options), users: 0, timer: undefined };
  kept.set(key, one);
  clearTimeout(one.timer);
  one.users += 1;
  try {
    return await use(await one.client);
  } catch (error) {
    // a worker that ended is not used again
    if ((error instanceof WorkerError || error instanceof InternalError) && kept.get(key) === one) kept.delete(key);
    throw error;
  } finally {
    one.users -= 1;
    const end = () => {
      if (kept.get(key) === one) kept.delete(key);
      one.client.then((client) => client.terminate(new DisposedError("the worker was not used any more"))).catch(() => {});
    };
    if (one.users === 0) {
      if (kept.get(key) === one) one.timer = setTimeout(end, KEEP);
      else end();
    }
  }
}
