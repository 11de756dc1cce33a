import assert from "node:assert/strict";
import { test } from "node:test";
import { OutOfMemoryError, UnsupportedModelError, type Inspection, type OnGpu } from "../../dist/index.js";
import { judge } from "../../dist/can-run.js";
import { info } from "./scripted.js";

const size = (dtype: OnGpu["dtype"], weights: number, more: Partial<OnGpu> = {}): OnGpu => ({
  ...{ dtype, weights, largest_buffer: 1, cache_per_1k: 1024, context: 4096, cache: 4096 },
  ...{ fits: true, longest_context: null, note: null },
  ...more,
});

const inspection = (more: Partial<Inspection> = {}): Inspection => ({
  place: "https://host/m",
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  supported: true,
  problems: [],
  architecture: null,
  parameters: 10,
  files: [
    { name: "a", bytes: 100, tensors: 1 },
    { name: "b", bytes: 50, tensors: 1 },
  ],
  stored: [],
  tokenizer: null,
  chat_templates: [],
  auto: "f16",
  on_gpu: [size("f32", 40), size("f16", 20), size("q4", 6)],
  adapter: info.adapter,
  ...more,
});

test("a model that fits", () => {
  const report = judge(inspection(), {});
  assert.deepEqual([report.ok, report.reason, report.error], [true, undefined, undefined]);
  assert.deepEqual([report.dtype, report.weights_bytes, report.context, report.cache_bytes], ["q4", 6, 4096, 4096]);
  assert.deepEqual([report.download_bytes, report.parameters, report.adapter?.kind], [150, 10, "CPU"]);
  assert.deepEqual(report.suggestions.map(({ dtype }) => dtype), ["f32", "f16"]);
  assert.equal(judge(inspection(), { dtype: "auto" }).dtype, "f16");
  assert.equal(judge(inspection(), { dtype: "fp32" }).dtype, "f32");
  assert.equal(judge(inspection(), { context: 100 }).cache_bytes, 100);
});

test("a model that does not fit says what would", () => {
  const on_gpu = [size("f32", 40, { fits: false, note: "too large" }), size("q4", 6)];
  const report = judge(inspection({ on_gpu }), { dtype: "f32" });
  assert.deepEqual([report.ok, report.reason, report.error?.message], [false, "out_of_memory", "too large"]);
  assert.ok(report.error instanceof OutOfMemoryError);
  assert.deepEqual(report.suggestions, [{ dtype: "q4", context: 4096, weights_bytes: 6, cache_bytes: 4096 }]);
});

test("a context that does not fit is shortened in the suggestion", () => {
  const on_gpu = [size("q4", 6, { longest_context: 512 })];
  const report = judge(inspection({ on_gpu }), { context: 1024 });
  assert.deepEqual([report.ok, report.reason], [false, "out_of_memory"]);
  assert.deepEqual(report.suggestions, [{ dtype: "q4", context: 512, weights_bytes: 6, cache_bytes: 512 }]);
});

test("a model that is not supported says why", () => {
  const report = judge(inspection({ supported: false, problems: ["model_type bert"], on_gpu: [] }), {});
  assert.deepEqual([report.ok, report.reason, report.error?.message], [false, "unsupported_model", "model_type bert"]);
  assert.ok(report.error instanceof UnsupportedModelError);
});
