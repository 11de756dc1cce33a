/** Progress events in the shapes of Transformers.js' `progress_callback`. */
import type { LoadEvent } from "./wasm.js";

/** A file is about to be looked for. */
export interface InitiateProgressInfo {
  status: "initiate";
  /** The model, as it was asked for. */
  name: string;
  file: string;
}

/** A file is about to be read. */
export interface DownloadProgressInfo {
  status: "download";
  name: string;
  file: string;
}

/** Bytes of a file arrived. */
export interface ProgressStatusInfo {
  status: "progress";
  name: string;
  file: string;
  /** 0 to 100. */
  progress: number;
  /** Bytes. */
  loaded: number;
  /** Bytes. */
  total: number;
}

/** Bytes arrived: all files together. */
export interface TotalProgressInfo {
  status: "progress_total";
  name: string;
  /** 0 to 100. */
  progress: number;
  /** Bytes. */
  loaded: number;
  /** Bytes. */
  total: number;
  files: Record<string, { loaded: number; total: number }>;
}

/** A file is read. */
export interface DoneProgressInfo {
  status: "done";
  name: string;
  file: string;
}

/** Everything is ready for use. */
export interface ReadyProgressInfo {
  status: "ready";
  task: string;
  model: string;
}

/** Any event of a `progress_callback`. */
export type ProgressInfo =
  | InitiateProgressInfo
  | DownloadProgressInfo
  | ProgressStatusInfo
  | TotalProgressInfo
  | DoneProgressInfo
  | ReadyProgressInfo;

const percent = (loaded: number, total: number) => (total > 0 ? (100 * loaded) / total : 0);

/** Makes them from what the wasm tells while it loads the model `name`. */
export class Progress {
  readonly #name: string;
  readonly #emit: (info: ProgressInfo) => void;
  readonly #files: TotalProgressInfo["files"] = {};
  readonly #done = new Set<string>();

  constructor(name: string, emit: (info: ProgressInfo) => void) {
    this.#name = name;
    this.#emit = emit;
  }

  hear(event: LoadEvent): void {
    const name = this.#name;
    if (event.type === "file") {
      const { file } = event;
      // a shard is announced once, though its header and its weights are read apart
      if (Object.hasOwn(this.#files, file)) return;
      this.#files[file] = { loaded: 0, total: event.size };
      this.#emit({ status: "initiate", name, file });
      this.#emit({ status: "download", name, file });
    } else if (event.type === "progress") {
      const { file, loaded, size, total_loaded, total } = event;
      this.#files[file] = { loaded, total: size };
      // the sum over the files that are known so far would fall back whenever a shard is added: the wasm knows all of them
      this.#emit({
        status: "progress_total",
        name,
        progress: percent(total_loaded, total),
        loaded: total_loaded,
        total,
        files: structuredClone(this.#files),
      });
      this.#emit({ status: "progress", name, file, progress: percent(loaded, size), loaded, total: size });
    } else if (event.type === "done") {
      const { file } = event;
      if (this.#done.has(file)) return;
      this.#done.add(file);
      const known = this.#files[file];
      if (known && known.loaded < known.total) {
        known.loaded = known.total;
        this.#emit({ status: "progress", name, file, progress: 100, loaded: known.total, total: known.total });
      }
      this.#emit({ status: "done", name, file });
    }
  }

  ready(task: string): void {
    this.#emit({ status: "ready", task, model: this.#name });
  }
}
