import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AbortError, DeviceLostError, DisposedError, InternalError, InvalidRequestError, type EngineEvents } from "../../dist/index.js";
import { Script, engineOf, named } from "./scripted.js";

const input = (max_new_tokens: number) => ({ prompt: "x", options: { max_new_tokens } });

test("calls run one after another, in their order", async () => {
  const { engine, script } = await engineOf();
  const order: string[] = [];
  const call = (name: string, count: number) =>
    engine.generate(input(count), { onPiece: (piece) => order.push(`${name}${piece.id}`) }).then(() => order.push(`${name}.`));
  await Promise.all([call("a", 3), call("b", 2), engine.tokenizer.encode("A").then((ids) => order.push(`encoded ${ids}`)), call("c", 1)]);
  assert.deepEqual(order, ["a0", "a1", "a2", "a.", "b0", "b1", "b.", "encoded 65", "c0", "c."]);
  assert.equal(script.requests.length, 3);
});

test("a seed is drawn where none is given, and kept where one is", async () => {
  const { engine, script } = await engineOf();
  await engine.generate(input(1));
  await engine.generate({ prompt: "x", options: { max_new_tokens: 1, seed: 5 } });
  const [drawn, given] = script.requests.map(({ options }) => options?.["seed"]);
  assert.ok(Number.isSafeInteger(drawn));
  assert.equal(given, 5);
});

test("an abort rejects at once, ends the work, and what is behind goes on", async () => {
  const { engine, script } = await engineOf();
  const abort = new AbortController();
  const heard: number[] = [];
  const first = engine.generate(input(1000), {
    signal: abort.signal,
    onPiece: ({ id }) => {
      heard.push(id);
      if (id === 4) abort.abort(new Error("enough"));
    },
  });
  const second = engine.generate(input(2));
  await assert.rejects(first, (error) => error instanceof AbortError && (error.cause as Error).message === "enough");
  assert.equal((await second).ids.length, 2);
  assert.deepEqual(heard, [0, 1, 2, 3, 4], "nothing is told after the abort");
  assert.equal(script.aborted, 1);
});

test("an aborted call in the queue never runs", async () => {
  const { engine, script } = await engineOf();
  const abort = new AbortController();
  const first = engine.generate(input(50));
  const queued = engine.generate(input(7), { signal: abort.signal });
  const third = engine.generate(input(1));
  abort.abort();
  await assert.rejects(queued, AbortError);
  assert.equal((await first).ids.length, 50);
  await third;
  assert.deepEqual(script.requests.map(({ options }) => options?.["max_new_tokens"]), [50, 1]);
});

test("an aborted signal rejects before anything is asked", async () => {
  const { engine, script } = await engineOf();
  const signal = AbortSignal.abort();
  await assert.rejects(engine.generate(input(1), { signal }), AbortError);
  await assert.rejects(engine.memory({ signal }), AbortError);
  await assert.rejects(engine.tokenizer.encode("x", { signal }), AbortError);
  assert.equal(script.requests.length, 0);
});

test("leaving a stream ends the generation", async () => {
  const { engine, script } = await engineOf();
  const heard: number[] = [];
  for await (const { id } of engine.stream(input(100_000))) {
    heard.push(id);
    if (id === 3) break;
  }
  assert.deepEqual(heard, [0, 1, 2, 3]);
  await engine.generate(input(1));
  assert.equal(script.aborted, 1);
});

test("a stream that is read late has everything", async () => {
  const { engine } = await engineOf();
  const stream = engine.stream(input(20));
  await engine.generate(input(1));
  const ids: number[] = [];
  for await (const { id } of stream) ids.push(id);
  assert.deepEqual(ids, Array.from({ length: 20 }, (_, id) => id));
});

test("errors come typed, from generate and from streams", async () => {
  const { engine, script } = await engineOf();
  script.generateFails = named("InvalidRequestError", "top_k: too large", { param: "top_k" });
  const typed = (error: unknown) => error instanceof InvalidRequestError && error.param === "top_k";
  await assert.rejects(engine.generate(input(1)), typed);
  await assert.rejects(async () => {
    for await (const piece of engine.stream(input(1))) assert.fail(String(piece.id));
  }, typed);
});

test("arguments are checked before the worker hears of them", async () => {
  const { engine, script } = await engineOf();
  await assert.rejects(engine.generate({}), InvalidRequestError);
  await assert.rejects(engine.generate({ prompt: "x", ids: [1] }), InvalidRequestError);
  const unknown = { prompt: "x", options: { max_tokens: 1 } } as never;
  await assert.rejects(engine.generate(unknown), (error) => (error as InvalidRequestError).param === "max_tokens");
  const beams = { prompt: "x", options: { num_beams: 4 } } as never;
  await assert.rejects(engine.generate(beams), (error) => (error as InvalidRequestError).code === "unsupported_parameter");
  await engine.generate({ prompt: "x", options: { num_beams: 1, max_new_tokens: 1 } as never });
  assert.equal(script.requests.length, 1);
});

