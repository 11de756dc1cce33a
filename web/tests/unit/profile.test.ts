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

test("a profile in YAML is what it is in native-runner", async () => {
  const text = `# of one model
model: Qwen/Qwen3-0.6B
torch_dtype: float16
max_memory: {0: 3.8GB}
context: 8192
temperature: 6e-1
do_sample: true
eos_token_id: [1, 2]
stop_strings: ["</answer>"]
generation_config:
  top_k: 20
`;
  const same = {
    model: "Qwen/Qwen3-0.6B", torch_dtype: "float16", max_memory: { 0: "3.8GB" }, context: 8192, temperature: 0.6, do_sample: true,
    eos_token_id: [1, 2], stop_strings: ["</answer>"], generation_config: { top_k: 20 },
  };
  for (const given of [text, address(text), new URL(address(text))]) assert.deepEqual(await readProfile(given), same);
  for (const given of ["context: 8", "{context: 8}", address("context: 8")]) assert.deepEqual(await readProfile(given), { context: 8 });
  // as YAML 1.2 has it
  assert.deepEqual(await readProfile("model: yes\nrevision: 2024-01-01\n"), { model: "yes", revision: "2024-01-01" });
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
  await refused("{context: 8", /profile: neither YAML nor JSON: .*\(1:\d+\)/);
  await refused("top_k: 5\ncontext: 8\ntop_k: 6\n", /duplicated mapping key.*\(3:/);
  await refused(address("context: [8"), /^data:.*neither YAML nor JSON/);
  await refused("context\n", /keys and their values were expected/);
  await refused(address("[1]"), /keys and their values were expected/);
  await refused("context: &a [*a, *a]", /aliases/);
  await refused("http://", /neither YAML, JSON nor an address/);
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
