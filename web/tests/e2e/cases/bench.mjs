// The benchmark page: cells, lines, cancel, download.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "../harness.mjs";

/** Fields of a line of `native-runner bench matrix`, in its order: native-runner/src/bench/record.rs. */
const FIELDS = [
  "schema", "date", "commit", "version", "browser", "adapter", "driver", "kind", "shape", "parameters", "dtype", "cache_dtype", "prompt_tokens",
  "cache_tokens", "batch", "new_tokens", "prefill_tps", "decode_tps", "memory", "bytes_per_step", "operations_per_token", "prefill_share",
  "decode_share", "roofline", "first_token",
];
const RATES = ["copy_gb_per_s", "fma_gflops", "f16_gflops", "int8_gops", "dispatch_us", "submit_us", "readback_us"];
const MEMORY = ["weights", "cache", "activations", "staging", "peak"];

const state = (...names) => [(names) => names.includes(document.body.dataset.state), names];

async function opened(t, query = "") {
  const server = await t.server({ control: true });
  const page = await t.blank();
  await page.goto(`${server.origin}/demo/bench.html${query}`);
  return { server, page };
}

/** Waits for the end of a run; as long as it tells of something new, it goes on. */
async function ended(page) {
  let told;
  for (;;) {
    const at = await page.until((told) => {
      const { state } = document.body.dataset;
      const stage = document.querySelector(".bench-stage").textContent;
      return state === "busy" ? stage !== told && stage : state === "ready" || state === "looking" || !state ? false : "the end";
    }, told);
    if (at === "the end") return;
    told = at;
  }
}

const lines = async (page) => {
  const text = await page.evaluate(() => document.querySelector("#lines").textContent);
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
};

