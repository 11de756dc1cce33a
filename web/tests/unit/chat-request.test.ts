import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync } from "node:fs";
import { parseChatRequest } from "../../dist/chat-request.js";
import {
  InvalidRequestError,
  UnsupportedParameterError,
  supportedFields,
  type ChatCompletionRequest,
  type GenerateInput,
} from "../../dist/index.js";

const messages = [{ role: "user", content: "Hi" }];
const parse = (body: object) => parseChatRequest({ messages, ...body } as ChatCompletionRequest, 512);
const first = (body: object) => parse(body).inputs[0] as GenerateInput;
const optionsOf = (body: object) =>
  Object.fromEntries(Object.entries(first(body).options ?? {}).filter(([, value]) => value !== undefined));

test("an empty request takes the model's settings, and as many tokens as fit", () => {
  const request = parse({});
  assert.deepEqual(optionsOf({}), { max_new_tokens: 512 });
  assert.deepEqual(request.inputs.map((input) => input.messages), [messages]);
  assert.deepEqual([request.stream, request.includeUsage, request.logprobs, request.model], [false, false, false, undefined]);
});

test("fields become settings", () => {
  const all = {
    model: "m",
    stream: true,
    stream_options: { include_usage: true },
    max_completion_tokens: 5,
    max_tokens: 5,
    temperature: 0.5,
    top_p: 0.9,
    stop: ["a", "b"],
    seed: 7,
    logprobs: true,
    top_logprobs: 3,
    presence_penalty: 1,
    frequency_penalty: -1,
    logit_bias: { "3": 2, "4": -100 },
    user: "someone",
    n: 1,
    response_format: { type: "text" },
    top_k: 4,
    min_p: 0.1,
    repetition_penalty: 1.1,
    prompt_lookup_num_tokens: 5,
    chat_template_kwargs: { enable_thinking: false },
  };
  assert.deepEqual(new Set(["messages", ...Object.keys(all)]), new Set(supportedFields), "every field is tried here");
  assert.deepEqual(optionsOf(all), {
    max_new_tokens: 5,
    do_sample: true,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 4,
    min_p: 0.1,
    seed: 7,
    stop_strings: ["a", "b"],
    logprobs: 3,
    presence_penalty: 1,
    frequency_penalty: -1,
    repetition_penalty: 1.1,
    prompt_lookup_num_tokens: 5,
    sequence_bias: [
      [[3], 2],
      [[4], -100],
    ],
  });
  const request = parse(all);
  assert.deepEqual(request.inputs[0]?.chat, { add_generation_prompt: true, enable_thinking: false });
  assert.deepEqual([request.stream, request.includeUsage, request.logprobs, request.model], [true, true, true, "m"]);
});

test("sampling follows from what is said", () => {
  assert.deepEqual(optionsOf({ temperature: 0, top_p: 0.5, max_tokens: 1 }), { max_new_tokens: 1, do_sample: false });
  assert.deepEqual(optionsOf({ top_p: 0.5, max_tokens: 1 }), { max_new_tokens: 1, do_sample: true, top_p: 0.5 });
  assert.deepEqual(optionsOf({ temperature: null, top_p: null, stop: null, max_tokens: 1 }), { max_new_tokens: 1 });
  assert.deepEqual(optionsOf({ stop: "x", max_tokens: 1 }), { max_new_tokens: 1, stop_strings: ["x"] });
  assert.deepEqual(optionsOf({ logprobs: true, max_tokens: 1 }), { max_new_tokens: 1, logprobs: 0 });
});

test("several answers differ in their seeds", () => {
  const seeds = (body: object) => parse(body).inputs.map(({ options }) => options?.seed);
  assert.deepEqual(seeds({ n: 3, seed: 7 }), [7, 8, 9]);
  assert.deepEqual(seeds({ n: 3, seed: Number.MAX_SAFE_INTEGER - 1 }), [Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER, 0]);
  assert.deepEqual(seeds({ n: 2 }), [undefined, undefined], "each draws its own");
  assert.deepEqual(parse({ n: 2, max_tokens: 1 }).inputs[1]?.messages, messages);
});

test("what OpenAI has and this has not is refused by name", () => {
  const refused: [string, object][] = [
    ["tools", { tools: [] }],
    ["tool_choice", { tool_choice: "none" }],
    ["parallel_tool_calls", { parallel_tool_calls: false }],
    ["functions", { functions: [{}] }],
    ["response_format", { response_format: { type: "json_object" } }],
    ["audio", { audio: {} }],
    ["modalities", { modalities: ["text"] }],
    ["reasoning_effort", { reasoning_effort: "low" }],
    ["prediction", { prediction: {} }],
    ["store", { store: true }],
    ["messages[0].content[1].type", { messages: [{ role: "user", content: [{ type: "text", text: "a" }, { type: "image_url" }] }] }],
  ];
  for (const [param, body] of refused) {
    const error = thrownBy(() => parse(body));
    assert.ok(error instanceof UnsupportedParameterError, param);
    assert.equal(error.param, param);
    assert.equal(error.code, "unsupported_parameter");
    assert.ok(error.message.includes(param));
  }
  // null is as good as absent
  assert.doesNotThrow(() => parse({ tools: null, n: null, response_format: null, audio: undefined }));
});

test("what makes no sense is refused by name", () => {
  const wrong: [string, object][] = [
    ["temprature", { temprature: 1 }],
    ["temperature", { temperature: 2.1 }],
    ["temperature", { temperature: NaN }],
    ["temperature", { temperature: "1" }],
    ["top_p", { top_p: -1 }],
    ["max_tokens", { max_tokens: 0 }],
    ["max_tokens", { max_tokens: 1.5 }],
    ["max_tokens", { max_tokens: 1, max_completion_tokens: 2 }],
    ["stop", { stop: [""] }],
    ["stop", { stop: 3 }],
    ["top_logprobs", { top_logprobs: 1 }],
    ["top_logprobs", { logprobs: true, top_logprobs: 21 }],
    ["presence_penalty", { presence_penalty: 3 }],
    ['logit_bias["a"]', { logit_bias: { a: 1 } }],
    ['logit_bias["1"]', { logit_bias: { 1: 101 } }],
    ["stream", { stream: "yes" }],
    ["stream_options", { stream_options: { include_usage: true } }],
    ["messages", { messages: [] }],
    ["messages", { messages: "Hi" }],
    ["messages[1]", { messages: [{ role: "user" }, null] }],
    ["messages[0].role", { messages: [{ content: "x" }] }],
    ["messages[0].content", { messages: [{ role: "user", content: 3 }] }],
    ["messages[0].content[0].text", { messages: [{ role: "user", content: [{ type: "text" }] }] }],
    ["seed", { seed: 0.5 }],
    ["n", { n: 0 }],
    ["n", { n: 1.5 }],
    ["n", { n: 129 }],
    ["user", { user: 3 }],
  ];
  for (const [param, body] of wrong) {
    const error = thrownBy(() => parse(body));
    assert.ok(error instanceof InvalidRequestError && !(error instanceof UnsupportedParameterError), param);
    assert.equal(error.param, param, JSON.stringify(body));
  }
});

test("messages are written as templates know them", () => {
  const said = [
    { role: "developer", content: "Be brief." },
    { role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] },
    { role: "assistant", content: null, tool_calls: [1] },
  ];
  assert.deepEqual(first({ messages: said }).messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "ab" },
    { role: "assistant", content: null, tool_calls: [1] },
  ]);
});

test("the README lists every field", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  for (const field of supportedFields) assert.ok(readme.includes(`\`${field}\``), field);
});

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return assert.fail("nothing was thrown");
}
