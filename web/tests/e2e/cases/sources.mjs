// Where models come from: addresses, the Hub, files, bytes; and where the package's own files come from.

import assert from "node:assert/strict";
import { FOLDERS, STORY_FILES, expected, greedy, sameIds, test } from "../harness.mjs";
import { COMMIT } from "../../server/hub.mjs";

const native = expected.models.stories.dtypes.f32[0];
const first = { prompt: native.prompt, options: greedy(8) };
const F32 = { dtype: "f32", cache: false };

async function generates(page, name = "a") {
  const { ids } = await page.act("generate", { name, input: first });
  sameIds(ids, native, { tokens: 8 });
}

test("File objects, a list of them, bytes, and a folder", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  for (const as of ["files", "list", "bytes", "handle"]) {
    const info = await page.act("open", { name: as, files: { base: "/models/stories/", names: STORY_FILES, as }, options: F32 });
    assert.equal(info.load.from, "local");
    assert.ok(info.has_chat_template);
    await generates(page, as);
    await page.act("dispose", { name: as });
  }
  await page.fails("open", { files: { base: "/models/stories/", names: ["tokenizer.json"] } }, "ModelNotFoundError");
  await page.fails("open", { files: { base: "/models/stories/", names: ["config.json", "tokenizer.json"] } }, "CheckpointError", "ModelNotFoundError");
});

test("canRun: an answer, and no request for weights", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  const model = `${models.origin}/models/stories/`;
  const report = await page.act("canRun", { model, options: { dtype: "q4" } });
  assert.equal(report.ok, true, JSON.stringify(report.error));
  assert.equal(report.dtype, "q4");
  assert.ok(report.adapter.name !== undefined && report.weights_bytes > 500_000 && report.weights_bytes < 1_200_000, `${report.weights_bytes}`);
  assert.equal(report.context, 512);
  assert.ok(report.download_bytes > 2_300_000);
  const asked = models.requests(/safetensors/);
  const weights = asked.filter(({ method }) => method !== "HEAD");
  assert.ok(weights.length > 0 && weights.every(({ range }) => range !== null), JSON.stringify(weights));
  const read = weights.reduce((sum, { sent }) => sum + sent, 0);
  assert.ok(read < 100_000, `${read} bytes of the weights' file`);

  const small = await page.act("canRun", { model, options: { dtype: "f32", memoryLimit: 1_000_000 } });
  assert.equal(small.ok, false);
  assert.equal(small.error.name, "OutOfMemoryError");
  const nothing = await page.act("canRun", { model: `${models.origin}/nothing/`, options: {} });
  assert.equal(nothing.ok, false);
  assert.equal(nothing.error.name, "ModelNotFoundError");
  assert.equal(await page.act("workers"), 1, "one worker is kept a little");
  await page.until(async () => (await globalThis.act(["workers"])).value === 0);
});

test("a model that does not fit, one that is not supported", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const model = `${server.origin}/models/stories/`;
  await page.fails("open", { model, options: { ...F32, memoryLimit: 1_000_000 } }, "OutOfMemoryError");
  await page.fails("open", { model: `${server.origin}/nothing/`, options: F32 }, "ModelNotFoundError");
  await page.fails("open", { model: "http://127.0.0.1:9/", options: { ...F32, retries: 0 } }, "NetworkError");
  await page.fails("open", { model, options: { dtype: "q3" } }, "UnsupportedParameterError");
  await page.fails("open", { model, options: { contxt: 3 } }, "InvalidRequestError");
  assert.equal(await page.act("workers"), 0, "a load that fails ends its worker");
});

test("layers that do not stay on the GPU: the same tokens, from a file that goes with the model", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const model = `${server.origin}/models/stories/`;
  const info = await page.act("open", { name: "a", model, options: { ...F32, gpuLayers: 1 } });
  assert.equal(info.offload.resident, 1);
  assert.ok(info.offload.moved > 0 && info.offload.layers > 2, JSON.stringify(info.offload));
  await generates(page);
  await page.act("dispose", { name: "a" });
  const files = () => page.evaluate(async () => {
    const names = [];
    const list = async (folder) => {
      for await (const [name, handle] of folder.entries()) handle.kind === "file" ? names.push(name) : await list(handle);
    };
    await list(await navigator.storage.getDirectory());
    return names;
  });
  await page.act("open", { name: "b", model, options: { ...F32, gpuLayers: 0 } });
  await generates(page, "b");
  await page.act("dispose", { name: "b" });
  // what the first one left is removed when the second one is opened, if not before
  assert.ok((await files()).length <= 1, JSON.stringify(await files()));
});

