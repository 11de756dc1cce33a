// What takes minutes: a checkpoint of 1 GB, and many rounds. Only with --long.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { makeCheckpoint } from "../../tools/make-checkpoint.mjs";
import { remove, temporary } from "../browser.mjs";
import { greedy, test } from "../harness.mjs";
import { rounds } from "./rounds.mjs";

const MIB = 1 << 20;
const WASM_LIMIT = 96 * MIB;
/** Of the speed of a plain fetch of the same bytes, on SwiftShader: told beside what was measured, since a machine has other work, too. */
const AIM = { f16: 0.4, q4: 0.25 };
const RUNS = Number(process.env.WEBWEFT_RUNS ?? 5);

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const short = { prompt: "Once upon a time", options: greedy(2) };

test("1 GB: speed beside a plain fetch, host memory, second load with the server down", { browsers: ["chromium"], long: true, fresh: true, seconds: 3000 }, async (t) => {
  const folder = temporary("1gb");
  try {
    const made = makeCheckpoint(folder, { bytes: 1 << 30, shards: 4 });
    const server = await t.server();
    const models = await t.modelServer({ mounts: { "/large/": folder } });
    const page = await t.page(server);
    const model = `${models.origin}/large/`;
    const urls = readdirSync(folder).filter((name) => name.endsWith(".safetensors")).map((name) => model + name);
    const wrong = []; // told at the end, so that one number that is off does not hide the others
    const notes = [`${(made.bytes / MIB).toFixed(0)} MiB in ${made.files} files`];
    for (const dtype of ["f16", "q4"]) {
      const speeds = { fetch: [], load: [] };
      let most = 0;
      for (let run = 0; run < RUNS; run++) {
        const plain = await page.act("fetchAll", { urls });
        speeds.fetch.push(plain.bytes / plain.ms / 1000);
        const info = await page.act("open", { model, options: { dtype, cache: false, context: 512 } });
        assert.ok(info.load.bytes >= made.bytes, `${info.load.bytes} of ${made.bytes}`);
        speeds.load.push(made.bytes / info.load.ms / 1000);
        const { wasm } = await page.act("memory");
        most = Math.max(most, wasm, info.wasm_memory);
        await page.act("generate", { input: short });
        assert.equal((await page.act("dispose")).total, 0);
      }
      const ratio = median(speeds.load) / median(speeds.fetch);
      const list = (values) => values.map((value) => value.toFixed(0)).join(" ");
      console.log(`       ${dtype}: load ${list(speeds.load)} MB/s, fetch ${list(speeds.fetch)} MB/s, ratio ${ratio.toFixed(2)}; wasm memory ${(most / MIB).toFixed(1)} MiB`);
      if (most > WASM_LIMIT) wrong.push(`${dtype}: wasm memory is ${(most / MIB).toFixed(1)} MiB`);
      notes.push(`${dtype} ${ratio.toFixed(2)} of fetch (aim ${AIM[dtype]}), ${(most / MIB).toFixed(0)} MiB wasm`);
    }
    for (const cache of [true, "quantized"]) {
      const options = { dtype: "q4", cache, context: 512, retries: 0 };
      await page.act("open", { model, options });
      const first = await page.act("generate", { input: short });
      await page.act("dispose");
      const [entry] = await page.act("cacheList");
      await models.down();
      const info = await page.act("open", { model, options });
      assert.equal(info.load.from, "cache");
      const { wasm } = await page.act("memory");
      if (wasm > WASM_LIMIT) wrong.push(`from the cache: wasm memory is ${(wasm / MIB).toFixed(1)} MiB`);
      assert.deepEqual((await page.act("generate", { input: short })).ids, first.ids);
      await page.act("dispose");
      await page.act("cacheClear");
      await models.up();
      notes.push(`cache ${cache === true ? "as stored" : cache}: ${(entry.bytes / MIB).toFixed(0)} MiB, ${(info.load.ms / 1000).toFixed(1)} s`);
    }
    assert.deepEqual(wrong, [], notes.join("; "));
    return notes.join("; ");
  } finally {
    remove(folder);
  }
});

test("200 rounds of load, generate, dispose: nothing is left, and memory stays flat", { browsers: ["chromium"], long: true, fresh: true, seconds: 3000 }, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const { browser } = t;
  // by then caches of the browser have what they keep
  await rounds(page, server, 50);
  const before = { heap: await page.heap(), resident: browser.resident() };
  await rounds(page, server, 150);
  const after = { heap: await page.heap(), resident: browser.resident() };
  const grown = (name) => (after[name] - before[name]) / MIB;
  const note = `after 50 and 200 rounds: heap ${(before.heap / MIB).toFixed(1)} and ${(after.heap / MIB).toFixed(1)} MiB, all processes ${(before.resident / MIB).toFixed(0)} and ${(after.resident / MIB).toFixed(0)} MiB`;
  assert.ok(grown("heap") < 2 && grown("resident") < 64, note);
  return note;
});

test("50 rounds of load, generate, dispose", { browsers: ["firefox"], long: true, fresh: true, seconds: 1800 }, async (t) => {
  const server = await t.server();
  await rounds(await t.page(server), server, 50);
});
