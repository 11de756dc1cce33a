/** What the cache holds, as files: in the worker, since only there the browser's private file system (OPFS) is written in place. */
import { SavedCacheError, StorageError, toPlain } from "./errors.js";
import type { FacadeModel } from "./wasm.js";

/** What was saved. */
export interface SavedCache {
  /** The tokens of which it has keys and values. */
  tokens: number;
  /** Bytes of the file. */
  bytes: number;
  /** The file, where it was given no name. */
  blob?: Blob;
}

/** The folder of the origin's private file system in which named files lie. */
const FOLDER = "webweft-saved";

/** Saves what `model` has of `ids`, or without them of the text that ended last. */
export async function saveCache(
  model: FacadeModel,
  { ids, file }: { ids?: number[]; file?: string },
  signal: AbortSignal,
): Promise<SavedCache> {
  const given = ids && new Uint32Array(ids);
  if (file === undefined) {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    const saved = await model.save_cache(given, (bytes) => parts.push(bytes), signal);
    return { ...saved, blob: new Blob(parts) };
  }
  const folder = await inStorage(() => openFolder());
  // under another name until it is whole
  const name = `${file}.part`;
  const handle = await inStorage(() => folder.getFileHandle(name, { create: true }));
  const writer = await inStorage(() => (handle as Writable).createSyncAccessHandle());
  let saved: SavedCache;
  try {
    writer.truncate(0);
    let at = 0;
    saved = await model.save_cache(
      given,
      (bytes) => {
        const written = writer.write(bytes, { at });
        at += bytes.length;
        if (written !== bytes.length) throw new StorageError("the browser's storage has no room for it");
      },
      signal,
    );
    writer.flush();
  } catch (error) {
    writer.close();
    await folder.removeEntry(name).catch(() => {});
    throw isOfStorage(error) ? refused(error) : error;
  }
  writer.close();
  await inStorage(() => (handle as Writable).move(file));
  return saved;
}

/** Puts back a file, or that of a name; how many tokens it holds. */
export async function restoreCache(model: FacadeModel, from: Blob | string, signal: AbortSignal): Promise<number> {
  if (typeof from !== "string") return model.restore_cache(from, signal);
  const blob = await inStorage(async () => {
    try {
      return await (await (await openFolder()).getFileHandle(from)).getFile();
    } catch (error) {
      if (toPlain(error).name !== "NotFoundError") throw error;
      throw new SavedCacheError(`nothing is saved as ${JSON.stringify(from)}`, { code: "not_found" });
    }
  });
  return model.restore_cache(blob, signal);
}

/** What TypeScript's types of pages lack: the first is for workers, the second is not in the standard yet, but in all browsers. */
interface Writable extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<{
    write(bytes: Uint8Array, options: { at: number }): number;
    truncate(size: number): void;
    flush(): void;
    close(): void;
  }>;
  move(name: string): Promise<void>;
}

async function openFolder(): Promise<FileSystemDirectoryHandle> {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
}

const isOfStorage = (error: unknown) => error instanceof DOMException && error.name !== "AbortError";

const refused = (cause: unknown) => new StorageError(`the browser's storage refuses: ${toPlain(cause).message}`, { cause });

async function inStorage<T>(task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    throw error instanceof SavedCacheError ? error : refused(error);
  }
}
