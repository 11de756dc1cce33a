// A GPU device that is lost: the engine comes back, and what was under way goes on as if nothing had happened.

import assert from "node:assert/strict";
import { expected, greedy, sameIds, test } from "../harness.mjs";

const native = expected.models.stories.dtypes.f32[0];
const TOKENS = 40;
const input = { prompt: native.prompt, options: greedy(TOKENS) };

async function opened(t, options = {}) {
  const server = await t.server();
  const page = await t.page(server);
  await page.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: true, ...options } });
  return page;
}

/** Neither gap nor repeat, and the page heard of it. */
async function wentOn(page, result, { times = 1 } = {}) {
  sameIds(result.ids, native, { tokens: TOKENS });
  assert.deepEqual(result.pieces.map(([id]) => id), result.ids);
  assert.equal(result.pieces.map(([, text]) => text).join(""), result.text);
  assert.ok(native.text.startsWith(result.text), result.text);
  assert.equal((await page.events("devicelost")).length, times);
  const recovered = await page.events("recovered");
  assert.equal(recovered.length, times);
  return `back after ${recovered.map(({ ms }) => `${(ms / 1000).toFixed(1)} s`).join(", ")}`;
}

test("the device is lost while it writes", {}, async (t) => {
  const page = await opened(t);
  const result = await page.act("generate", { input, loseAt: 10 });
  const note = await wentOn(page, result);
  // the conversation's memory goes on, too
  sameIds((await page.act("generate", { input })).ids, native, { tokens: TOKENS });
  assert.equal((await page.act("dispose")).total, 0);
  return note;
});

test("the device is lost while it samples with a seed", {}, async (t) => {
  const page = await opened(t);
  const sampled = { prompt: native.prompt, options: { do_sample: true, temperature: 1, seed: 11, max_new_tokens: 24, repetition_penalty: 1.2 } };
  const undisturbed = await page.act("generate", { input: sampled });
  const disturbed = await page.act("generate", { input: sampled, loseAt: 7 });
  assert.deepEqual(disturbed.ids, undisturbed.ids);
  assert.equal(disturbed.text, undisturbed.text);
  assert.equal((await page.events("recovered")).length, 1);
});

test("the device is lost while nothing happens", {}, async (t) => {
  const page = await opened(t);
  await page.act("loseDevice");
  await new Promise((done) => setTimeout(done, 300));
  const result = await page.act("generate", { input });
  sameIds(result.ids, native, { tokens: TOKENS });
});

test("the GPU process is killed while it writes", { browsers: ["chromium"], fresh: true }, async (t) => {
  const page = await opened(t);
  await page.start("run", "generate", { input });
  await page.until(() => globalThis.events.filter((event) => event.type === "piece").length >= 8);
  t.browser.killGpuProcess();
  const { value, error } = await page.finish("run");
  assert.equal(error?.message, undefined);
  const note = await wentOn(page, value);
  assert.equal((await page.act("dispose")).total, 0);
  return note;
});

test("the GPU process is killed, and the models' server is down", { browsers: ["chromium"], fresh: true }, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  await page.act("open", { model: `${models.origin}/models/stories/`, options: { dtype: "f32", cache: true, retries: 0 } });
  await models.down();
  await page.start("run", "generate", { input });
  await page.until(() => globalThis.events.filter((event) => event.type === "piece").length >= 8);
  t.browser.killGpuProcess();
  const { value, error } = await page.finish("run");
  assert.equal(error?.message, undefined, "it comes back from the cache");
  return wentOn(page, value);
});
