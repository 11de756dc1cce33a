// What the cache holds, saved, and put back after the page was loaded again.

import assert from "node:assert/strict";
import { expected, greedy, sameIds, test } from "../harness.mjs";

const native = expected.models.stories.dtypes.f32[0];

async function opened(page, server, options = {}) {
  await page.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false, ...options } });
}

async function reloaded(page, server) {
  await page.goto(`${server.origin}/index.html`);
  await page.until(() => globalThis.ready === true);
}

const generate = (page, ids, tokens) => page.act("generate", { input: { ids, options: { ...greedy(tokens), eos_token_id: [] } } });

for (const cache_dtype of ["f32", "q4"]) {
  test(`saved: a text goes on after a reload, id for id, with a cache of ${cache_dtype}`, {}, async (t) => {
    const server = await t.server();
    const page = await t.page(server);
    await opened(page, server, { cache_dtype });
    const prompt = await page.act("encode", { text: native.prompt });
    const first = await generate(page, prompt, 40);
    if (cache_dtype === "f32") sameIds(first.ids, native, { tokens: 40 });
    const text = [...prompt, ...first.ids];
    const saved = await page.act("saveCache", { file: "a story" });
    assert.equal(saved.tokens, text.length - 1, "the last token was never computed");
    // in place of the first one
    assert.deepEqual(await page.act("saveCache", { ids: text, file: "a story" }), saved);
    const stayed = await generate(page, text, 24);
    assert.equal(stayed.cached_tokens, text.length - 1);

    await reloaded(page, server);
    await opened(page, server, { cache_dtype });
    assert.equal(await page.act("restoreCache", { from: "a story" }), saved.tokens);
    const back = await generate(page, text, 24);
    assert.deepEqual(back.ids, stayed.ids);
    assert.equal(back.cached_tokens, text.length - 1, "nothing was computed again");
    assert.equal((await page.act("dispose")).total, 0);
    assert.deepEqual(page.problems, []);
  });
}

test("saved: as a blob, to another engine of the page; and what does not fit", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  await opened(page, server);
  const empty = await page.fails("saveCache", { ids: [1, 2, 3] }, "SavedCacheError");
  assert.equal(empty.code, "empty");
  const prompt = await page.act("encode", { text: native.prompt });
  const first = await generate(page, prompt, 16);
  const text = [...prompt, ...first.ids];
  const { tokens, bytes, size } = await page.act("saveCache", { ids: text });
  assert.deepEqual([tokens, size], [text.length - 1, bytes]);
  await page.act("open", { name: "b", model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false } });
  assert.equal(await page.act("restoreCache", { name: "b" }), tokens);
  const other = await page.act("generate", { name: "b", input: { ids: text, options: greedy(8) } });
  assert.equal(other.cached_tokens, tokens);
  sameIds([...first.ids, ...other.ids], native, { tokens: 24 });

  assert.equal((await page.fails("restoreCache", { from: "nothing" }, "SavedCacheError")).code, "not_found");
  assert.equal((await page.fails("restoreCache", { cut: bytes - 1 }, "SavedCacheError")).code, "file");
  await page.act("dispose", { name: "b" });
  await page.act("open", { name: "b", model: `${server.origin}/models/stories/`, options: { dtype: "f16", cache_dtype: "f32", cache: false } });
  assert.equal((await page.fails("restoreCache", { name: "b" }, "SavedCacheError")).code, "model");
  await page.act("dispose");
  await opened(page, server, { cache_dtype: "q8" });
  assert.equal((await page.fails("restoreCache", {}, "SavedCacheError")).code, "setting");
});
