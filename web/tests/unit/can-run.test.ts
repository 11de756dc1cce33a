import assert from "node:assert/strict";
import { test } from "node:test";
import {
  OutOfMemoryError,
  UnsupportedModelError,
  type Format,
  type Inspection,
  type OnGpu,
  type Recommendation,
} from "../../dist/index.js";
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
  task: "text-generation",
  architecture: null,
  parameters: 10,
  files: [
    { name: "a", bytes: 100, tensors: 1 },
    { name: "b", bytes: 50, tensors: 1 },
  ],
  stored: [],
  tokenizer: null,
  chat_templates: [],
  quantization: null,
  recommendation: null,
  auto: "f16",
  on_gpu: [size("f32", 40), size("f16", 20), size("q4", 6)],
  adapter: info.adapter,
  ...more,
});

const PERPLEXITY = { f32: 1, f16: 1, q8: 1.001, q4a: 1.042, q4: 1.063, nf4: 1.056 };

const recommendation = (dtype: Recommendation["dtype"], reason: string): Recommendation => ({
  ...{ dtype, reason, budget: 100, context: null },
  formats: (["f32", "f16", "q8", "q4", "nf4"] as const).map((name, i): Format => ({
    ...{ dtype: name, context: 4096, weights: 40 - i, cache: 4096, activations: 1, staging: 2, total: 4200 - i },
    ...{ fits: name === dtype, why_not: null, offload: null, longest_context: 4096, bytes_per_token: 1, relative_speed: 1 },
    ...{ tokens_per_second: null, perplexity: PERPLEXITY[name] },
  })),
});

test("auto is what is recommended", () => {
  const on_gpu = [size("f32", 40), size("f16", 20), size("q8", 11), size("q4", 6), size("nf4", 6)];
  const seen = inspection({ on_gpu, recommendation: recommendation("q8", "q8: because") });
  const report = judge(seen, { dtype: "auto" });
  assert.deepEqual([report.ok, report.dtype, report.why], [true, "q8", "q8: because"]);
  assert.deepEqual(report.suggestions.map(({ dtype }) => dtype), ["f16", "f32", "nf4", "q4"], "quality, then size");
  assert.deepEqual([judge(seen, {}).dtype, judge(seen, {}).why], ["q4", undefined], "a page asks for 4 bits");
  const quantized = judge({ ...seen, quantization: "gptq" }, {});
  assert.deepEqual([quantized.dtype, quantized.why], ["q8", "q8: because"], "which it has already");

  const none = judge(inspection({ on_gpu, auto: null, recommendation: recommendation(null, "nf4 needs more") }), { dtype: "auto" });
  assert.deepEqual([none.ok, none.reason, none.error?.message], [false, "out_of_memory", "nf4 needs more"]);
  assert.equal(none.dtype, "nf4");
});

test("what holds the context is suggested first", () => {
  const on_gpu = [size("f16", 20, { longest_context: 512 }), size("q8", 11), size("q4", 6)];
  const report = judge(inspection({ on_gpu, recommendation: recommendation("q8", "") }), { context: 1024 });
  assert.deepEqual(report.suggestions.map(({ dtype, context }) => [dtype, context]), [["q8", 1024], ["f16", 512]]);
});

test("a model that fits", () => {
  const report = judge(inspection(), {});
  assert.deepEqual([report.ok, report.reason, report.error], [true, undefined, undefined]);
  assert.deepEqual([report.dtype, report.weights_bytes, report.context, report.cache_bytes], ["q4", 6, 4096, 4096]);
  assert.deepEqual([report.download_bytes, report.parameters, report.adapter?.kind], [150, 10, "CPU"]);
  assert.deepEqual(report.suggestions.map(({ dtype }) => dtype), ["f16", "f32"]);
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
