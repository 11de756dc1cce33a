/** Where a model comes from: what a page may give, and what the wasm takes. */
import { InvalidRequestError, ModelNotFoundError } from "./errors.js";
import type { ModelSpec } from "./wasm.js";

/** Bytes of a file. */
export type FileBytes = Blob | ArrayBuffer | Uint8Array;

/**
 * A model:
 * - `"org/name"` or `"org/name@revision"`: a repository of the Hub;
 * - `"https://host/folder"`, `"./folder"`, `"/folder"` or a `URL`: the folder of `config.json` on a server, or a file that ends in `.gguf`;
 * - a `FileList`, files, or the handle or entry of a folder: files of the visitor;
 * - `DataTransferItemList`: what was dropped (to be given within the event's handler);
 * - bytes by file name.
 */
export type ModelSource =
  | string
  | URL
  | FileList
  | readonly File[]
  | FileSystemDirectoryHandle
  | FileSystemDirectoryEntry
  | readonly (FileSystemEntry | FileSystemHandle)[]
  | DataTransferItemList
  | Record<string, FileBytes>;

/** What a page says beside the model. */
export interface SourceOptions {
  /** Branch, tag or commit on the Hub. */
  revision?: string | undefined;
  /** The Hub's address, `https://huggingface.co` by default. */
  remoteHost?: string | undefined;
  /** Access token of the Hub, or bearer token of the server. */
  token?: string | undefined;
  /** SHA-256 by file name, for models at an address. */
  digests?: Record<string, string> | undefined;
}

/** A folder is not walked deeper than this, nor beyond so many files: it is not a model then. */
const MAX_DEPTH = 4;
const MAX_FILES = 10_000;

const invalid = (message: string, param = "model") => new InvalidRequestError(message, { param });

/** A page's model as the wasm takes it, and its name for events and answers. */
export interface ResolvedSource {
  name: string;
  spec: ModelSpec;
}

/**
 * What `model` means. What can only be read within an event's handler (dropped items) is read before this returns; the rest
 * follows.
 */
export function resolveSource(model: ModelSource, options: SourceOptions = {}): Promise<ResolvedSource> {
  try {
    if (typeof model === "string" || model instanceof URL) return Promise.resolve(remote(String(model), options));
    for (const name of ["revision", "remoteHost", "token", "digests"] as const) {
      if (options[name] !== undefined) throw invalid(`${name} is for models on a server, not for given files`, name);
    }
    if (model === null || typeof model !== "object") throw invalid(`a model is a name, an address or files, not ${model}`);
    return local(model);
  } catch (error) {
    return Promise.reject(error);
  }
}

const REPOSITORY = /^[\w.-]+(?:\/[\w.-]+)?$/;

function remote(model: string, options: SourceOptions): ResolvedSource {
  const { revision, remoteHost, token, digests } = options;
  if (/^(?:https?:|blob:|data:|file:|\.{0,2}\/)/i.test(model)) {
    for (const name of ["revision", "remoteHost"] as const) {
      if (options[name] !== undefined) throw invalid(`${name} is for models of the Hub, not for an address`, name);
    }
    let url: URL;
    try {
      url = new URL(model, globalThis.document?.baseURI ?? globalThis.location?.href);
    } catch (cause) {
      throw new InvalidRequestError(`${model} is no address`, { param: "model", cause });
    }
    if (!/^https?:$/.test(url.protocol)) throw invalid(`${model}: give http:// or https://`);
    const spec: ModelSpec = { kind: "url", url: url.href };
    if (token !== undefined) spec.token = token;
    if (digests !== undefined) spec.digests = digests;
    return { name: model, spec };
  }
  if (digests !== undefined) throw invalid("digests are for models at an address: the Hub has its own", "digests");
  const at = model.indexOf("@");
  const repo = at < 0 ? model : model.slice(0, at);
  const named = at < 0 ? undefined : model.slice(at + 1);
  if (!REPOSITORY.test(repo) || named === "") {
    throw invalid(`${JSON.stringify(model)} is no model: give "org/name", "org/name@revision", an address or files`);
  }
  if (named !== undefined && revision !== undefined && named !== revision) {
    throw invalid(`the model's name says revision ${named}, the option ${revision}`, "revision");
  }
  const spec: ModelSpec = { kind: "hub", repo };
  const chosen = named ?? revision;
  if (chosen !== undefined) spec.revision = chosen;
  if (remoteHost !== undefined) spec.endpoint = remoteHost.replace(/\/+$/, "");
  if (token !== undefined) spec.token = token;
  return { name: model, spec };
}

type Named = [path: string, blob: Blob];

