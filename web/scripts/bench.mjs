// The benchmark page without anybody who clicks, and beside it the native runner, in turn: how much of native speed a page has.
//
//     node web/scripts/bench.mjs --out FILE.jsonl [--browsers chromium,firefox] [--native PROGRAM] [--rounds N] [FLAGS]
//
// It needs web/dist, web/demo/dist and web/tests/node_modules (see web/tests/e2e/README.md). FLAGS are those of `native-runner bench matrix` that
// name cells, by default --shapes Stories --dtypes q4 --prompts 32 --cache 0 --batch 1 --new-tokens 256 --runs 3. --native: by default
// target/release/native-runner where that is; --native none leaves it out. A round is the native runner and then each browser, with a new
// profile. The file is appended to: a line for each cell and round, which `native-runner bench compare` and DuckDB read.

import { spawn } from "node:child_process";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { endAll, launch, remove, temporary } from "../tests/e2e/browser.mjs";
import { FOLDERS } from "../tests/e2e/harness.mjs";
import { startServer } from "../tests/server/server.mjs";

const BUILT_IN = "Stories";
const CELLS = { shapes: BUILT_IN, dtypes: "q4", prompts: "32", cache: "0", batch: "1", "new-tokens": "256", runs: "3" };
const { values } = parseArgs({
  options: {
    out: { type: "string" },
    browsers: { type: "string", default: "firefox,chromium" },
    native: { type: "string", default: fileURLToPath(new URL("../../target/release/native-runner", import.meta.url)) },
    rounds: { type: "string", default: "1" },
    ...Object.fromEntries(Object.entries(CELLS).map(([name, value]) => [name, { type: "string", default: value }])),
  },
});
if (!values.out) {
  console.error("--out FILE.jsonl is needed: what is measured is appended to it");
  process.exit(2);
}
const cells = Object.keys(CELLS).map((name) => [name, values[name]]);
const hasBuiltIn = values.shapes.split(",").includes(BUILT_IN);
const all = [];
process.on("exit", endAll);
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));

function keep(lines) {
  for (const line of lines) {
    all.push(line);
    appendFileSync(values.out, `${JSON.stringify(line)}\n`);
    console.log(`${place(line)}: ${nameOf(line)}: ${[line.prefill_tps, line.decode_tps].filter(Boolean).map((tps) => median(tps).toFixed(1)).join(" and ")} tokens/s`);
  }
}

/** What a program wrote, and when its first byte came. */
function run(program, args, env = {}) {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });
    let firstMs;
    child.stdout.on("data", () => (firstMs ??= performance.now() - start));
    child.on("error", reject);
    child.on("exit", (code) => (code === 0 ? resolve(firstMs) : reject(new Error(`${program} ended with ${code}`))));
  });
}

/** From a program's start to its first token, where drivers keep nothing from before, and once more. */
async function nativeFirstToken() {
  const folder = temporary("cache");
  const env = { XDG_CACHE_HOME: folder, MESA_SHADER_CACHE_DIR: folder };
  const args = ["generate", "--quiet", "Once upon a time", "--temperature", "0", "--max-new-tokens", "1"];
  const [cold, warm] = [await run(values.native, args, env), await run(values.native, args, env)];
  remove(folder);
  return { cold_ms: [cold], warm_ms: [warm] };
}

async function native() {
  const folder = temporary("bench");
  const out = join(folder, "cells.jsonl");
  const first = hasBuiltIn ? await nativeFirstToken() : null;
  await run(values.native, ["bench", "matrix", "--quiet", "--out", out, ...cells.flatMap(([name, value]) => [`--${name}`, value])]);
  keep(withFirst(readFileSync(out, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line)), first));
  remove(folder);
}

function withFirst(lines, first) {
  const line = lines.find(({ shape }) => shape === BUILT_IN);
  if (line && first) line.first_token = first;
  return lines;
}

async function inBrowser(name) {
  const server = await startServer({ mounts: { "/": FOLDERS.demo } });
  const browser = await launch(name);
  try {
    const page = await browser.newPage();
    let first = null;
    if (hasBuiltIn) {
      // nothing is kept in a new profile; reloaded, both the browser and the page have their files
      const ms = () => page.until(() => Number(document.body?.dataset.ms) || document.body?.dataset.error);
      await page.goto(`${server.origin}/first-token.html`);
      const cold = await ms();
      await page.reload();
      first = { cold_ms: [cold], warm_ms: [await ms()] };
    }
    await page.goto(`${server.origin}/bench.html?${new URLSearchParams([...cells, ["start", ""]])}`);
    // cells take as long as they take: it is still at work as long as it says something else
    let told = "";
    for (let end = Date.now() + 1_200_000; Date.now() < end; ) {
      await new Promise((done) => setTimeout(done, 1000));
      const [state, stage] = await page.evaluate(() => [document.body.dataset.state, document.querySelector(".bench-stage")?.textContent]);
      if (state === "done" || state === "failed") break;
      if (stage !== told) [told, end] = [stage, Date.now() + 1_200_000];
    }
    const { state, text, problem } = await page.evaluate(() => ({
      state: document.body.dataset.state,
      text: document.querySelector("#lines")?.textContent ?? "",
      problem: document.querySelector(".problem pre")?.textContent,
    }));
    keep(withFirst(text.split("\n").filter(Boolean).map((line) => JSON.parse(line)), first));
    if (state !== "done") throw new Error(`${name}: ${problem ?? `nothing happens any more: ${told}`}`);
  } finally {
    await browser.close();
    await server.close();
  }
}

const median = (runs) => {
  const sorted = [...runs].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};
const place = ({ browser, adapter }) => browser?.name ?? `native, ${adapter}`;
const nameOf = (line) => `${line.shape} ${line.dtype}, prompt ${line.prompt_tokens}, cache ${line.cache_tokens}, batch ${line.batch}`;

/** Medians of all rounds, and what share of native speed they are. */
function table() {
  const rows = [];
  for (const name of new Set(all.map(nameOf))) {
    const lines = all.filter((line) => nameOf(line) === name);
    const of = (where, field) => lines.filter((line) => place(line) === where).flatMap((line) => field(line) ?? []);
    const places = [...new Set(lines.map(place))];
    const own = places.find((where) => where.startsWith("native"));
    const figures = [
      ["prefill, tokens/s", (line) => line.prefill_tps],
      ["decode, tokens/s", (line) => line.decode_tps],
      ["first token, cold, ms", (line) => line.first_token?.cold_ms],
      ["first token, warm, ms", (line) => line.first_token?.warm_ms],
    ];
    for (const [figure, field] of figures) {
      const base = own && of(own, field);
      for (const where of places) {
        const runs = of(where, field);
        if (runs.length === 0) continue;
        const ratio = base?.length > 0 && where !== own ? (median(runs) / median(base)).toFixed(2) : "";
        const range = `${Math.min(...runs).toFixed(1)} to ${Math.max(...runs).toFixed(1)}`;
        rows.push({ cell: name, figure, where, median: median(runs).toFixed(1), range, runs: runs.length, "of native": ratio });
      }
    }
  }
  console.table(rows);
}

const withNative = values.native !== "none" && existsSync(values.native);
if (!withNative) console.log(`there is no ${values.native}: pages only`);
for (let round = 0; round < Number(values.rounds); round++) {
  if (withNative) await native();
  for (const name of values.browsers.split(",")) await inBrowser(name);
}
table();
process.exit(0);