test("the Hub: revision and token reach it, large files come by redirect", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  models.hub.add("org/open", { folder: FOLDERS.stories, revisions: ["main", "v1"] });
  models.hub.add("org/gated", { folder: FOLDERS.stories, access: "gated", token: "hf_good" });
  models.hub.add("org/private", { folder: FOLDERS.stories, access: "private", token: "hf_secret" });
  const page = await t.page(server);
  const options = { ...F32, remoteHost: models.origin };

  const info = await page.act("open", { name: "open", model: "org/open", options: { ...options, revision: "v1" } });
  await generates(page, "open");
  await page.act("dispose", { name: "open" });
  assert.ok(models.requests(/^\/api\/models\/org\/open\/revision\/v1$/).length > 0);
  assert.ok(models.requests(new RegExp(`^/org/open/resolve/${COMMIT}/`)).length > 0, "files come from the commit, not from the branch");
  assert.ok(models.requests(/^\/cdn\//).length > 0);
  assert.ok(models.log.every(({ authorization }) => authorization === null));
  assert.ok(info.load.verified_bytes >= info.load.bytes, `of ${info.load.bytes} bytes ${info.load.verified_bytes} were held against the Hub's sha256`);

  models.log.length = 0;
  await page.act("open", { name: "gated", model: "org/gated@main", options: { ...options, token: "hf_good" } });
  await generates(page, "gated");
  await page.act("dispose", { name: "gated" });
  assert.ok(models.requests(/^\/(api|org)\//).every(({ authorization }) => authorization === "Bearer hf_good"));
  const token = await page.act("open", { name: "private", model: "org/private", options: { ...options, token: "hf_secret" } });
  assert.ok(token);
  await page.act("dispose", { name: "private" });

  await page.fails("open", { model: "org/gated", options }, "AccessDeniedError");
  await page.fails("open", { model: "org/private", options }, "AccessDeniedError", "ModelNotFoundError");
  await page.fails("open", { model: "org/private", options: { ...options, token: "hf_wrong" } }, "AccessDeniedError");
  await page.fails("open", { model: "org/none", options }, "ModelNotFoundError", "AccessDeniedError");
  await page.fails("open", { model: "org/open", options: { ...options, revision: "v9" } }, "ModelNotFoundError");
});

test("wasm and worker from another origin", {}, async (t) => {
  const server = await t.server();
  const other = await t.server();
  const strict = await t.page(server);
  const model = `${server.origin}/models/stories/`;
  // the wasm may come from anywhere that the policy lets a page connect to
  await strict.act("open", { model, options: { ...F32, wasmUrl: `${other.origin}/pkg/webweft_bg.wasm` } });
  await generates(strict);
  await strict.act("dispose");
  assert.equal(other.requests(/webweft_bg\.wasm$/).length, 1);
  assert.equal(server.requests(/webweft_bg\.wasm$/).length, 0);

  const page = await t.page(server, "?csp=cdn");
  const own = server.requests(/worker\.js$/).length;
  const options = { ...F32, workerUrl: `${other.origin}/pkg/worker.js` };
  await page.act("open", { model, options });
  await generates(page);
  const left = await page.act("dispose");
  assert.equal(left.total, 0);
  assert.ok(other.requests(/worker\.js$/).length > 0);
  assert.equal(server.requests(/worker\.js$/).length, own, "the page's own worker is not asked for");

  await strict.fails("open", { model, options: { ...F32, workerUrl: `${server.origin}/pkg/nothing.js` } }, "WorkerError");
  await strict.fails("open", { model, options: { ...F32, wasmUrl: `${server.origin}/pkg/nothing.wasm` } }, "WorkerError", "InternalError", "NetworkError");
});
