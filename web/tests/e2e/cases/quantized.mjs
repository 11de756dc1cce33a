// Checkpoints that other tools quantized, opened with no option.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { FOLDERS, Skip, greedy, test } from "../harness.mjs";

const FIXTURES = ["q_gptq_asym_act", "q_bnb_nf4_dq", "q_compressed_w4", "q_awq", "q_fp8_block"];

/** An integer tensor of a safetensors file. */
function integers(file, name) {
  const bytes = readFileSync(file);
  const header = Number(bytes.readBigUInt64LE(0));
  const { dtype, data_offsets } = JSON.parse(bytes.subarray(8, 8 + header).toString("utf8"))[name];
  assert.equal(dtype, "I64");
  const [begin, end] = data_offsets.map((offset) => 8 + header + offset);
  return Array.from({ length: (end - begin) / 8 }, (_, i) => Number(bytes.readBigInt64LE(begin + 8 * i)));
}

test("a GGUF file runs by its address, from a Hub, and from the visitor's disk, and is kept", {}, async (t) => {
  const folder = `${FOLDERS.fixtures}gguf_llama/`;
  if (!existsSync(`${folder}model.gguf`)) throw new Skip("the fixtures are not here");
  const want = integers(`${folder}expected.safetensors`, "greedy_ids");
  const input = { ids: integers(`${folder}expected.safetensors`, "input_ids"), options: { ...greedy(want.length), eos_token_id: [] } };
  const server = await t.server({ mounts: { "/models/gguf/": folder } });
  const models = await t.modelServer();
  models.hub.add("org/gguf", { folder });
  const page = await t.page(server);
  const runs = async (name, what, from) => {
    const info = await page.act("open", { name, ...what });
    assert.deepEqual([info.model_type, info.quantization, info.load.from], ["llama", "gguf", from]);
    assert.ok(info.has_tokenizer);
    assert.deepEqual((await page.act("generate", { name, input })).ids, want, name);
    await page.act("dispose", { name });
  };
  const model = `${server.origin}/models/gguf/model.gguf`;
  // whatever is to be kept, it is the file: it has the tokenizer, too
  await runs("first visit", { model, options: { cache: "quantized" } }, "network");
  await runs("second visit", { model, options: { cache: "quantized" } }, "cache");
  await runs("the Hub", { model: "org/gguf", options: { remoteHost: models.origin, cache: false } }, "network");
  await runs("by name", { model: "org/gguf", options: { remoteHost: models.origin, cache: false, gguf_file: "model.gguf" } }, "network");
  await runs("a file", { files: { base: "/models/gguf/", names: ["model.gguf"], as: "files" }, options: {} }, "local");
  const report = await page.act("canRun", { model, options: {} });
  assert.equal(report.ok, true, JSON.stringify(report.error));
  await page.fails("open", { model: "org/gguf", options: { remoteHost: models.origin, gguf_file: "Q2_K" } }, "UnsupportedModelError");
  await page.fails("open", { model, options: { gguf_file: "" } }, "InvalidRequestError");
  assert.deepEqual(page.problems, []);
});

test("what other tools quantized runs with no option, and is kept", {}, async (t) => {
  const found = FIXTURES.filter((name) => existsSync(`${FOLDERS.fixtures}${name}/expected.safetensors`));
  if (found.length === 0) throw new Skip("the fixtures are not here");
  const mounts = Object.fromEntries(found.map((name) => [`/models/${name}/`, `${FOLDERS.fixtures}${name}/`]));
  const server = await t.server({ mounts });
  const page = await t.page(server);
  for (const name of t.sampleOf(3, found)) {
    const file = `${FOLDERS.fixtures}${name}/expected.safetensors`;
    const want = integers(file, "greedy_ids");
    const input = { ids: integers(file, "input_ids"), options: { ...greedy(want.length), eos_token_id: [] } };
    // the second time from what was kept
    for (const visit of [1, 2]) {
      const info = await page.act("open", { name, model: `${server.origin}/models/${name}/`, options: { cache: "quantized" } });
      assert.equal(info.dtype, "f32", `${name}: a small one is exact`);
      assert.deepEqual((await page.act("generate", { name, input })).ids, want, `${name}, visit ${visit}`);
      await page.act("dispose", { name });
    }
  }
  assert.deepEqual(page.problems, []);
  // a dtype that is asked for is that of the rest
  const info = await page.act("open", { model: `${server.origin}/models/${found[0]}/`, options: { cache: false, dtype: "q4" } });
  assert.equal(info.dtype, "q4");
  return found.join(", ");
});
