// A model that comes and goes.

import assert from "node:assert/strict";
import { expected, greedy, sameIds } from "../harness.mjs";

const native = expected.models.stories.dtypes.f32[0];

/** Loads a model, generates and disposes of it, `count` times: each leaves nothing on the GPU, no worker, and the wasm takes what it took the first time. */
export async function rounds(page, server, count) {
  let wasm;
  for (let round = 0; round < count; round++) {
    await page.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false } });
    sameIds((await page.act("generate", { input: { prompt: native.prompt, options: greedy(3) } })).ids, native, { tokens: 3 });
    const memory = await page.act("memory");
    assert.deepEqual(memory.leaks, []);
    wasm ??= memory.wasm;
    // it grows by pages of 64 KiB, as bytes happen to come
    assert.ok(memory.wasm <= wasm + (1 << 20), `round ${round}: ${memory.wasm} bytes of wasm, ${wasm} at first`);
    assert.equal((await page.act("dispose")).total, 0);
    // what the page under test keeps itself
    await page.evaluate(() => globalThis.events.splice(0).length);
  }
  assert.equal(await page.act("workers"), 0);
}
