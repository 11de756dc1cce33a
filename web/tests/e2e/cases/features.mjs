// Feature extraction: vectors of texts, as transformers and the native engine make them.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FOLDERS, Skip, test } from "../harness.mjs";

const FOLDER = `${FOLDERS.fixtures}bert/`;

/** A tensor of a safetensors file. */
function tensor(file, name) {
  const bytes = readFileSync(file);
  const header = Number(bytes.readBigUInt64LE(0));
  const { dtype, shape, data_offsets } = JSON.parse(bytes.subarray(8, 8 + header).toString("utf8"))[name];
  const [begin, end] = data_offsets.map((offset) => 8 + header + offset);
  const own = bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end);
  return { shape, data: dtype === "I64" ? [...new BigInt64Array(own)].map(Number) : [...new Float32Array(own)] };
}

function near(got, want, most) {
  assert.equal(got.length, want.length);
  const worst = got.reduce((worst, value, at) => Math.max(worst, Math.abs(value - want[at])), 0);
  assert.ok(worst <= most, `off by ${worst}`);
}

async function opened(t) {
  if (!existsSync(FOLDER)) throw new Skip("the fixtures are not here");
  const server = await t.server({ mounts: { "/models/bert/": FOLDER } });
  return { page: await t.page(server), model: `${server.origin}/models/bert/` };
}

test("features: pooled and not, of texts and a pair, as transformers", {}, async (t) => {
  const { page, model } = await opened(t);
  const of = (name) => tensor(`${FOLDER}expected.safetensors`, name);
  const [first, second] = JSON.parse(readFileSync(`${FOLDER}meta.json`, "utf8")).texts.slice(-2);
  const { shape: [rows, length], data: mask } = of("attention_mask");
  // the texts that were not cut there
  const texts = [first, { text: second[0], text_pair: second[1] }];
  const width = of("cls").shape[1];
  const { info, results, progress, left } = await page.act("features", {
    model,
    options: { dtype: "f32", cache: false },
    calls: [
      [texts, { pooling: "mean", normalize: true }],
      [texts, { pooling: "cls" }],
      [texts, {}],
      [texts[0], { pooling: "mean" }],
    ],
  });
  assert.deepEqual([info.model_type, info.dtype, info.context, info.has_tokenizer], ["bert", "f32", 64, true]);
  const last = (name) => of(name).data.slice(-2 * width);
  near(results[0].data, last("mean_pooled_norm"), 2e-4);
  near(results[1].data, last("cls"), 2e-4);
  near(results[3].data, last("mean_pooled").slice(0, width), 2e-4);
  assert.deepEqual(results.map(({ dims }) => dims.length), [2, 2, 3, 2]);
  const counts = [rows - 2, rows - 1].map((row) => mask.slice(row * length, (row + 1) * length).reduce((sum, m) => sum + m, 0));
  const longest = Math.max(...counts);
  assert.deepEqual(results[2].dims, [2, longest, width]);
  const states = of("last_hidden_state").data;
  counts.forEach((count, at) => {
    const row = rows - 2 + at;
    const want = states.slice(row * length * width, (row * length + count) * width);
    near(results[2].data.slice(at * longest * width, (at * longest + count) * width), want, 2e-4);
  });
  assert.ok(results[2].data.slice(counts[0] * width, longest * width).every((value) => value === 0));
  assert.equal(progress.at(-1).task, "feature-extraction");
  assert.equal(left.total, 0);
  assert.deepEqual(page.problems, []);
});

test("features: a lost device is replaced, and files are kept", {}, async (t) => {
  const { page, model } = await opened(t);
  const calls = [["a text", { pooling: "mean" }], ["a text", { pooling: "mean" }]];
  const { info, results } = await page.act("features", { model, options: {}, calls, lose: true });
  assert.deepEqual([info.dtype, info.load.from], ["f32", "network"]);
  assert.deepEqual(results[0], results[1]);
  assert.equal((await page.events("recovered")).length, 1);
  const again = await page.act("features", { model, options: { dtype: "q4" }, calls });
  assert.deepEqual([again.info.dtype, again.info.load.from], ["q4", "cache"]);
  assert.notDeepEqual(again.results[0], results[0]);
});

test("features: what cannot be is told", {}, async (t) => {
  const { page, model } = await opened(t);
  const calls = [["a", {}]];
  const stories = model.replace("bert", "stories");
  await page.fails("features", { model: stories, options: {}, calls }, "UnsupportedModelError");
  await page.fails("open", { model, options: { cache: false } }, "UnsupportedModelError");
  await page.fails("features", { model, options: { cache: "quantized" }, calls }, "InvalidRequestError");
  await page.fails("features", { model, options: { cache_dtype: "q4" }, calls }, "InvalidRequestError");
  await page.fails("features", { model, options: { memoryLimit: 20_000, cache: false }, calls }, "OutOfMemoryError");
  const report = await page.act("canRun", { model, options: {} });
  assert.deepEqual([report.ok, report.dtype, report.inspection.task], [true, "f32", "feature-extraction"]);
  const small = await page.act("canRun", { model, options: { memoryLimit: 20_000 } });
  assert.deepEqual([small.ok, small.reason], [false, "out_of_memory"]);
});

// by `./test`, where it could be fetched
const MINI_LM = fileURLToPath(new URL("../../../../target/fixtures/models/all-MiniLM-L6-v2/", import.meta.url));

test("features: all-MiniLM-L6-v2, as sentence-transformers", {}, async (t) => {
  if (!existsSync(`${MINI_LM}model.safetensors`)) throw new Skip("the weights of all-MiniLM-L6-v2 are not here");
  const server = await t.server({ mounts: { "/models/minilm/": MINI_LM } });
  const page = await t.page(server);
  const { sentences } = JSON.parse(readFileSync(`${FOLDERS.models}all-MiniLM-L6-v2/meta.json`, "utf8"));
  const want = tensor(`${FOLDERS.models}all-MiniLM-L6-v2/expected.safetensors`, "sentence_embeds").data;
  const { info, results } = await page.act("features", {
    model: `${server.origin}/models/minilm/`,
    options: { cache: false },
    calls: [[sentences, { pooling: "mean", normalize: true }]],
  });
  assert.deepEqual([info.dtype, info.context], ["f32", 512]);
  near(results[0].data, want, 2e-5);
});
