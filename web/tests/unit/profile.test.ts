import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidRequestError, NetworkError } from "../../dist/index.js";
import { toGenerationOptions } from "../../dist/generation.js";
import { toOpenOptions } from "../../dist/options.js";
import { readProfile } from "../../dist/profile.js";

const address = (text: string) => `data:application/json,${encodeURIComponent(text)}`;

test("a profile is an object, its text, or the address of that", async () => {
  const profile = { torch_dtype: "auto", max_memory: { 0: "3.8GB" }, generation_config: { top_k: 5 } } as const;
  assert.equal(await readProfile(profile), profile);
  const text = JSON.stringify(profile, null, 2);
  const same = JSON.parse(text) as object;
  for (const given of [text, `\n ${text}`, address(text), new URL(address(text))]) assert.deepEqual(await readProfile(given), same);
  // what it says is read in the wasm
  assert.deepEqual(toOpenOptions({ profile: { context: 8 }, context: 4 }), { context: 4 });
});

test("what is no profile is refused", async () => {
  const refused = async (given: unknown, words: RegExp) =>
    assert.rejects(readProfile(given as object), (error) => {
      assert.ok(error instanceof InvalidRequestError, String(error));
      assert.equal(error.param, "profile");
      assert.match(error.message, words);
      return true;
    });
  for (const given of [null, 7, true, [1]]) await refused(given, /give an object/);
  await refused("{context: 8}", /no JSON/);
  await refused(address("context: 8"), /no JSON/);
  await refused("context: 8\ntop_k: 5\n", /of YAML, give the object/);
  await refused("http://", /neither JSON nor an address/);
  await refused(`{"model": "${"x".repeat(1 << 20)}"}`, /are no profile/);
});

test("a profile that cannot be fetched is the network's", async () => {
  await assert.rejects(readProfile(new URL("http://127.0.0.1:1/p.json")), NetworkError);
  const aborted = AbortSignal.abort();
  await assert.rejects(readProfile(new URL("http://127.0.0.1:1/p.json"), aborted), { name: "AbortError" });
});

test("a seed of the profile is not drawn anew", () => {
  assert.deepEqual(toGenerationOptions({ top_k: 1 }, { seed: 7 }), { top_k: 1 });
  assert.deepEqual(toGenerationOptions({ seed: 3 }, { seed: 7 }), { seed: 3 });
  assert.equal(typeof toGenerationOptions({}, { temperature: 1 })["seed"], "number");
});
