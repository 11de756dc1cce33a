import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AbortError,
  DeviceLostError,
  DisposedError,
  InternalError,
  InvalidRequestError,
  SavedCacheError,
  StorageError,
  type EngineEvents,
} from "../../dist/index.js";
import { Script, engineOf, named } from "./scripted.js";

const input = (max_new_tokens: number) => ({ prompt: "x", options: { max_new_tokens } });

const upTo = (count: number) => Array.from({ length: count }, (_, id) => id);

test("generations run side by side, and texts are encoded meanwhile", async () => {
  const { engine, script } = await engineOf();
  const order: string[] = [];
  const call = (name: string, count: number) =>
    engine.generate(input(count), { onPiece: (piece) => order.push(`${name}${piece.id}`) }).then(() => order.push(`${name}.`));
  const encoded = engine.tokenizer.encode("A").then((ids) => order.push(`encoded ${ids}`));
  await Promise.all([call("a", 30), call("b", 20), encoded, call("c", 10)]);
  assert.equal(script.most, 3);
  const of = (name: string) => order.filter((one) => one.startsWith(name));
  for (const [name, count] of [["a", 30], ["b", 20], ["c", 10]] as const) {
    assert.deepEqual(of(name), [...upTo(count).map((id) => `${name}${id}`), `${name}.`], "each in its own order");
  }
  assert.deepEqual(order.filter((one) => /\.|encoded/.test(one)), ["encoded 65", "c.", "b.", "a."], "the shortest ends first");
});

test("a reset waits for the generations before it, and those behind it wait", async () => {
  const { engine, script } = await engineOf();
  const order: string[] = [];
  const tell = (name: string) => () => void order.push(name);
  await Promise.all([
    engine.generate(input(30)).then(tell("a")),
    engine.generate(input(5)).then(tell("b")),
    engine.reset().then(tell("reset")),
    engine.generate(input(1)).then(tell("c")),
    engine.generate(input(4)).then(tell("d")),
  ]);
  assert.deepEqual(order, ["b", "a", "reset", "c", "d"]);
  assert.equal(script.reset, 1);
  // without it, nobody waits any more
  const abort = new AbortController();
  const onPiece = ({ id }: { id: number }) => void (id === 20 && abort.abort());
  const long = engine.generate(input(200), { onPiece }).then(tell("long"));
  const aborted = assert.rejects(engine.reset({ signal: abort.signal }), AbortError).then(tell("aborted"));
  const short = engine.generate(input(1)).then(tell("short"));
  await Promise.all([long, aborted, short]);
  assert.equal(script.reset, 1);
  assert.equal(order[5], "aborted", "an abort ends the waiting at once");
});

test("what is saved comes back, in every form", async () => {
  const { engine, script } = await engineOf();
  const { blob, ...saved } = await engine.saveCache();
  assert.deepEqual(saved, { tokens: 3, bytes: 3 });
  assert.deepEqual([...new Uint8Array(await blob!.arrayBuffer())], [7, 8, 9]);
  const given = await engine.saveCache({ ids: [1, 2, 3, 4] });
  const bytes = await given.blob!.arrayBuffer();
  for (const from of [given.blob!, bytes, new Uint8Array(bytes)]) {
    script.restored = [];
    assert.equal(await engine.restoreCache(from), 4);
    assert.deepEqual(script.restored, [1, 2, 3, 4]);
  }
  await assert.rejects(engine.saveCache({ ids: [] }), (error) => error instanceof SavedCacheError && error.code === "empty");
  for (const file of ["", "a/b", "..", "a\\b"]) {
    await assert.rejects(engine.saveCache({ file }), InvalidRequestError);
    await assert.rejects(engine.restoreCache(file), InvalidRequestError);
  }
  // there is no such storage here
  await assert.rejects(engine.saveCache({ file: "a" }), StorageError);
  await assert.rejects(engine.restoreCache("a"), StorageError);
});

test("a seed is drawn where none is given, and kept where one is", async () => {
  const { engine, script } = await engineOf();
  await engine.generate(input(1));
  await engine.generate({ prompt: "x", options: { max_new_tokens: 1, seed: 5 } });
  const [drawn, given] = script.requests.map(({ options }) => options?.["seed"]);
  assert.ok(Number.isSafeInteger(drawn));
  assert.equal(given, 5);
});

test("an abort rejects at once and ends the work; what is beside it goes on", async () => {
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
  const second = engine.generate(input(20));
  await assert.rejects(first, (error) => error instanceof AbortError && (error.cause as Error).message === "enough");
  assert.deepEqual((await second).ids, upTo(20));
  assert.deepEqual(heard, [0, 1, 2, 3, 4], "nothing is told after the abort");
  assert.equal(script.aborted, 1);
});

test("a call that is aborted while it waits never runs", async () => {
  const { engine, script } = await engineOf();
  const abort = new AbortController();
  const first = engine.generate(input(50));
  const reset = engine.reset();
  const queued = engine.generate(input(7), { signal: abort.signal });
  const third = engine.generate(input(1));
  abort.abort();
  await assert.rejects(queued, AbortError);
  assert.equal((await first).ids.length, 50);
  await Promise.all([reset, third]);
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
  assert.deepEqual(ids, upTo(20));
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
  const all = upTo(12);
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
  assert.deepEqual([script.opened, script.closed, script.freed], [3, 2, 2]);
});