function local(model: Exclude<ModelSource, string | URL>): Promise<ResolvedSource> {
  if (isHandle(model)) return finish(walkHandle(model, "", MAX_DEPTH), model.name);
  if (isEntry(model)) return finish(walkEntry(model, "", MAX_DEPTH), model.name);
  if (isItemList(model)) {
    // the list is only readable now: no await before this
    const entries = [...model].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
    return finish(walkEach(entries), nameOf(entries));
  }
  if (isList(model)) {
    const items = [...model] as (File | FileSystemEntry | FileSystemHandle)[];
    return finish(walkEach(items), nameOf(items));
  }
  const files = Object.entries(model).map(([name, bytes]): Named => [name, toBlob(name, bytes)]);
  return finish(Promise.resolve(files), undefined);
}

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;
const isHandle = (value: unknown): value is FileSystemHandle =>
  isObject(value) && "kind" in value && (value.kind === "directory" || value.kind === "file") && "isSameEntry" in value;
const isEntry = (value: unknown): value is FileSystemEntry => isObject(value) && "isDirectory" in value && "fullPath" in value;
const isItemList = (value: unknown): value is DataTransferItemList =>
  typeof DataTransferItemList !== "undefined" && value instanceof DataTransferItemList;
const isList = (value: unknown): value is Iterable<unknown> => isObject(value) && Symbol.iterator in value;

const nameOf = (items: { name: string }[]) => (items.length === 1 ? items[0]?.name : undefined);

function toBlob(name: string, bytes: unknown): Blob {
  if (bytes instanceof Blob) return bytes;
  if (bytes instanceof ArrayBuffer || ArrayBuffer.isView(bytes)) return new Blob([bytes as ArrayBuffer]);
  throw invalid(`${name}: give a File, a Blob, an ArrayBuffer or a Uint8Array`, `model[${JSON.stringify(name)}]`);
}

async function walkEach(items: (File | FileSystemEntry | FileSystemHandle)[]): Promise<Named[]> {
  const found = items.map((item): Promise<Named[]> | Named[] => {
    if (isHandle(item)) return walkHandle(item, "", MAX_DEPTH);
    if (isEntry(item)) return walkEntry(item, "", MAX_DEPTH);
    if (item instanceof File) return [[item.webkitRelativePath || item.name, item]];
    throw invalid("a list of files may hold files, and handles or entries of files and folders");
  });
  return (await Promise.all(found)).flat();
}

// hidden files are never a model's: .git alone may hold thousands
const hidden = (name: string) => name.startsWith(".");

async function walkHandle(handle: FileSystemHandle, parent: string, depth: number): Promise<Named[]> {
  if (hidden(handle.name)) return [];
  const path = parent + handle.name;
  if (handle.kind === "file") return [[path, await (handle as FileSystemFileHandle).getFile()]];
  const files: Named[] = [];
  if (depth === 0) return files;
  for await (const child of (handle as FileSystemDirectoryHandle).values()) {
    files.push(...(await walkHandle(child, `${path}/`, depth - 1)));
    checkCount(files);
  }
  return files;
}

async function walkEntry(entry: FileSystemEntry, parent: string, depth: number): Promise<Named[]> {
  if (hidden(entry.name)) return [];
  const path = parent + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [[path, file]];
  }
  const files: Named[] = [];
  if (depth === 0) return files;
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // a reader gives some entries at a time, and none at the end
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return files;
    for (const child of some) files.push(...(await walkEntry(child, `${path}/`, depth - 1)));
    checkCount(files);
  }
}

function checkCount(files: Named[]): void {
  if (files.length > MAX_FILES) throw invalid(`more than ${MAX_FILES} files: give the folder of one model`);
}

async function finish(found: Promise<Named[]>, given: string | undefined): Promise<ResolvedSource> {
  const files = await found;
  const depth = (path: string) => path.split("/").length;
  // what lies nearest to the top, so that a model in a folder of the folder is found, too
  const nearest = (name: RegExp) => files.map(([path]) => path).filter((path) => name.test(path)).sort((a, b) => depth(a) - depth(b));
  const [config, second] = nearest(/(?:^|\/)config\.json$/);
  const main = config ?? nearest(/\.gguf$/)[0];
  if (main === undefined) {
    throw new ModelNotFoundError(
      `there is no config.json and no GGUF file among ${files.length} files: give the files of a Hugging Face model`,
    );
  }
  if (config !== undefined && second !== undefined && depth(second) === depth(config)) {
    throw invalid(`there are several models (${config}, ${second}): give the folder of one`);
  }
  const root = main.slice(0, main.lastIndexOf("/") + 1);
  const inside = files.filter(([path]) => path.startsWith(root)).map(([path, blob]): Named => [path.slice(root.length), blob]);
  const name = root.split("/").at(-2) ?? given ?? "files";
  return { name, spec: { kind: "files", name, files: Object.fromEntries(inside) } };
}
