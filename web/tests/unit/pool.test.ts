import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AbortError, ModelPool, OutOfMemoryError, type LoadOptions } from "../../dist/index.js";
import type { Engine } from "../../dist/engine.js";
import { engineOf } from "./scripted.js";

/** A pool whose models count, and what it opened. */
function poolOf(options: ConstructorParameters<typeof ModelPool>[0], refuse: string[] = []) {
  const opened: { model: string; options: LoadOptions; ended: () => boolean }[] = [];
  const create = async (model: unknown, options: LoadOptions = {}): Promise<Engine> => {
    await sleep(5);
    if (options.signal?.aborted) throw new AbortError("aborted");
    if (refuse[0] === String(model)) {
      refuse.shift();
      throw new OutOfMemoryError("no memory");
    }
    const { engine, ended } = await engineOf();
    opened.push({ model: String(model), options, ended });
    return engine;
  };
  const pool = new ModelPool(options, create);
  return { pool, opened, open: (model: string, options?: LoadOptions) => pool.pipeline("text-generation", model, options) };
}

test("pool: who wants the same model shares it, also while it loads", async () => {
  const { open, opened, pool } = poolOf({ idleTimeout: 0 });
  const [a, b] = await Promise.all([open("m", { dtype: "q4" }), open("m", { dtype: "q4", on: {} })]);
  const c = await open("m", { dtype: "f16" });
  assert.equal(opened.length, 2);
  assert.equal(a.engine, b.engine);
  assert.notEqual(a.engine, c.engine);
  assert.equal(await a.dispose(), null);
  assert.equal(await a.dispose(), null, "it is one user, however often it says so");
  assert.deepEqual(await b("x", { max_new_tokens: 2 }), [{ generated_text: "x 0 1" }]);
  assert.equal((await b.dispose())?.total, 0);
  assert.ok(opened[0]?.ended() && !opened[1]?.ended());
  await pool.dispose();
  assert.ok(opened[1]?.ended());
  assert.equal(pool.size, 0);
});

test("pool: an idle model stays for a time", async () => {
  const { open, opened, pool } = poolOf({ idleTimeout: 60 });
  assert.equal(await (await open("m")).dispose(), null);
  const again = await open("m");
  await sleep(120);
  assert.deepEqual([opened.length, opened[0]?.ended()], [1, false], "it is used");
  await again.dispose();
  assert.equal(pool.size, 1);
  for (let i = 0; i < 100 && !opened[0]?.ended(); i++) await sleep(10);
  assert.deepEqual([pool.size, opened[0]?.ended()], [0, true]);
});

test("pool: where memory ends, the one goes that was used longest ago", async () => {
  const refuse = ["new", "none", "none", "none"];
  const { open, opened, pool } = poolOf({ idleTimeout: 100_000 }, refuse);
  const used = await open("used");
  for (const name of ["a", "b", "c"]) await (await open(name)).dispose();
  await (await open("a")).dispose();
  await open("new");
  const ended = () => opened.filter((one) => one.ended()).map(({ model }) => model);
  assert.deepEqual(ended(), ["b"]);
  await assert.rejects(open("none"), OutOfMemoryError);
  assert.deepEqual(ended(), ["a", "b", "c"]);
  assert.equal(pool.size, 2, "those that are used stay");
  assert.deepEqual(await used("x", { max_new_tokens: 1 }), [{ generated_text: "x 0" }]);
  await pool.dispose();
});

test("pool: with little memory nothing stays", async () => {
  const { open, opened } = poolOf({ lowMemory: true });
  const model = await open("m", { prefillChunk: 1000 });
  assert.equal(opened[0]?.options.prefillChunk, 64);
  assert.equal((await model.dispose())?.total, 0);
  assert.ok(opened[0]?.ended());
});

test("pool: who goes away ends a load that nobody else waits for", async () => {
  const { open, opened, pool } = poolOf({ idleTimeout: 0 });
  const [first, second] = [new AbortController(), new AbortController()];
  const both = [open("m", { signal: first.signal }), open("m", { signal: second.signal })];
  first.abort();
  await assert.rejects(both[0]!, AbortError);
  await (await both[1]!).dispose();
  assert.equal(opened.length, 1);
  const alone = open("m", { signal: second.signal });
  second.abort();
  await assert.rejects(alone, AbortError);
  await sleep(20);
  assert.deepEqual([opened.length, pool.size], [1, 0]);
});

test("pool: a worker that broke is not handed out again", async () => {
  const { open, opened, pool } = poolOf({ idleTimeout: 100_000 });
  const model = await open("m");
  await model.engine.dispose();
  await assert.rejects(open("m"));
  assert.equal(pool.size, 0);
  await open("m");
  assert.equal(opened.length, 2);
  await pool.dispose();
});