test("a device that three generations lose is replaced once, and each goes on where it was", async () => {
  const script = new Script();
  script.losses = [undefined, 4];
  const { engine } = await engineOf(script);
  const events: [string, number][] = [];
  for (const type of ["devicelost", "recovered"] as const) engine.on(type, ({ attempt }) => events.push([type, attempt]));
  const heard: number[][] = [[], [], []];
  const results = await Promise.all(
    [12, 9, 15].map((count, at) => engine.generate(input(count), { onPiece: ({ id }) => heard[at]?.push(id) })),
  );
  assert.deepEqual(heard, [12, 9, 15].map(upTo), "no gap and no repeat");
  assert.deepEqual(results.map(({ ids }) => ids), heard);
  assert.deepEqual(events, [["devicelost", 1], ["recovered", 1]]);
  assert.deepEqual([script.opened, script.closed, script.freed], [2, 1, 1]);
  assert.equal(script.requests.length, 6, "each was asked for once more");
});

test("while the model is opened again: one is aborted, another joins", async () => {
  const script = new Script();
  script.losses = [2, undefined];
  const { engine } = await engineOf(script);
  const abort = new AbortController();
  engine.on("devicelost", () => abort.abort());
  const ended = assert.rejects(engine.generate(input(6), { signal: abort.signal }), AbortError);
  const other = engine.generate(input(6));
  await ended;
  const [one, ids, joined] = await Promise.all([other, engine.tokenizer.encode("A"), engine.generate(input(3))]);
  assert.deepEqual([one.ids, joined.ids, ids], [upTo(6), upTo(3), [65]]);
  assert.equal(script.opened, 2);
});

test("a device that is lost again and again is given up for all", async () => {
  const script = new Script();
  script.losses = [2, undefined, 0, 0, 0, 0, 0, 0];
  const { engine } = await engineOf(script);
  const lost: number[] = [];
  engine.on("devicelost", ({ attempt }) => lost.push(attempt));
  const calls = [engine.generate(input(50)), engine.generate(input(50))];
  await Promise.all(calls.map((call) => assert.rejects(call, DeviceLostError)));
  assert.deepEqual(lost, [1, 2, 3]);
  assert.deepEqual([script.opened, script.freed], [4, 4]);
  script.losses = [];
  assert.equal((await engine.generate(input(2))).ids.length, 2, "the next call asks again");
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

test("one that loses every device is given up; what is beside it goes on", async () => {
  const script = new Script();
  const { open } = script.facade;
  script.facade.open = async (...given) => {
    const model = await open(...given);
    const { generate } = model;
    model.generate = async (request, ...rest) => {
      if (request.prompt !== "bad") return generate(request, ...rest);
      await sleep(10);
      model.lose_device();
      throw named("DeviceLostError", "the GPU device was lost");
    };
    return model;
  };
  const { engine } = await engineOf(script);
  const lost: number[] = [];
  engine.on("devicelost", ({ attempt }) => lost.push(attempt));
  const good = engine.generate(input(30_000));
  await assert.rejects(engine.generate({ prompt: "bad" }), DeviceLostError);
  assert.equal((await good).ids.length, 30_000);
  assert.deepEqual(lost, [1, 1, 1, 1]);
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
  const calls = [engine.generate(input(1_000_000)), engine.generate(input(1_000_000)), engine.reset(), engine.generate(input(1))];
  const rejected = Promise.all(calls.map((call) => assert.rejects(call, DisposedError)));
  await sleep(20);
  const [left, again] = await Promise.all([engine.dispose(), engine.dispose()]);
  await rejected;
  assert.equal(left?.total, 0);
  assert.equal(again, left);
  assert.ok(ended());
  assert.deepEqual([script.closed, script.freed, script.aborted, script.requests.length], [1, 1, 2, 2]);
  await assert.rejects(engine.generate(input(1)), DisposedError);
  await assert.rejects(engine.memory(), DisposedError);
});

test("dispose while the model is opened again", async () => {
  const script = new Script();
  script.losses = [2];
  const { engine, ended } = await engineOf(script);
  const lost = new Promise((resolve) => engine.on("devicelost", resolve));
  const calls = [engine.generate(input(50)), engine.generate(input(50))];
  const rejected = Promise.all(calls.map((call) => assert.rejects(call, DisposedError)));
  await lost;
  await engine.dispose();
  await rejected;
  assert.ok(ended());
  assert.equal(script.opened, script.closed, "what was opened is closed");
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
  const { total, timeline, leaks } = await engine.memory();
  assert.deepEqual([total, timeline.at(-1)?.weights, leaks], [100, 100, []]);
  assert.ok(running);
  assert.deepEqual((await engine.precision()).overflows, [{ class: "mlp", layer: 3, position: 17, count: 1 }]);
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
