// Several generations of one engine at once: they share steps, and each is as it would be alone.

import assert from "node:assert/strict";
import { expected, greedy, sameIds, test } from "../harness.mjs";

const natives = expected.models.stories.dtypes.f32;
const F32 = { dtype: "f32", cache: false };
/** Little is under way ahead, so that on a busy machine, too, a text is not over before the page has seen it begin. */
const SHORT = { profile: { lookahead: 2 } };
const ASK = [{ role: "user", content: "Tell me a story about a cat named Tom." }];

async function opened(t, options = {}) {
  const server = await t.server();
  const page = await t.page(server);
  await page.act("open", { model: `${server.origin}/models/stories/`, options: { ...F32, ...options } });
  return page;
}

/** Starts `count` generations, one for each prompt that there are natively; `more`: by place, what else is said of one. */
async function startAll(page, count, tokens, more = {}) {
  const call = (at) => {
    const input = { prompt: natives[at].prompt, options: greedy(tokens) };
    return [at, "generate", { call: `call ${at}`, input, ...more[at] }];
  };
  await page.startTogether(Array.from({ length: count }, (_, at) => call(at)));
}

async function finished(page, at, tokens) {
  const { value, error } = await page.finish(at);
  assert.equal(error?.message, undefined);
  sameIds(value.ids, natives[at], { tokens });
  assert.deepEqual(value.pieces.map(([id]) => id), value.ids);
  assert.ok(natives[at].text.startsWith(value.text), value.text);
}

/** Every one's first comes before each other one's last. `times`: a list for each. */
function interleaved(times) {
  const begun = Math.max(...times.map((own) => own[0]));
  const ended = Math.min(...times.map((own) => own.at(-1)));
  assert.ok(begun < ended, `the last begins at ${begun}, the first ends at ${ended}`);
}

test("batch: three prompts at once give the ids that each gives alone", {}, async (t) => {
  const page = await opened(t);
  await startAll(page, 3, 32);
  for (const at of [0, 1, 2]) await finished(page, at, 32);
  const calls = (await page.events("piece")).map(({ call }) => call);
  interleaved([0, 1, 2].map((at) => calls.flatMap((call, place) => (call === `call ${at}` ? [place] : []))));
  assert.equal((await page.act("dispose")).total, 0);
  assert.deepEqual(page.problems, []);
});

test("batch: one joins while another writes, with the same prompt", {}, async (t) => {
  const page = await opened(t, SHORT);
  const { prompt } = natives[0];
  const atFirst = [["joined", "generate", { call: "joined", input: { prompt, options: greedy(12) } }]];
  await startAll(page, 1, 48, { 0: { atFirst } });
  await finished(page, 0, 48);
  const joined = await page.finish("joined");
  assert.equal(joined.error?.message, undefined);
  sameIds(joined.value.ids, natives[0], { tokens: 12 });
  const calls = (await page.events("piece")).map(({ call }) => call);
  assert.ok(calls.indexOf("joined") < calls.lastIndexOf("call 0"), "it did not wait for the end of the other");
});

test("batch: texts are encoded and memory is told meanwhile; a reset waits", {}, async (t) => {
  const page = await opened(t, SHORT);
  const atFirst = [["encode", "encode", { text: natives[0].prompt }], ["memory", "memory", {}], ["reset", "reset", {}]];
  await startAll(page, 2, 40, { 0: { atFirst } });
  for (const at of [0, 1]) await finished(page, at, 40);
  assert.equal((await page.finish("encode")).value.length, natives[0].prompt_tokens);
  assert.ok((await page.finish("memory")).value.total > 1_000_000);
  assert.equal((await page.finish("reset")).error, undefined);
  const events = await page.events();
  const before = (id) => events.slice(0, events.findIndex((event) => event.type === "ended" && event.id === id));
  const pieces = (id) => before(id).filter(({ type }) => type === "piece").length;
  for (const id of ["encode", "memory"]) assert.ok(pieces(id) < 80, "both still run");
  assert.equal(pieces("reset"), 80);
});

test("batch: an abort ends one of three", {}, async (t) => {
  const page = await opened(t);
  await startAll(page, 3, 32, { 1: { abortAt: 5 } });
  assert.equal((await page.finish(1)).error?.name, "AbortError");
  for (const at of [0, 2]) await finished(page, at, 32);
  // and its place is free again
  await startAll(page, 3, 8);
  for (const at of [0, 1, 2]) await finished(page, at, 8);
  assert.equal((await page.act("dispose")).total, 0);
});

test("batch: dispose with three under way", {}, async (t) => {
  const page = await opened(t, SHORT);
  await startAll(page, 3, 100);
  await page.until(() => globalThis.events.filter(({ type }) => type === "piece").length >= 6);
  const left = await page.act("dispose");
  assert.equal(left.total, 0);
  for (const at of [0, 1, 2]) assert.equal((await page.finish(at)).error?.name, "DisposedError");
  assert.equal(await page.act("workers"), 0);
});

