import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidRequestError, ModelNotFoundError, type ModelSource, type SourceOptions } from "../../dist/index.js";
import { resolveSource } from "../../dist/source.js";

const specOf = async (model: ModelSource, options: SourceOptions = {}) => (await resolveSource(model, options)).spec;
const param = (name: string) => (error: unknown) => error instanceof InvalidRequestError && error.param === name;

test("names are of the Hub", async () => {
  assert.deepEqual(await specOf("org/name"), { kind: "hub", repo: "org/name" });
  assert.deepEqual(await specOf("gpt2"), { kind: "hub", repo: "gpt2" });
  assert.deepEqual(await specOf("org/name@refs/pr/1"), { kind: "hub", repo: "org/name", revision: "refs/pr/1" });
  const options = { revision: "v1", token: "t", remoteHost: "https://mirror/" };
  const all = { kind: "hub", repo: "org/name", revision: "v1", token: "t", endpoint: "https://mirror" };
  assert.deepEqual(await specOf("org/name", options), all);
  assert.deepEqual(await specOf("org/name@v1", options), all);
});

test("addresses are folders", async () => {
  assert.deepEqual(await specOf("https://host/a/b"), { kind: "url", url: "https://host/a/b" });
  assert.deepEqual(await specOf(new URL("http://host/a/"), { token: "t" }), { kind: "url", url: "http://host/a/", token: "t" });
  const digests = { "model.safetensors": "00" };
  assert.deepEqual(await specOf("https://host/a", { digests }), { kind: "url", url: "https://host/a", digests });
});

test("paths are folders beside the page", async () => {
  Object.assign(globalThis, { location: new URL("https://host/app/index.html") });
  try {
    assert.deepEqual(await specOf("./models/x"), { kind: "url", url: "https://host/app/models/x" });
    assert.deepEqual(await specOf("../x/"), { kind: "url", url: "https://host/x/" });
    assert.deepEqual(await specOf("/models/x"), { kind: "url", url: "https://host/models/x" });
  } finally {
    Reflect.deleteProperty(globalThis, "location");
  }
});

test("what is no model is refused", async () => {
  for (const model of ["", "a/b/c", "a b", "org/name@", "ftp://host/x", "file:///etc", "data:text/plain,x", null, 3]) {
    await assert.rejects(specOf(model as string), param("model"), String(model));
  }
  await assert.rejects(specOf("a/b@c", { revision: "d" }), param("revision"));
  await assert.rejects(specOf("https://host/a", { revision: "d" }), param("revision"));
  await assert.rejects(specOf("https://host/a", { remoteHost: "https://x" }), param("remoteHost"));
  await assert.rejects(specOf("a/b", { digests: {} }), param("digests"));
  await assert.rejects(specOf({ "config.json": new Blob() }, { token: "t" }), param("token"));
});

async function filesOf(model: ModelSource) {
  const { name, spec } = await resolveSource(model);
  assert.ok(spec.kind === "files");
  const files = await Promise.all(Object.entries(spec.files).map(async ([path, blob]) => [path, await blob.text()] as const));
  return { name, files: Object.fromEntries(files) };
}

const bytes = (text: string) => new TextEncoder().encode(text);

test("bytes become blobs", async () => {
  const model = { "config.json": bytes("{}"), "a/b": bytes("x").buffer as ArrayBuffer, "m.safetensors": new Blob(["y"]) };
  assert.deepEqual(await filesOf(model), { name: "files", files: { "config.json": "{}", "a/b": "x", "m.safetensors": "y" } });
  const part = bytes("0123").subarray(1, 3);
  assert.equal((await filesOf({ "config.json": part })).files["config.json"], "12");
  await assert.rejects(specOf({ "config.json": "text" } as never), param('model["config.json"]'));
});

const file = (text: string, path: string, relative = "") =>
  Object.defineProperty(new File([text], path), "webkitRelativePath", { value: relative });

test("the folder that all files share is left out", async () => {
  const list = [file("{}", "config.json", "my/model/config.json"), file("x", "b", "my/model/a/b"), file("-", "c", "my/other/c")];
  assert.deepEqual(await filesOf(list), { name: "model", files: { "config.json": "{}", "a/b": "x" } });
  assert.deepEqual(await filesOf([file("{}", "config.json")]), { name: "config.json", files: { "config.json": "{}" } });
});

test("a folder without a model, or with several, is refused", async () => {
  await assert.rejects(specOf([file("x", "a")]), ModelNotFoundError);
  await assert.rejects(specOf([]), ModelNotFoundError);
  const two = [file("{}", "config.json", "all/a/config.json"), file("{}", "config.json", "all/b/config.json")];
  await assert.rejects(specOf(two), param("model"));
});

type Tree = { [name: string]: string | Tree };

function handle(name: string, tree: string | Tree): FileSystemHandle {
  const base = { name, isSameEntry: async () => false };
  if (typeof tree === "string") return { ...base, kind: "file", getFile: async () => new File([tree], name) } as never;
  async function* values() {
    for (const [child, below] of Object.entries(tree)) yield handle(child, below);
  }
  return { ...base, kind: "directory", values } as never;
}

function entry(name: string, tree: string | Tree): FileSystemEntry {
  const base = { name, fullPath: `/${name}` };
  if (typeof tree === "string") {
    return { ...base, isFile: true, isDirectory: false, file: (give: (file: File) => void) => give(new File([tree], name)) } as never;
  }
  const createReader = () => {
    const children = Object.entries(tree).map(([child, below]) => entry(child, below));
    // some at a time, as browsers do
    return { readEntries: (give: (entries: FileSystemEntry[]) => void) => give(children.splice(0, 2)) };
  };
  return { ...base, isFile: false, isDirectory: true, createReader } as never;
}

const tree: Tree = { "config.json": "{}", "model.safetensors": "w", ".git": { HEAD: "ref" }, sub: { a: "x", deep: { b: "y" } }, c: "z" };
const walked = { "config.json": "{}", "model.safetensors": "w", "sub/a": "x", "sub/deep/b": "y", c: "z" };

test("handles and entries of folders are walked, hidden files are not", async () => {
  assert.deepEqual(await filesOf(handle("model", tree) as FileSystemDirectoryHandle), { name: "model", files: walked });
  assert.deepEqual(await filesOf(entry("model", tree) as FileSystemDirectoryEntry), { name: "model", files: walked });
  assert.deepEqual(await filesOf([entry("model", tree)]), { name: "model", files: walked });
  assert.deepEqual(await filesOf([handle("model", { inner: tree })]), { name: "inner", files: walked });
  const loose = [handle("config.json", "{}"), handle("tokenizer.json", "t")];
  assert.deepEqual((await filesOf(loose)).files, { "config.json": "{}", "tokenizer.json": "t" });
});

test("dropped items are read before anything is waited for", async () => {
  let readable = true;
  class List extends Array<unknown> {}
  Object.assign(globalThis, { DataTransferItemList: List });
  try {
    const items = List.from([{ webkitGetAsEntry: () => (readable ? entry("model", tree) : null) }, { webkitGetAsEntry: () => null }]);
    const resolving = filesOf(items as never);
    readable = false;
    assert.deepEqual(await resolving, { name: "model", files: walked });
  } finally {
    Reflect.deleteProperty(globalThis, "DataTransferItemList");
  }
});
