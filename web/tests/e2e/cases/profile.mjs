// Profiles: under the options of a page, over the model's own settings.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expected, sameIds, test } from "../harness.mjs";

const native = expected.models.stories.dtypes.f32[0];

test("profile: what it says counts where the page says nothing", {}, async (t) => {
  const folder = t.folder("profiles");
  const server = await t.server({ mounts: { "/profiles/": folder } });
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

  // the same as a text in YAML, and by its address: what reads that is loaded now
  const yaml = "# as native-runner takes it\ntorch_dtype: float32\ncontext: 256\nmax_new_tokens: 3\neos_token_id: []\n";
  writeFileSync(join(folder, "stories.yaml"), yaml);
  for (const given of [yaml, "/profiles/stories.yaml"]) {
    const read = await page.act("open", { model, options: { cache: false, profile: given } });
    assert.deepEqual([read.dtype, read.context, read.generation_defaults.max_new_tokens], ["f32", 256, 3]);
    assert.equal((await generated({ do_sample: false })).ids.length, 3);
    await page.act("dispose");
  }

  const text = JSON.stringify({ max_new_token: 5, colour: "red" });
  const wrong = await page.fails("open", { model, options: { cache: false, profile: text } }, "InvalidRequestError");
  assert.equal(wrong.param, "profile");
  assert.match(wrong.message, /`max_new_token` \(did you mean `max_new_tokens`\?\).*`colour`/);
  const hot = await page.fails("open", { model, options: { cache: false, profile: { temperature: "hot" } } }, "InvalidRequestError");
  assert.match(hot.message, /temperature is "hot"/);
});