test("batch: the device is lost with two under way", {}, async (t) => {
  const page = await opened(t, { cache: true });
  await startAll(page, 2, 40, { 0: { loseAt: 10 } });
  for (const at of [0, 1]) await finished(page, at, 40);
  assert.equal((await page.events("devicelost")).length, 1);
  assert.equal((await page.events("recovered")).length, 1);
  assert.equal((await page.act("dispose")).total, 0);
});

test("batch: lists of a pipeline", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const model = `${server.origin}/models/stories/`;
  const texts = [natives[0], natives[2]];
  const { results, left } = await page.act("pipeline", {
    model,
    options: F32,
    calls: [
      [texts.map(({ prompt }) => prompt), greedy(24)],
      [texts.map(({ prompt }) => prompt), { ...greedy(24), batch_size: 1 }],
      [[ASK, ASK], greedy(24)],
    ],
  });
  const [atOnce, oneByOne, chats] = results.map(({ output }) => output);
  texts.forEach(({ prompt, text }, at) => {
    const [{ generated_text }] = atOnce[at];
    assert.ok((prompt + text).startsWith(generated_text) && generated_text.length > prompt.length + 20, generated_text);
  });
  assert.deepEqual(oneByOne, atOnce);
  for (const [{ generated_text }] of chats) {
    assert.equal(generated_text.length, 2);
    assert.ok(natives[1].text.startsWith(generated_text[1].content) && generated_text[1].content.length > 20);
  }
  assert.equal(left.total, 0);
  const tooLong = { model, options: F32, calls: [[["Once", natives[0].text.repeat(10), "One"], greedy(100)]] };
  await page.fails("pipeline", tooLong, "ContextLengthError");
});

test("batch: two chats on one page", {}, async (t) => {
  const page = await opened(t);
  const other = [{ role: "user", content: "Tell me a story about a lost key." }];
  const request = (messages) => ({ request: { messages, temperature: 0, max_tokens: 32 } });
  const alone = (await page.act("complete", request(other))).choices[0].message.content;
  await page.startTogether([["one", "completeStream", request(ASK)], ["two", "completeStream", request(other)]]);
  const answers = [];
  for (const id of ["one", "two"]) {
    const { value, error } = await page.finish(id);
    assert.equal(error?.message, undefined);
    answers.push(value.filter(({ choices }) => choices[0]?.delta.content));
  }
  const [one, two] = answers.map((chunks) => chunks.map(({ choices }) => choices[0].delta.content).join(""));
  assert.ok(natives[1].text.startsWith(one) && one.length > 20, one);
  assert.equal(two, alone);
  interleaved(answers.map((chunks) => chunks.map(({ at }) => at)));
});

test("batch: several choices are those of their seeds", {}, async (t) => {
  const page = await opened(t);
  const request = { messages: ASK, temperature: 1, max_tokens: 16 };
  const both = await page.act("complete", { request: { ...request, n: 2, seed: 7 } });
  assert.deepEqual(both.choices.map(({ index }) => index), [0, 1]);
  assert.ok(both.usage.completion_tokens <= 32 && both.usage.prompt_tokens === natives[1].prompt_tokens, JSON.stringify(both.usage));
  for (const at of [0, 1]) {
    const { choices } = await page.act("complete", { request: { ...request, seed: 7 + at } });
    assert.equal(both.choices[at].message.content, choices[0].message.content);
  }
  const chunks = await page.act("completeStream", { request: { ...request, n: 2, seed: 7 } });
  for (const at of [0, 1]) {
    const own = chunks.flatMap(({ choices }) => choices.filter(({ index }) => index === at));
    assert.equal(own.map(({ delta }) => delta.content ?? "").join(""), both.choices[at].message.content);
  }
});

test("batch: the cache's type and policy, and the strategy", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const model = `${server.origin}/models/stories/`;
  for (const cache_dtype of t.sampleOf(2, ["q4", "q8", "f32", "f16"])) {
    const info = await page.act("open", { model, options: { ...F32, cache_dtype, batch_strategy: "fixed:2" } });
    assert.equal(info.cache_dtype, cache_dtype);
    assert.equal(info.cache_policy, "full");
    await startAll(page, 3, 40);
    for (const at of [0, 1, 2]) {
      const { value, error } = await page.finish(at);
      assert.equal(error?.message, undefined);
      assert.ok(value.ids.length > 10);
      if (cache_dtype === "f32") sameIds(value.ids, natives[at], { tokens: 40 });
    }
    assert.equal((await page.act("dispose")).total, 0);
  }
  const windowed = await page.act("open", { model, options: { ...F32, cache_policy: "window:128" } });
  assert.equal(windowed.cache_policy, "window:128");
  await page.act("dispose");
  for (const wrong of [{ cache_policy: "window" }, { cache_policy: "snapkv:5" }, { batch_strategy: "fixed" }]) {
    await page.fails("open", { model, options: { ...F32, ...wrong } }, "InvalidRequestError");
  }
});
