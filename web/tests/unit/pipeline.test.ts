import assert from "node:assert/strict";
import { test } from "node:test";
import { AbortError, BaseStreamer, InvalidRequestError, TextStreamer, UnsupportedParameterError } from "../../dist/index.js";
import { toPipeline } from "../../dist/pipeline.js";
import { engineOf, named } from "./scripted.js";

async function generatorOf() {
  const all = await engineOf();
  return { ...all, generator: toPipeline(all.engine) };
}

const chat = [{ role: "user", content: "Hi" }];

test("texts and chats come back as from Transformers.js", async () => {
  const { generator, script } = await generatorOf();
  const options = { max_new_tokens: 2 };
  assert.deepEqual(await generator("x", options), [{ generated_text: "x 0 1" }]);
  assert.deepEqual(await generator("x", { ...options, return_full_text: false }), [{ generated_text: " 0 1" }]);
  const answered = [...chat, { role: "assistant", content: " 0 1" }];
  assert.deepEqual(await generator(chat, options), [{ generated_text: answered }]);
  assert.deepEqual(await generator(["a", "b"], options), [[{ generated_text: "a 0 1" }], [{ generated_text: "b 0 1" }]]);
  assert.deepEqual(await generator([chat, chat], options), [[{ generated_text: answered }], [{ generated_text: answered }]]);
  assert.deepEqual(script.requests[2]?.chat, { add_generation_prompt: true });
  const variables = { tools: [{ a: 1 }], documents: [{ b: 2 }], chat_template: "t", tokenizer_encode_kwargs: { enable_thinking: false } };
  await generator(chat, { ...options, ...variables });
  const expected = { add_generation_prompt: true, tools: [{ a: 1 }], documents: [{ b: 2 }], chat_template: "t", enable_thinking: false };
  assert.deepEqual(script.requests.at(-1)?.chat, expected);
});

test("a list runs at once; its results have its order", async () => {
  const { generator, script } = await generatorOf();
  const texts = ["a", "b", "c", "d", "e"];
  const expected = texts.map((text) => [{ generated_text: `${text} 0 1` }]);
  assert.deepEqual(await generator(texts, { max_new_tokens: 2 }), expected);
  assert.equal(script.most, 5);
  assert.deepEqual(script.requests.map(({ prompt }) => prompt), texts);
  const seeds = script.requests.map(({ options }) => options?.["seed"]);
  assert.ok(new Set(seeds).size > 1, "each draws its own seed");
  script.most = 0;
  assert.deepEqual(await generator(texts, { max_new_tokens: 2, batch_size: 2 }), expected);
  assert.equal(script.most, 2);
  assert.deepEqual(await generator(texts, { max_new_tokens: 2, batch_size: 100 }), expected);
  assert.deepEqual(await generator("x", { max_new_tokens: 1, batch_size: 4 }), [{ generated_text: "x 0" }]);
  for (const batch_size of [0, -1, 1.5, NaN, "2"]) {
    const call = generator(texts, { batch_size } as never);
    await assert.rejects(call, (error) => (error as InvalidRequestError).param === "batch_size");
  }
});

test("a list of which one fails is given up: what runs is aborted, what waits never runs", async () => {
  const { generator, script, engine } = await generatorOf();
  script.generateFails = named("ContextLengthError", "too long");
  script.failingPrompt = "b";
  const call = generator(["a", "b", "c", "d"], { max_new_tokens: 10_000, batch_size: 3 });
  await assert.rejects(call, (error) => (error as Error).name === "ContextLengthError");
  await engine.reset();
  assert.deepEqual(script.requests.map(({ prompt }) => prompt), ["a", "b", "c"]);
  assert.equal(script.aborted, 2);
});

test("a list is aborted as a whole", async () => {
  const { generator, script, engine } = await generatorOf();
  const abort = new AbortController();
  const call = generator(["a", "b"], { max_new_tokens: 1_000_000, signal: abort.signal });
  setTimeout(() => abort.abort(new Error("enough")), 20);
  await assert.rejects(call, (error) => error instanceof AbortError && (error.cause as Error).message === "enough");
  await engine.reset();
  assert.equal(script.aborted, 2);
});

test("a stream gives texts; leaving it ends the generation", async () => {
  const { generator, script } = await generatorOf();
  let text = "";
  for await (const piece of generator.stream(chat, { max_new_tokens: 3 })) text += piece;
  assert.equal(text, " 0 1 2");
  for await (const piece of generator.stream("x", { max_new_tokens: 10_000 })) if (piece === " 3") break;
  await generator("x", { max_new_tokens: 1 });
  assert.equal(script.aborted, 1);
});

test("a TextStreamer hears of prompt, texts and ids", async () => {
  const { generator } = await generatorOf();
  const texts: string[] = [];
  const ids: bigint[] = [];
  const callback_function = (text: string) => texts.push(text);
  const token_callback_function = (some: bigint[]) => ids.push(...some);
  const streamer = new TextStreamer(generator.tokenizer, { callback_function, token_callback_function });
  await generator("AB", { max_new_tokens: 2, streamer });
  assert.deepEqual([texts, ids], [["AB", " 0", " 1"], [65n, 66n, 0n, 1n]]);
  texts.length = ids.length = 0;
  const skipping = new TextStreamer(generator.tokenizer, { skip_prompt: true, callback_function, token_callback_function });
  await generator(chat, { max_new_tokens: 2, streamer: skipping });
  await generator(chat, { max_new_tokens: 1, streamer: skipping });
  assert.deepEqual([texts, ids], [[" 0", " 1", " 0"], [0n, 1n, 0n]]);
  const skip_special_tokens = false as unknown as true;
  assert.throws(() => new TextStreamer(generator.tokenizer, { skip_special_tokens }), UnsupportedParameterError);
});

test("a streamer of one's own hears of ids, the end and failures", async () => {
  const { generator, script } = await generatorOf();
  const heard: unknown[] = [];
  class Own extends BaseStreamer {
    put(value: bigint[][]) {
      heard.push(value);
    }
    end() {
      heard.push("end");
    }
    override abort(reason: unknown) {
      heard.push((reason as Error).name);
    }
  }
  await generator("A", { max_new_tokens: 1, streamer: new Own() });
  assert.deepEqual(heard, [[[65n]], [[0n]], "end"]);
  heard.length = 0;
  script.generateFails = named("OutOfMemoryError", "no room");
  await assert.rejects(generator("A", { max_new_tokens: 1, streamer: new Own() }));
  assert.deepEqual(heard, [[[65n]], "OutOfMemoryError"]);
});

test("wrong input is refused by name", async () => {
  const { generator } = await generatorOf();
  for (const input of [3, null, [], [3], {}, [{ content: "no role" }]]) {
    if (Array.isArray(input) && input.length === 0) assert.deepEqual(await generator(input as string[]), []);
    else await assert.rejects(generator(input as never), (error) => (error as InvalidRequestError).param === "input");
  }
  await assert.rejects(generator("x", { num_return_sequences: 2 } as never), UnsupportedParameterError);
  const streamer = new TextStreamer(generator.tokenizer);
  await assert.rejects(generator(["a"], { streamer }), (error) => (error as InvalidRequestError).param === "streamer");
  await assert.rejects(generator("x", { signal: AbortSignal.abort() }), AbortError);
});
