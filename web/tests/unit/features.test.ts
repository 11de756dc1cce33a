import assert from "node:assert/strict";
import { test } from "node:test";
import { Tensor } from "../../dist/features.js";
import { Script, extractorOf } from "./scripted.js";

test("texts, pairs and lists of them become rows", async () => {
  const { extractor, script } = await extractorOf();
  const one = await extractor("abc");
  assert.deepEqual([one.dims, one.tolist(), one.type, one.size], [[1, 2], [[3, 0]], "float32", 2]);
  const some = await extractor(["ab", { text: "a", text_pair: "b" }], { pooling: "mean", normalize: true });
  assert.deepEqual(some.tolist(), [[2, 0], [2, 1]]);
  assert.deepEqual(script.featuresRequests, [
    { texts: ["abc"] },
    { texts: ["ab", ["a", "b"]], pooling: "mean", normalize: true },
  ]);
  assert.deepEqual((await extractor([])).tolist(), []);
  assert.equal(extractor.task, "feature-extraction");
  assert.deepEqual(await extractor.tokenizer.encode("ab"), [97, 98]);
  assert.equal((await extractor.memory()).total, 100);
});

test("what cannot be is told before the worker hears of it", async () => {
  const { extractor, script } = await extractorOf();
  const fails = (input: unknown, options: object, error: object) => assert.rejects(extractor(input as string, options), error);
  await fails(7, {}, { name: "InvalidRequestError", param: "input" });
  await fails(["a", { text: "b" }], {}, { name: "InvalidRequestError", param: "input" });
  await fails("a", { pooling: "max" }, { name: "UnsupportedParameterError", param: "pooling" });
  await fails("a", { normalize: 1 }, { name: "InvalidRequestError", param: "normalize" });
  await fails("a", { quantize: true }, { name: "UnsupportedParameterError", param: "quantize" });
  await fails("a", { pool: "mean" }, { name: "InvalidRequestError", param: "pool" });
  await fails("a", { signal: AbortSignal.abort() }, { name: "AbortError" });
  assert.deepEqual(script.featuresRequests, []);
  await extractor("a", { quantize: false } as object);
});

test("a lost device is replaced, and the vectors are made again", async () => {
  const script = new Script();
  script.losses = [0];
  const { extractor } = await extractorOf(script);
  const told: string[] = [];
  extractor.on("devicelost", ({ attempt }) => told.push(`lost ${attempt}`));
  extractor.on("recovered", ({ attempt }) => told.push(`recovered ${attempt}`));
  assert.deepEqual((await extractor(["ab", "c"])).tolist(), [[2, 0], [1, 1]]);
  assert.deepEqual(told, ["lost 1", "recovered 1"]);
  assert.deepEqual([script.opened, script.closed, script.freed], [2, 1, 1]);
});

test("dispose gives all back, and ends what comes after", async () => {
  const { extractor, script, ended, client } = await extractorOf();
  const left = await extractor.dispose();
  assert.deepEqual([left?.total, script.closed, ended()], [0, 1, true]);
  await assert.rejects(extractor("a"), { name: "DisposedError" });
  assert.equal(await extractor.dispose(), left);
  await assert.rejects(client.call("features", { texts: ["a"] }), { name: "DisposedError" });
});

test("an encoder's worker generates nothing", async () => {
  const { client } = await extractorOf();
  for (const method of ["generate", "reset", "chatPrompt"]) {
    await assert.rejects(client.call(method, { prompt: "a" }), { name: "InvalidRequestError" });
  }
  await assert.rejects(client.call("openExtractor", { spec: {}, options: {} }), { name: "InvalidRequestError" });
});

test("tensors become lists", () => {
  const data = Float32Array.from({ length: 12 }, (_, at) => at);
  assert.deepEqual(new Tensor(data, [2, 3, 2]).tolist(), [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]);
  assert.deepEqual(new Tensor(data, [12]).tolist(), [...data]);
  assert.deepEqual(new Tensor(new Float32Array(0), [0, 4]).tolist(), []);
});
