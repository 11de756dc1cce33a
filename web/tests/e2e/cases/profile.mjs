// Profiles: under the options of a page, over the model's own settings.

import assert from "node:assert/strict";
import { expected, sameIds, test } from "../harness.mjs";

const native = expected.models.stories.dtypes.f32[0];

test("profile: what it says counts where the page says nothing", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const model = `${server.origin}/models/stories/`;
  const profile = { torch_dtype: "float32", context: 256, max_new_tokens: 6, generation_config: { do_sample: true, seed: 7 }, eos_token_id: [] };
  const info = await page.act("open", { model, options: { cache: false, profile, context: 128 } });
  assert.deepEqual([info.dtype, info.context], ["f32", 128]);
  assert.deepEqual([info.generation_defaults.max_new_tokens, info.generation_defaults.seed], [6, 7]);
  const generated = (options) => page.act("generate", { input: { prompt: native.prompt, options } });
  const [one, two] = [await generated({}), await generated({})];
  assert.equal(one.ids.length, 6);
  assert.deepEqual(one.ids, two.ids, "one seed, one text");
  sameIds((await generated({ do_sample: false, max_new_tokens: 4 })).ids, native, { tokens: 4 });
  await page.act("dispose");

  const text = JSON.stringify({ max_new_token: 5, colour: "red" });
  const wrong = await page.fails("open", { model, options: { cache: false, profile: text } }, "InvalidRequestError");
  assert.equal(wrong.param, "profile");
  assert.match(wrong.message, /`max_new_token` \(did you mean `max_new_tokens`\?\).*`colour`/);
  const hot = await page.fails("open", { model, options: { cache: false, profile: { temperature: "hot" } } }, "InvalidRequestError");
  assert.match(hot.message, /temperature is "hot"/);
});
