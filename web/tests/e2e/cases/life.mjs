// Several models, several tabs, calls that are ended, and the end.

import assert from "node:assert/strict";
import { Skip, expected, greedy, sameIds, test } from "../harness.mjs";
import { rounds } from "./rounds.mjs";

const native = expected.models.stories.dtypes.f32[0];
const F32 = { dtype: "f32", cache: false };
const input = (tokens) => ({ prompt: native.prompt, options: greedy(tokens) });

test("two models at once, interleaved", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  await page.act("open", { name: "a", model: `${server.origin}/models/stories/`, options: F32 });
  const other = server.mounts["/models/stories260K/"] ? "stories260K" : "stories";
  await page.act("open", { name: "b", model: `${server.origin}/models/${other}/`, options: F32 });
  await page.start(1, "generate", { name: "a", input: input(24) });
  await page.start(2, "generate", { name: "b", input: input(24) });
  const [one, two] = [await page.finish(1), await page.finish(2)];
  assert.equal(one.error ?? two.error, undefined);
  sameIds(one.value.ids, native, { tokens: 24 });
  sameIds(two.value.ids, expected.models[other].dtypes.f32[0], { tokens: 24 });
  // they ran side by side: neither waited for the other's last piece
  const order = (await page.events("piece")).map((event) => event.of).join("");
  assert.match(order, /ab+a/, order);
  assert.equal((await page.act("dispose", { name: "a" })).total, 0);
  const { ids } = await page.act("generate", { name: "b", input: input(4) });
  assert.equal(ids.length, 4, "the other goes on");
  assert.equal((await page.act("dispose", { name: "b" })).total, 0);
});

test("two pipelines of a pool share a worker, and the last one ends it", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const given = { model: `${server.origin}/models/stories/`, options: F32 };
  const shared = await page.act("sharePool", { ...given, input: native.prompt, tokens: 8 });
  assert.deepEqual([shared.running, shared.models, shared.left[0], shared.left[1].total], [1, 0, null, 0]);
  assert.ok(shared.texts[0].startsWith(native.prompt) && shared.texts[0].length > native.prompt.length);
  assert.equal(shared.texts[1], shared.texts[0]);
  assert.equal(await page.act("workers"), 0);
});

test("two tabs at once", {}, async (t) => {
  const server = await t.server();
  const options = { dtype: "f32", cache: true };
  const pages = [await t.page(server), await t.page(server)];
  // both write the same entry of the cache
  for (const page of pages) await page.start("load", "open", { model: `${server.origin}/models/stories/`, options });
  for (const page of pages) assert.equal((await page.finish("load")).error?.message, undefined);
  for (const page of pages) await page.start("run", "generate", { input: input(16) });
  for (const page of pages) {
    const { value, error } = await page.finish("run");
    assert.equal(error?.message, undefined);
    sameIds(value.ids, native, { tokens: 16 });
  }
  await pages[0].act("dispose");
  assert.equal((await pages[0].act("cacheList")).length, 1);
  assert.equal((await pages[1].act("generate", { input: input(4) })).ids.length, 4);
});

test("abort: while loading", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  models.faults.add("drip:bytes=16384,ms=50", "model.safetensors");
  const given = { model: `${models.origin}/models/stories/`, options: { ...F32, cache: true }, abort: "load" };
  await page.start(1, "open", given);
  await page.until(() => globalThis.events.some((event) => event.type === "progress" && event.status === "progress" && event.loaded > 0));
  const before = await page.act("time");
  await page.act("abort", { name: "load" });
  const { error } = await page.finish(1);
  assert.equal(error?.name, "AbortError");
  assert.ok((await page.act("time")) - before < 2000, "it ends at once");
  assert.equal(await page.act("workers"), 0);
  // a stalled server is no obstacle either
  models.faults.clear();
  models.faults.add("stall:at=100000", "model.safetensors");
  await page.start(2, "open", { ...given, abort: "stalled" });
  await page.until(() => globalThis.events.some((event) => event.type === "stage" && event.stage === "weights"));
  await new Promise((done) => setTimeout(done, 300));
  await page.act("abort", { name: "stalled" });
  assert.equal((await page.finish(2)).error?.name, "AbortError");
  // and the next load takes nothing partial
  models.faults.clear();
  await page.act("open", { ...given, abort: undefined });
  sameIds((await page.act("generate", { input: input(6) })).ids, native, { tokens: 6 });
});

test("abort: while it reads the prompt, while it writes, before it begins", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  await page.act("open", { model: `${server.origin}/models/stories/`, options: { ...F32, prefillChunk: 16 } });
  const ids = (await page.act("encode", { text: native.text.repeat(3) })).slice(0, 400);

  await page.start("prefill", "generate", { input: { ids, options: greedy(50) }, abort: "prefill" });
  await new Promise((done) => setTimeout(done, 30));
  await page.act("abort", { name: "prefill" });
  const prefill = await page.finish("prefill");
  assert.equal(prefill.error?.name, "AbortError", JSON.stringify(prefill.value));

  const decode = await page.fails("generate", { input: input(100), abortAt: 5 }, "AbortError");
  assert.ok(decode.message.length > 0);

  await page.start("first", "generate", { input: input(16), abort: "first" });
  await page.start("second", "generate", { input: input(16), abort: "second" });
  await page.act("abort", { name: "second" });
  assert.equal((await page.finish("second")).error?.name, "AbortError");
  sameIds((await page.finish("first")).value.ids, native, { tokens: 16 });
  // nothing of what was ended stands in the cache
  sameIds((await page.act("generate", { input: input(8) })).ids, native, { tokens: 8 });
});

test("dispose: the ledger is empty, the worker ends, calls are told", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const given = { model: `${server.origin}/models/stories/`, options: F32 };
  await page.act("open", given);
  assert.equal(await page.act("workers"), 1);
  await page.act("generate", { input: input(8) });
  const memory = await page.act("memory");
  assert.ok(memory.total > 1_000_000 && memory.peak >= memory.total && memory.wasm > 1_000_000, JSON.stringify(memory));
  const sum = (values) => Object.values(values).reduce((a, b) => a + b, 0);
  assert.equal(sum(memory.categories), memory.total);
  assert.equal(sum(memory.labels.map(({ bytes }) => bytes)), memory.total);
  const totals = memory.timeline.map(({ ms, ...bytes }) => (assert.ok(ms <= memory.ms), sum(bytes)));
  assert.deepEqual([Math.max(...totals), totals.at(-1)], [memory.peak, memory.total]);
  assert.deepEqual(memory.leaks, []);
  const { left, pending, after } = await page.act("disposeAndCall", { input: input(200) });
  assert.equal(left.total, 0);
  assert.deepEqual(Object.values(left.categories), [0, 0, 0, 0]);
  assert.equal(pending, "DisposedError");
  assert.equal(after, "DisposedError");
  assert.equal(await page.act("workers"), 0);
});

test("five rounds of load, generate, dispose", {}, async (t) => {
  const server = await t.server();
  await rounds(await t.page(server), server, 5);
});

test("the weakest adapter: WebGPU's default limits, no optional feature", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const info = await page.act("open", { model: `${server.origin}/models/stories/`, options: { ...F32, portable: true } });
  if (!info.adapter) throw new Skip("no adapter report");
  sameIds((await page.act("generate", { input: input(12) })).ids, native, { tokens: 12 });
});
