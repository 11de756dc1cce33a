// What is kept on the visitor's disk: the second visit needs no network.

import assert from "node:assert/strict";
import { FOLDERS, expected, greedy, sameIds, test } from "../harness.mjs";

const native = (dtype) => expected.models.stories.dtypes[dtype][0];
const quick = { retries: 0, backoffMs: 10 };

async function generated(page, name = "a") {
  const { ids } = await page.act("generate", { name, input: { prompt: "Once upon a time", options: greedy(8) } });
  return ids;
}

test("second load from the cache, with the server down", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  const given = { model: `${models.origin}/models/stories/`, options: { ...quick, dtype: "f32", cache: true } };
  const first = await page.act("open", given);
  assert.equal(first.load.from, "network");
  sameIds(await generated(page), native("f32"), { tokens: 8 });
  await page.act("dispose");
  const list = await page.act("cacheList");
  assert.equal(list.length, 1);
  assert.ok(list[0].bytes > 2_300_000, JSON.stringify(list));

  await models.down();
  // another page, as after the browser was closed
  const later = await t.page(server);
  const second = await later.act("open", given);
  assert.equal(second.load.from, "cache");
  sameIds(await generated(later), native("f32"), { tokens: 8 });
  await later.act("dispose");

  assert.equal(await later.act("cacheDelete", { key: list[0].key }), true);
  assert.equal(await later.act("cacheDelete", { key: list[0].key }), false);
  assert.deepEqual(await later.act("cacheList"), []);
  await later.fails("open", given, "NetworkError");
});

test("kept quantized: fewer bytes, the same ids", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  const given = { model: `${models.origin}/models/stories/`, options: { ...quick, dtype: "q4", cache: "quantized" } };
  await page.act("open", given);
  const ids = await generated(page);
  sameIds(ids, native("q4"), { tokens: 8, loose: true });
  await page.act("dispose");
  const [entry] = await page.act("cacheList");
  assert.ok(entry.bytes < 1_200_000, `${entry.bytes} bytes are kept of 2.4 MB in 16 bits`);
  await models.down();
  const second = await page.act("open", given);
  assert.equal(second.load.from, "cache");
  assert.deepEqual(await generated(page), ids);
  await page.act("dispose");
  await page.act("cacheClear");
  assert.deepEqual(await page.act("cacheList"), []);
});

test("a model of the Hub, kept, and the Hub down", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  models.hub.add("org/m", { folder: FOLDERS.stories });
  const page = await t.page(server);
  const given = { model: "org/m", options: { ...quick, dtype: "f32", remoteHost: models.origin } };
  await page.act("open", given);
  await page.act("dispose");
  models.log.length = 0;
  await page.act("open", given);
  assert.equal(models.requests(/^\/cdn\//).length, 0, "what is kept is not fetched again");
  await page.act("dispose");
  await models.down();
  const info = await page.act("open", given);
  assert.equal(info.load.from, "cache");
  sameIds(await generated(page), native("f32"), { tokens: 8 });
  assert.ok((await page.events("notice")).some((event) => event.code === "offline"), "the page hears that the Hub was not asked");
});

test("a load that broke off: nothing partial is taken as whole, and what is there is used", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  const given = { model: `${models.origin}/models/stories/`, options: { ...quick, dtype: "f32", concurrency: 1 } };
  models.faults.add("cut:at=1000000", "model.safetensors");
  await page.fails("open", given, "NetworkError");
  await models.down();
  await page.fails("open", given, "NetworkError", "CheckpointError", "ModelNotFoundError");
  await models.up();
  models.faults.clear();
  const info = await page.act("open", given);
  assert.ok(info.load.bytes > 2_300_000);
  sameIds(await generated(page), native("f32"), { tokens: 8 });
  await page.act("dispose");
  await models.down();
  assert.equal((await page.act("open", given)).load.from, "cache");
  sameIds(await generated(page), native("f32"), { tokens: 8 });
});

test("the file on the server changed: what is kept is not mixed with it", {}, async (t) => {
  const server = await t.server();
  const models = await t.modelServer();
  const page = await t.page(server);
  const options = { ...quick, dtype: "f32" };
  const model = `${models.origin}/models/stories/`;
  await page.act("open", { model, options });
  await page.act("dispose");
  models.faults.add("etag:times=1", "model.safetensors");
  models.faults.add("etag", "config.json");
  const outcome = await page.evaluate((given) => globalThis.act(given), ["open", { model, options }]);
  if (!outcome.error) sameIds(await generated(page), native("f32"), { tokens: 8 });
  else assert.ok(["NetworkError", "CheckpointError"].includes(outcome.error.name), outcome.error.name);
});

test("no room on the disk: it runs without the cache", { browsers: ["chromium"] }, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  await page.quota(server.origin, 1_000_000);
  const given = { model: `${server.origin}/models/stories/`, options: { ...quick, dtype: "f32", cache: true } };
  for (let visit = 0; visit < 2; visit++) {
    const info = await page.act("open", given);
    assert.equal(info.load.from, "network");
    sameIds(await generated(page), native("f32"), { tokens: 8 });
    await page.act("dispose");
  }
  assert.ok((await page.events("notice")).some((event) => event.code === "cache_unavailable"), "the page hears why");
  assert.ok((await page.act("cacheList")).every((entry) => !entry.complete), "nothing counts as whole");
});

test("the browser took the storage back: it is fetched again", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const given = { model: `${server.origin}/models/stories/`, options: { ...quick, dtype: "f32", cache: true } };
  await page.act("open", given);
  await page.act("dispose");
  assert.ok((await page.act("spoil", { how: "evict" })) > 0);
  const later = await t.page(server);
  assert.equal((await later.act("open", given)).load.from, "network");
  sameIds(await generated(later), native("f32"), { tokens: 8 });
});

for (const [kind, options] of [["as stored", { dtype: "f32", cache: true }], ["quantized", { dtype: "q4", cache: "quantized" }]]) {
  test(`a kept file (${kind}) that was cut in half is never taken as whole`, {}, async (t) => {
    const server = await t.server();
    const models = await t.modelServer();
    const page = await t.page(server);
    const given = { model: `${models.origin}/models/stories/`, options: { ...quick, ...options } };
    await page.act("open", given);
    const ids = await generated(page);
    await page.act("dispose");
    await page.act("spoil", { how: "truncate" });
    const later = await t.page(server);
    await later.act("open", given);
    assert.deepEqual(await generated(later), ids);
    await later.act("dispose");
    // where nothing can be fetched, it says so
    await later.act("spoil", { how: "truncate" });
    await models.down();
    await (await t.page(server)).fails("open", given, "NetworkError", "CheckpointError", "ChecksumError");
  });
}
