import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidRequestError, UnsupportedParameterError } from "../../dist/index.js";
import { toOpenOptions, type LoadOptions } from "../../dist/options.js";

test("options are given to the wasm under its names", () => {
  assert.deepEqual(toOpenOptions({}), {});
  const cached = { cache_dtype: "q8", cache_policy: "window:512", batch_strategy: "latency-aware:40ms" } as const;
  const given: LoadOptions = { dtype: "fp16", context: 8, prefillChunk: 4, cache: true, gguf_file: "Q8_0", ...cached };
  assert.deepEqual(toOpenOptions(given), { dtype: "f16", context: 8, prefill_chunk: 4, cache: "stored", gguf_file: "Q8_0", ...cached });
  assert.deepEqual(toOpenOptions({ cache_policy: "snapkv:512" }), { cache_policy: "snapkv:512" });
  for (const cache_dtype of ["f32", "f16", "q8", "q4"] as const) assert.deepEqual(toOpenOptions({ cache_dtype }), { cache_dtype });
});

test("options that make no sense are refused by name", () => {
  const wrong: [string, object, typeof InvalidRequestError][] = [
    ["dtype", { dtype: "q3" }, UnsupportedParameterError],
    ["cache_dtype", { cache_dtype: "nf4" }, UnsupportedParameterError],
    ["cache_dtype", { cache_dtype: "auto" }, UnsupportedParameterError],
    ["cache_policy", { cache_policy: "" }, InvalidRequestError],
    ["cache_policy", { cache_policy: 512 }, InvalidRequestError],
    ["batch_strategy", { batch_strategy: 8 }, InvalidRequestError],
    ["gguf_file", { gguf_file: "" }, InvalidRequestError],
    ["context", { context: 0 }, InvalidRequestError],
    ["cacheDtype", { cacheDtype: "q8" }, InvalidRequestError],
    ["device", { device: "wasm" }, UnsupportedParameterError],
  ];
  for (const [param, options, kind] of wrong) {
    assert.throws(() => toOpenOptions(options), (error) => error instanceof kind && error.param === param, JSON.stringify(options));
  }
});