test("a lost device: the text goes on without a gap or a repeat", async () => {
  const script = new Script();
  script.losses = [4, 3];
  const { engine } = await engineOf(script);
  const events: [string, EngineEvents["devicelost" | "recovered"]][] = [];
  engine.on("devicelost", (event) => events.push(["devicelost", event]));
  engine.on("recovered", (event) => events.push(["recovered", event]));
  const heard: number[] = [];
  const result = await engine.generate(input(12), { onPiece: ({ id }) => heard.push(id) });
  const all = Array.from({ length: 12 }, (_, id) => id);
  assert.deepEqual(heard, all);
  assert.deepEqual(result.ids, all);
  assert.equal(result.text, all.map((id) => ` ${id}`).join(""));
  assert.deepEqual(script.requests.map(({ given }) => given?.length ?? 0), [0, 4, 7]);
  assert.equal(new Set(script.requests.map(({ options }) => options?.["seed"])).size, 1);
  assert.deepEqual(events.map(([name, { attempt }]) => [name, attempt]), [
    ["devicelost", 1],
    ["recovered", 1],
    ["devicelost", 1],
    ["recovered", 1],
  ]);
  assert.deepEqual([script.opened, script.closed], [3, 2]);
});

test("an adapter that comes late is waited for", async () => {
  const script = new Script();
  script.losses = [1];
  script.adapterFails = [named("WebGPUUnavailableError", "not yet"), named("WebGPUUnavailableError", "not yet")];
  const { engine } = await engineOf(script);
  assert.equal((await engine.generate(input(3))).ids.length, 3);
  assert.equal(script.adapterFails.length, 0);
});

test("a device that is lost again and again is given up, and asked for again by the next call", async () => {
  const script = new Script();
  const { engine } = await engineOf(script);
  script.losses = [2, 0, 0, 0];
  const heard: number[] = [];
  await assert.rejects(engine.generate(input(5), { onPiece: ({ id }) => heard.push(id) }), DeviceLostError);
  assert.deepEqual(heard, [0, 1]);
  assert.equal(script.requests.length, 4);
  assert.equal((await engine.generate(input(2))).ids.length, 2);
});

test("what else fails while the model is opened again ends the call", async () => {
  const script = new Script();
  const { engine } = await engineOf(script);
  script.losses = [1];
  script.openFails = [named("NetworkError", "the server is down")];
  await assert.rejects(engine.generate(input(5)), (error) => {
    assert.ok(error instanceof DeviceLostError);
    assert.match(error.message, /the server is down/);
    assert.equal((error.cause as Error).name, "NetworkError");
    return true;
  });
});

test("dispose gives the memory back and rejects everything else", async () => {
  const { engine, script, ended } = await engineOf();
  const running = engine.generate(input(1_000_000));
  const queued = engine.generate(input(1));
  const rejected = Promise.all([assert.rejects(running, DisposedError), assert.rejects(queued, DisposedError)]);
  await sleep(20);
  const [left, again] = await Promise.all([engine.dispose(), engine.dispose()]);
  await rejected;
  assert.equal(left?.total, 0);
  assert.equal(again, left);
  assert.ok(ended());
  assert.deepEqual([script.closed, script.aborted, script.requests.length], [1, 1, 1]);
  await assert.rejects(engine.generate(input(1)), DisposedError);
  await assert.rejects(engine.memory(), DisposedError);
});

test("a worker that does not answer is ended all the same", { timeout: 20_000 }, async () => {
  const script = new Script();
  script.deaf = true;
  const { engine, ended } = await engineOf(script);
  const running = assert.rejects(engine.generate(input(10_000_000)), DisposedError);
  await sleep(20);
  assert.equal(await engine.dispose(), null);
  await running;
  assert.ok(ended());
  script.deaf = false;
});

test("memory is told while the model generates, and after", async () => {
  const { engine } = await engineOf();
  const events: number[] = [];
  engine.on("memory", ({ total }) => events.push(total));
  let running = true;
  const generation = engine.generate(input(500)).then(() => (running = false));
  assert.equal((await engine.memory()).total, 100);
  assert.ok(running);
  await generation;
  assert.deepEqual(events, [100]);
});

test("listeners can leave, and their mistakes end nothing", async () => {
  const { engine } = await engineOf();
  const mistakes: unknown[] = [];
  Object.assign(globalThis, { reportError: (error: unknown) => mistakes.push(error) });
  let heard = 0;
  const leave = engine.on("memory", () => (heard += 1));
  engine.on("memory", () => {
    throw new Error("a page's mistake");
  });
  await engine.generate(input(1));
  leave();
  await engine.generate(input(1));
  assert.equal(heard, 1);
  assert.equal(mistakes.length, 2);
});

test("a worker that breaks ends every call, and can still be disposed of", async () => {
  const { engine, port, ended } = await engineOf();
  const calls = [engine.generate(input(1_000_000)), engine.generate(input(1))];
  const rejected = Promise.all(calls.map((call) => assert.rejects(call, InternalError)));
  // as browsers tell of a trap in the wasm that no call waits for
  port.dispatchEvent(Object.assign(new Event("error", { cancelable: true }), { message: "RuntimeError: unreachable" }));
  await rejected;
  await assert.rejects(engine.memory(), /unreachable/);
  assert.ok(ended());
  assert.equal(await engine.dispose(), null);
});
