/** Models that are kept on the visitor's disk. */
import type { CallOptions } from "./engine.js";
import type { AssetOptions } from "./options.js";
import { withWorker } from "./shared-worker.js";
import type { CacheEntry } from "./wasm.js";

type Options = AssetOptions & CallOptions;

/** Models that are kept on the visitor's disk, for this origin. */
export const cache = {
  /** What is kept. */
  list: (options: Options = {}): Promise<CacheEntry[]> =>
    withWorker(options, (client) => client.call("cacheList", {}, { signal: options.signal })),
  /** Deletes the model of `key`; whether it was there. */
  delete: (key: string, options: Options = {}): Promise<boolean> =>
    withWorker(options, (client) => client.call("cacheDelete", { key }, { signal: options.signal })),
  /** Deletes all of them, and what was found about kernels on this GPU. */
  clear: (options: Options = {}): Promise<void> =>
    withWorker(options, (client) => client.call("cacheClear", {}, { signal: options.signal })),
} as const;
