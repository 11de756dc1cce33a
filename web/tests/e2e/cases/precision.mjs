// Values that f16 does not hold: found on the GPU, made again in f32, and told.

import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FOLDERS, expected, greedy, test } from "../harness.mjs";

const PROMPT = expected.models.stories.dtypes.f32[0].prompt;

/** Multiplies a tensor of f16 by a power of two, in place. */
function scale(bytes, name, power) {
  const header = Number(bytes.readBigUInt64LE(0));
  const { dtype, data_offsets } = JSON.parse(bytes.subarray(8, 8 + header).toString("utf8"))[name];
  assert.equal(dtype, "F16");
  for (let at = 8 + header + data_offsets[0]; at < 8 + header + data_offsets[1]; at += 2) {
    const bits = bytes.readUInt16LE(at);
    const exponent = (bits >> 10) & 31;
    // zero stays zero, and what is too small for a normal number becomes zero: here, a weight is a weight
    const scaled = exponent === 0 || exponent + power <= 0 ? 0 : exponent + power;
    assert.ok(scaled < 31, `${name} outgrows f16 itself`);
    bytes.writeUInt16LE(scaled === 0 ? bits & 0x8000 : (bits & 0x83ff) | (scaled << 10), at);
  }
}

test("precision: what f16 does not hold is made again in f32, and told", {}, async (t) => {
  const folder = t.folder("large");
  cpSync(FOLDERS.stories, folder, { recursive: true });
  const file = join(folder, "model.safetensors");
  const bytes = readFileSync(file);
  scale(bytes, "model.layers.1.mlp.up_proj.weight", 14);
  scale(bytes, "model.layers.1.mlp.down_proj.weight", -10);
  writeFileSync(file, bytes);
  const server = await t.server({ mounts: { "/models/large/": folder } });
  const page = await t.page(server);
  const runs = async (dtype) => {
    await page.act("open", { model: `${server.origin}/models/large/`, options: { dtype, cache: false } });
    const { ids } = await page.act("generate", { input: { prompt: PROMPT, options: { ...greedy(24), eos_token_id: [] } } });
    const told = await page.act("precision");
    assert.equal((await page.act("dispose")).total, 0);
    return { ids, told };
  };
  const exact = await runs("f32");
  assert.deepEqual([exact.told.activations, exact.told.overflows, exact.told.demoted], ["f32", [], []]);
  const half = await runs("f16");
  assert.deepEqual(half.ids, exact.ids);
  assert.deepEqual(half.told.overflows.map(({ class: of, layer, count }) => [of, layer, count]), [["mlp", 1, 1]]);
  assert.deepEqual(half.told.demoted, ["mlp"]);
  assert.match(half.told.activations, /f32/);
  assert.ok(half.told.steps >= 24, String(half.told.steps));
  assert.ok(half.told.decisions.some(({ what, chosen, reason }) => what === "activations" && chosen === "f16" && reason));
});
