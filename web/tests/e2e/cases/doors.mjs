// Both doors: pipeline and chat completions.

import assert from "node:assert/strict";
import { expected, greedy, test } from "../harness.mjs";

const native = (dtype, number) => expected.models.stories.dtypes[dtype][number];
const ASK = [{ role: "user", content: "Tell me a story about a cat named Tom." }];

test("pipeline: text, chats, lists, streamer, iterator, progress", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const tokens = 16;
  const text = "Once upon a time";
  const { progress, results, streamed, left } = await page.act("pipeline", {
    model: `${server.origin}/models/stories/`,
    options: { dtype: "f32", cache: false },
    calls: [
      [text, greedy(tokens)],
      [text, { ...greedy(tokens), return_full_text: false }],
      [ASK, greedy(tokens)],
      [[text, "One sunny day, a little duck"], greedy(4)],
    ],
    stream: [ASK, greedy(tokens)],
  });
  const added = native("f32", 0).text;
  const [whole, part, chat, list] = results.map(({ output }) => output);
  assert.equal(whole.length, 1);
  assert.ok(whole[0].generated_text.startsWith(text + added.slice(0, 20)), whole[0].generated_text);
  assert.ok((text + added).startsWith(whole[0].generated_text));
  assert.equal(part[0].generated_text, whole[0].generated_text.slice(text.length));
  assert.equal(results[0].printed.join(""), part[0].generated_text);
  const answer = chat[0].generated_text.at(-1);
  assert.deepEqual(chat[0].generated_text[0], ASK[0]);
  assert.equal(answer.role, "assistant");
  assert.ok(native("f32", 1).text.startsWith(answer.content) && answer.content.length > 20, answer.content);
  assert.equal(list.length, 2);
  assert.ok(list[1][0].generated_text.startsWith("One sunny day, a little duck named"));
  assert.ok(streamed.length > 5);
  assert.equal(streamed.join(""), answer.content);

  const statuses = new Set(progress.map((event) => event.status));
  for (const status of ["initiate", "download", "progress", "progress_total", "done", "ready"]) assert.ok(statuses.has(status), status);
  const weights = progress.filter((event) => event.status === "progress" && event.file === "model.safetensors");
  assert.ok(weights.every((event, i) => event.loaded <= event.total && (i === 0 || event.loaded >= weights[i - 1].loaded)));
  assert.equal(weights.at(-1).progress, 100);
  assert.equal(progress.at(-1).status, "ready");
  assert.equal(left.total, 0);
});

test("chat completions: whole, streamed, log-probabilities, usage", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  await page.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false } });
  const request = { messages: ASK, temperature: 0, max_tokens: 24 };
  const whole = await page.act("complete", { request: { ...request, logprobs: true, top_logprobs: 2 } });
  assert.equal(whole.object, "chat.completion");
  const [choice] = whole.choices;
  assert.equal(choice.finish_reason, "length");
  assert.equal(choice.message.role, "assistant");
  assert.ok(native("f32", 1).text.startsWith(choice.message.content), choice.message.content);
  assert.equal(whole.usage.completion_tokens, 24);
  assert.equal(whole.usage.prompt_tokens, native("f32", 1).prompt_tokens);
  assert.equal(choice.logprobs.content.length, 24);
  choice.logprobs.content.forEach(({ logprob, top_logprobs }, i) => {
    assert.ok(logprob <= 0 && top_logprobs.length === 2);
    assert.ok(Math.abs(top_logprobs[0].logprob - top_logprobs[1].logprob - native("f32", 1).margins[i]) < 0.01, `margin ${i}`);
  });

  const chunks = await page.act("completeStream", { request: { ...request, stream_options: { include_usage: true } } });
  assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk" && chunk.id === chunks[0].id));
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  const texts = chunks.flatMap((chunk) => chunk.choices.map(({ delta }) => delta.content ?? ""));
  assert.equal(texts.join(""), choice.message.content);
  assert.equal(chunks.at(-2).choices[0].finish_reason, "length");
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 24);
  // it streams: the first piece is there well before the last
  const times = chunks.filter((chunk) => chunk.choices[0]?.delta.content).map((chunk) => chunk.at);
  assert.ok(times.length >= 10 && times.at(-1) - times[0] > 20, `${times.length} pieces within ${times.at(-1) - times[0]} ms`);

  // the next turn finds the one before in the cache
  const next = [...ASK, { role: "assistant", content: choice.message.content }, { role: "user", content: "Who was it about?" }];
  const turn = await page.act("complete", { request: { messages: next, temperature: 0, max_tokens: 4 } });
  assert.ok(turn.usage.prompt_tokens_details.cached_tokens >= whole.usage.prompt_tokens, JSON.stringify(turn.usage));

  for (const [field, value] of [["tools", [{ type: "function", function: { name: "f" } }]], ["response_format", { type: "json_object" }]]) {
    const error = await page.fails("complete", { request: { ...request, [field]: value } }, "UnsupportedParameterError");
    assert.ok(error.param.startsWith(field), error.param);
  }
  assert.equal((await page.fails("complete", { request: { ...request, messages: [] } }, "InvalidRequestError")).param, "messages");
  await page.fails("complete", { request: { ...request, max_tokenz: 3 } }, "InvalidRequestError");
});
