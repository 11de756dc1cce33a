import assert from "node:assert/strict";
import { test } from "node:test";
import { UnsupportedParameterError, version, type ChatCompletionChunk } from "../../dist/index.js";
import { engineOf } from "./scripted.js";

const messages = [{ role: "user", content: "Hi" }];

test("an answer has OpenAI's shape", async () => {
  const { engine, script } = await engineOf();
  const before = Math.floor(Date.now() / 1000);
  const answer = await engine.chat.completions.create({ messages, max_tokens: 2, seed: 3 });
  const { id, created, system_fingerprint, usage, ...rest } = answer;
  assert.match(id, /^chatcmpl-[0-9a-f]{32}$/);
  assert.ok(created >= before && created <= Date.now() / 1000);
  assert.equal(system_fingerprint, `webweft_${version}_q4_f16_Some-GPU-1-`);
  assert.deepEqual(rest, {
    object: "chat.completion",
    model: "some/model",
    choices: [{ index: 0, message: { role: "assistant", content: " 0 1", refusal: null }, logprobs: null, finish_reason: "stop" }],
  });
  const { extra, ...counts } = usage;
  assert.deepEqual(counts, {
    prompt_tokens: 7,
    completion_tokens: 2,
    total_tokens: 9,
    prompt_tokens_details: { cached_tokens: 2 },
  });
  assert.deepEqual(extra, { prefill_tokens_per_s: 500, decode_tokens_per_s: 100, prefill_ms: 10, decode_ms: 20 });
  assert.deepEqual(script.requests[0], {
    messages,
    chat: { add_generation_prompt: true },
    options: { max_new_tokens: 2, seed: 3 },
  });
});

test("a stream has a role, contents, a reason and, if wanted, the usage", async () => {
  const { engine } = await engineOf();
  const chunks: ChatCompletionChunk[] = [];
  const request = { messages, max_tokens: 12, model: "m", stream: true, stream_options: { include_usage: true } } as const;
  for await (const chunk of await engine.chat.completions.create(request)) chunks.push(chunk);
  const first = chunks[0] as ChatCompletionChunk;
  for (const { id, created, model, object, system_fingerprint } of chunks) {
    assert.deepEqual({ id, created, system_fingerprint }, { id: first.id, created: first.created, system_fingerprint: first.system_fingerprint });
    assert.deepEqual([model, object], ["m", "chat.completion.chunk"]);
  }
  const deltas = chunks.map(({ choices }) => choices[0]?.delta);
  assert.deepEqual(deltas[0], { role: "assistant", content: "" });
  assert.equal(deltas.slice(1, -2).map((delta) => delta?.content).join(""), " 0 1 2 3 4 5 6 7 8 9 10 11");
  assert.deepEqual(deltas.slice(-2), [{}, undefined]);
  assert.deepEqual(chunks.map(({ choices }) => choices[0]?.finish_reason).slice(-3), [null, "length", undefined]);
  assert.deepEqual(chunks.map(({ usage }) => usage?.completion_tokens).slice(-2), [undefined, 12]);
  assert.ok(chunks.slice(0, -1).every(({ usage }) => usage === null));
});

test("without include_usage there is no word of it", async () => {
  const { engine } = await engineOf();
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of await engine.chat.completions.create({ messages, max_tokens: 1, stream: true })) chunks.push(chunk);
  assert.equal(chunks.length, 3);
  assert.ok(chunks.every((chunk) => !("usage" in chunk) && chunk.choices.length === 1));
});

test("log-probabilities are OpenAI's", async () => {
  const { engine } = await engineOf();
  const request = { messages, max_tokens: 1, logprobs: true, top_logprobs: 1 } as const;
  const expected = [
    { token: " 0", bytes: [32, 48], logprob: -0.5, top_logprobs: [{ token: "x", bytes: [120], logprob: -9999 }] },
  ];
  const answer = await engine.chat.completions.create(request);
  assert.deepEqual(answer.choices[0]?.logprobs, { content: expected, refusal: null });
  const streamed: unknown[] = [];
  for await (const { choices } of await engine.chat.completions.create({ ...request, stream: true })) {
    if (choices[0]?.logprobs) streamed.push(...(choices[0].logprobs.content ?? []));
  }
  assert.deepEqual(streamed, expected);
});

test("several answers: each with its seed and index, counted together", async () => {
  const { engine, script } = await engineOf();
  const request = { messages, max_tokens: 4, n: 3, seed: 5 };
  const answer = await engine.chat.completions.create(request);
  assert.deepEqual(answer.choices.map(({ index, message }) => [index, message.content]), [0, 1, 2].map((at) => [at, " 0 1 2 3"]));
  assert.deepEqual(script.requests.map(({ options }) => options?.["seed"]), [5, 6, 7]);
  assert.equal(script.most, 3, "at once");
  const { prompt_tokens, completion_tokens, total_tokens, extra } = answer.usage;
  assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [7, 12, 19]);
  assert.deepEqual([extra.decode_ms, extra.decode_tokens_per_s], [20, 600]);

  const chunks: ChatCompletionChunk[] = [];
  const streamed = { ...request, stream: true, stream_options: { include_usage: true } } as const;
  for await (const chunk of await engine.chat.completions.create(streamed)) chunks.push(chunk);
  for (const at of [0, 1, 2]) {
    const own = chunks.flatMap(({ choices }) => choices.filter(({ index }) => index === at));
    assert.deepEqual(own[0]?.delta, { role: "assistant", content: "" });
    assert.equal(own.map(({ delta }) => delta.content ?? "").join(""), " 0 1 2 3");
    assert.deepEqual(own.map(({ finish_reason }) => finish_reason), [null, null, null, null, null, "stop"]);
  }
  assert.deepEqual(chunks.at(-1)?.choices, []);
  assert.equal(chunks.at(-1)?.usage?.completion_tokens, 12);
  assert.equal(chunks.filter(({ usage }) => usage).length, 1);
});

test("leaving the loop ends all its answers", async () => {
  const { engine, script } = await engineOf();
  for await (const { choices } of await engine.chat.completions.create({ messages, max_tokens: 5000, n: 3, stream: true })) {
    if (choices[0]?.delta.content === " 9") break;
  }
  await engine.reset();
  assert.equal(script.aborted, 3);
});

test("leaving the loop ends the generation", async () => {
  const { engine, script } = await engineOf();
  for await (const chunk of await engine.chat.completions.create({ messages, max_tokens: 60, stream: true })) {
    if (chunk.choices[0]?.delta.content === " 2") break;
  }
  await engine.tokenizer.encode("after it");
  assert.equal(script.aborted, 1);
});

test("refusals come before any work", async () => {
  const { engine, script } = await engineOf();
  const tools = { messages, tools: [{}] } as never;
  await assert.rejects(engine.chat.completions.create(tools), UnsupportedParameterError);
  assert.equal(script.requests.length, 0);
});