function checkLine(line, browser) {
  assert.deepEqual(Object.keys(line), FIELDS);
  assert.deepEqual([Object.keys(line.memory).sort(), Object.keys(line.roofline)], [[...MEMORY].sort(), RATES]);
  assert.equal(line.schema, 1);
  assert.match(line.date, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.equal(line.browser.name.toLowerCase(), browser);
  assert.match(line.adapter, /\S \(BrowserWebGpu, [\w ]+\)$/);
  assert.ok(line.prefill_tps.every((speed) => speed > 0) && (line.decode_tps ?? []).every((speed) => speed > 0));
  const { copy_gb_per_s, fma_gflops, readback_us } = line.roofline;
  assert.ok(copy_gb_per_s > 0 && fma_gflops > 0 && readback_us > 0);
  assert.ok(line.memory.peak >= line.memory.weights && line.memory.weights > 0);
  assert.ok(line.prefill_share > 0);
}

test("bench: cells are measured, shown, copied out", { seconds: 900 }, async (t) => {
  const { page } = await opened(t, "?shapes=tiny&dtypes=q4,f32&prompts=7&cache=64&batch=1,2&new-tokens=24&runs=2&start");
  await ended(page);
  assert.equal(await page.evaluate(() => document.querySelector(".problem pre")?.textContent), undefined);
  const cells = await lines(page);
  assert.equal(cells.length, 4);
  for (const cell of cells) {
    checkLine(cell, t.name);
    assert.deepEqual([cell.shape, cell.parameters, cell.prompt_tokens, cell.cache_tokens, cell.new_tokens], ["tiny", 115_008, 7, 64, 24]);
    assert.deepEqual([cell.prefill_tps.length, cell.decode_tps.length, cell.first_token], [2, 2, null]);
    // the caches of all, half way: 2 layers, keys and values of 64, in f32 or f16
    const caches = cell.batch * (64 + 7 + 12) * 2 * 2 * 64 * (cell.dtype === "f32" ? 4 : 2);
    assert.ok(cell.bytes_per_step > caches && cell.decode_share > 0 && cell.memory.cache > 0, JSON.stringify(cell));
  }
  assert.deepEqual(cells.map(({ dtype, batch }) => `${dtype} ${batch}`), ["q4 1", "q4 2", "f32 1", "f32 2"]);
  // q4's weights lie beside a tied head in f16; f32 takes all of them
  assert.equal(cells[2].bytes_per_step - (64 + 7 + 12) * 2 * 2 * 64 * 4, 115_008 * 4);
  assert.equal(await page.evaluate(() => document.querySelectorAll(".bench-results tbody tr").length), 4);
  // what a click saves is what the page shows
  const saved = await page.evaluate(async () => {
    const clicked = new Promise((resolve) =>
      addEventListener("click", (event) => event.target.download && (event.preventDefault(), resolve([event.target.download, event.target.href])), true),
    );
    HTMLAnchorElement.prototype.click = function () {
      document.body.append(this);
      this.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
      this.remove();
    };
    const made = [];
    const create = URL.createObjectURL;
    URL.createObjectURL = (blob) => (made.push(blob), create(blob));
    document.querySelector(".bench-download").click();
    const [name] = await clicked;
    return { name, text: await made[0].text() };
  });
  assert.match(saved.name, /^webweft-\w+-\d{4}-\d\d-\d\d\.jsonl$/);
  assert.equal(saved.text, cells.map((cell) => `${JSON.stringify(cell)}\n`).join(""));
  assert.deepEqual(page.problems, [], "nothing violates the strict policy");
});

test("bench: the built-in model, and the time to its first token", { seconds: 900 }, async (t) => {
  const { page } = await opened(t, "?shapes=Stories&dtypes=q4&prompts=8&cache=0&batch=1&new-tokens=24&runs=1&start");
  await ended(page);
  const [cell, ...more] = await lines(page);
  assert.equal(more.length, 0);
  checkLine(cell, t.name);
  const { cold_ms, warm_ms } = cell.first_token;
  assert.ok(cold_ms.length === 1 && warm_ms.length === 1 && cold_ms[0] > 0 && warm_ms[0] > 0);
  assert.deepEqual(page.problems, []);
});

test("bench: an encoder has prompts and nothing to decode", { browsers: ["firefox"], seconds: 900 }, async (t) => {
  const { page } = await opened(t, "?shapes=MiniLM&dtypes=q4&prompts=9,600&cache=0,64&batch=2&runs=1&start");
  await ended(page);
  const [cell, ...more] = await lines(page);
  assert.equal(more.length, 0);
  checkLine(cell, t.name);
  assert.deepEqual([cell.decode_tps, cell.bytes_per_step, cell.cache_tokens, cell.new_tokens], [null, null, 0, 0]);
  assert.match(await page.evaluate(() => document.querySelector(".bench-left").textContent), /prompt 600.*holds 512 tokens/);
});

test("bench: a run can be cancelled, and begun again", { seconds: 900 }, async (t) => {
  const { page } = await opened(t, "?shapes=tiny&dtypes=q4&prompts=8&cache=0&batch=1&new-tokens=2000&runs=100");
  await page.until(...state("ready"));
  await page.click(".bench-begin .button");
  await page.until(...state("busy"));
  await page.until(() => /cell 1 of 1/i.test(document.querySelector(".bench-stage").textContent));
  await page.click(".bench-cancel");
  await page.until(...state("cancelled"));
  assert.deepEqual(await lines(page), []);
  await page.evaluate(() => {
    for (const [name, value] of [["newTokens", "8"], ["runs", "1"]]) document.querySelector(`[name=${name}]`).value = value;
    document.querySelector(".bench-form").dispatchEvent(new Event("input"));
  });
  await page.click(".bench-begin .button");
  await ended(page);
  assert.equal((await lines(page)).length, 1);
});

test("bench: what cannot be measured is told; no wider than a phone", {}, async (t) => {
  const { page } = await opened(t);
  await page.until(...state("ready"));
  const typed = (name, value) =>
    page.evaluate(
      ([name, value]) => {
        document.querySelector(`[name=${name}]`).value = value;
        document.querySelector(".bench-form").dispatchEvent(new Event("input"));
        return [document.querySelector(".bench-count").textContent, document.querySelector(".bench-begin .button").disabled];
      },
      [name, value],
    );
  assert.deepEqual((await typed("prompts", "8, x"))[1], true);
  assert.match((await typed("batch", "99"))[0], /whole number/);
  assert.equal((await typed("prompts", "8"))[1], true);
  assert.equal((await typed("batch", "1, 2"))[1], false);
  for (const width of [390, 1200]) {
    await page.viewport(width, 800);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
  }
});

/** As the test `checkpoints_are_those_of_the_page` of native-runner/src/bench/shapes.rs has them. */
const HASHES = {
  tiny: "59f77f44b8e807faf0678ae0451184ec2880201d6a0455d190a7bcaa3c7800ab",
  MiniLM: "918abca7ce331dcc10fcc65dcf949125293f466757ea8f5026c779a3a8e9e367",
};

test("bench: checkpoints are those of the native runner", { browsers: ["chromium"] }, async (t) => {
  const { page } = await opened(t);
  await page.until(...state("ready"));
  for (const [shape, hash] of Object.entries(HASHES)) {
    const base64 = await page.evaluate(async (shape) => {
      const file = (await globalThis.checkpoint(shape))["model.safetensors"];
      const bytes = new Uint8Array(await file.arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 1 << 15) text += String.fromCharCode(...bytes.subarray(at, at + (1 << 15)));
      return btoa(text);
    }, shape);
    assert.equal(createHash("sha256").update(base64, "base64").digest("hex"), hash, shape);
  }
});
