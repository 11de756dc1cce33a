// The same ids as the native runner's.

import assert from "node:assert/strict";
import { Skip, expected, greedy, sameIds, test } from "../harness.mjs";

/** How many of the prompts each type is tried with: software adapters make some ten tokens a second. */
const PROMPTS = { f32: 2, f16: 1, q4: 2 };

for (const model of ["stories", "stories260K"]) {
  for (const dtype of ["f32", "f16", "q4"]) {
    test(`${model} at ${dtype}: greedy ids as natively`, {}, async (t) => {
      const server = await t.server();
      if (!server.mounts[`/models/${model}/`]) throw new Skip("the model is not here");
      const page = await t.page(server);
      const info = await page.act("open", { model: `${server.origin}/models/${model}/`, options: { dtype, cache: false } });
      assert.equal(info.dtype, dtype);
      const notes = [];
      for (const native of t.sampleOf(1, expected.models[model].dtypes[dtype].slice(0, PROMPTS[dtype]))) {
        const tokens = t.sampleOf(48, native.ids).length;
        const result = await page.act("generate", { input: { prompt: native.prompt, options: greedy(tokens) } });
        assert.equal(result.prompt_tokens, native.prompt_tokens);
        const same = sameIds(result.ids, native, { loose: dtype !== "f32", tokens });
        notes.push(`${same} of ${tokens}`);
        assert.deepEqual(result.pieces.map(([id]) => id), result.ids);
        assert.equal(result.pieces.map(([, text]) => text).join(""), result.text);
        if (same === native.ids.length) {
          assert.equal(result.text, native.text);
          assert.equal(result.finish_reason, native.finish_reason);
        }
      }
      const left = await page.act("dispose");
      assert.equal(left.total, 0);
      assert.deepEqual(page.problems, []);
      return notes.join(", ");
    });
  }
}

test("ids come one by one, and settings hold", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  await page.act("open", { model: `${server.origin}/models/stories/`, options: { cache: false } });
  const sample = (seed) => page.act("generate", { input: { prompt: "Once upon a time", options: { do_sample: true, temperature: 1, seed, max_new_tokens: 12 } } });
  const [a, b, c] = [await sample(7), await sample(7), await sample(8)];
  assert.deepEqual(a.ids, b.ids);
  assert.notDeepEqual(a.ids, c.ids);
  assert.equal(a.finish_reason, "length");
  const stopped = await page.act("generate", { input: { prompt: "Once upon a time", options: { ...greedy(40), stop_strings: [" named"] } } });
  assert.equal(stopped.finish_reason, "stop");
  assert.ok(!stopped.text.includes(" named") && stopped.text.length > 3, stopped.text);
  const ids = await page.act("encode", { text: "Once upon a time" });
  const byIds = await page.act("generate", { input: { ids, options: greedy(6) } });
  const byText = await page.act("generate", { input: { prompt: "Once upon a time", options: greedy(6) } });
  assert.deepEqual(byIds.ids, byText.ids);
  await page.fails("generate", { input: { ids: Array(600).fill(5), options: greedy(6) } }, "ContextLengthError");
  await page.fails("generate", { input: { prompt: "a", options: { temperature: -1, do_sample: true } } }, "InvalidRequestError");
  await page.fails("generate", { input: { prompt: "a", options: { temprature: 1 } } }, "InvalidRequestError");
  // and it still works after refusals
  assert.deepEqual((await page.act("generate", { input: { ids, options: greedy(6) } })).ids, byText.ids);
});
