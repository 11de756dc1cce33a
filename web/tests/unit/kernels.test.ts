import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { InvalidRequestError } from "../../dist/errors.js";
import { IDLE, IdleWork, KernelReports } from "../../dist/kernels.js";
import { toOpenOptions } from "../../dist/options.js";
import type { KernelReport } from "../../dist/wasm.js";
import { Script, engineOf } from "./scripted.js";

const report: KernelReport = {
  adapter: "Some GPU (BrowserWebGpu, other)",
  driver: "Browser/1",
  version: "0.1.0",
  verdicts: [{ variant: "packed_dot", wrong: null }],
  is_tuned: false,
  measured: [],
  kernels: { sums: "workgroup", few_rows: 8, tiles_alone: false, attention_alone: false, norm_in_products: 1024, norms: "workgroup", packed_dot: true },
};
const tuned: KernelReport = { ...report, is_tuned: true };

/** Asks until it is so. */
async function until(what: () => boolean): Promise<void> {
  for (let asked = 0; !what(); asked += 1) {
    assert.ok(asked < 1000, String(what));
    await sleep(10);
  }
}

test("work waits until nothing else is done, is given up for what comes, and is done once", async () => {
  const log: string[] = [];
  let end = () => {};
  const idle = new IdleWork(async (signal) => {
    log.push("begun");
    await new Promise<void>((resolve, reject) => {
      end = resolve;
      signal.addEventListener("abort", () => (log.push("given up"), reject(new Error("aborted"))));
    });
    log.push("done");
  }, 20);
  await idle.beside(() => sleep(60));
  assert.deepEqual(log, [], "nobody wants it yet");
  await idle.beside(async () => {
    idle.want(true);
    await sleep(60);
    assert.deepEqual(log, [], "something else is done");
  });
  await until(() => log.length === 1);
  await Promise.all([idle.beside(() => sleep(60)), idle.beside(() => sleep(90))]);
  assert.deepEqual(log, ["begun", "given up"], "not between two that overlap either");
  await until(() => log.length === 3);
  end();
  await until(() => log.length === 4);
  await idle.beside(() => sleep(1));
  await sleep(60);
  assert.deepEqual(log, ["begun", "given up", "begun", "done"]);
  await assert.rejects(idle.beside(() => Promise.reject(new Error("of the task"))), /of the task/);
});

test("what fails is not tried again, and what is not wanted any more ends", async () => {
  let begun = 0;
  const failing = new IdleWork(async () => {
    begun += 1;
    throw new Error("no device");
  }, 1);
  failing.want(true);
  await until(() => begun === 1);
  await failing.beside(() => sleep(1));
  await sleep(30);
  assert.equal(begun, 1);
  let signal: AbortSignal | undefined;
  const endless = new IdleWork((given) => ((signal = given), new Promise(() => {})), 1);
  endless.want(true);
  await until(() => signal !== undefined);
  endless.want(false);
  assert.ok(signal?.aborted);
});

test("an engine measures after a while without calls, tells it, and opens again with what it knows", async () => {
  const script = new Script();
  script.kernels = report;
  const { engine } = await engineOf(script);
  assert.deepEqual(await engine.kernels(), report);
  assert.deepEqual(script.known, [[]]);
  const heard: KernelReport[] = [];
  engine.on("kernels", (found) => heard.push(found));
  await until(() => script.measuring === 1);
  // a generation goes first
  const { ids } = await engine.generate({ prompt: "x", options: { max_new_tokens: 3 } });
  assert.equal(ids.length, 3);
  assert.deepEqual(heard, []);
  await until(() => script.measuring === 2);
  script.measured();
  await until(() => heard.length === 1);
  assert.deepEqual(heard, [tuned]);
  assert.deepEqual(await engine.kernels(), tuned);
  script.losses = [0];
  await engine.generate({ prompt: "x", options: { max_new_tokens: 3 } });
  assert.deepEqual(script.known, [[], [JSON.stringify(tuned)]]);
  await sleep(IDLE + 200);
  assert.equal(script.measuring, 2, "once");
  assert.equal((await engine.dispose())?.total, 0);
});

test("nothing is measured where nobody wants it, nothing can be chosen, or it was before", async () => {
  const cases: [KernelReport | null, { autotune?: boolean }][] = [[report, { autotune: false }], [null, {}], [tuned, {}]];
  const scripts = await Promise.all(
    cases.map(async ([kernels, options]) => {
      const script = new Script();
      script.kernels = kernels;
      await engineOf(script, options);
      return script;
    }),
  );
  await sleep(IDLE + 200);
  assert.deepEqual(scripts.map(({ measuring }) => measuring), [0, 0, 0]);
});

test("an engine that is disposed of while it measures ends at once", async () => {
  const script = new Script();
  script.kernels = report;
  const { engine } = await engineOf(script);
  await until(() => script.measuring === 1);
  assert.equal((await engine.dispose())?.total, 0);
});

test("of each adapter the newest report is kept; without storage, for as long as the worker is", async () => {
  const reports = new KernelReports();
  await reports.learn(report);
  await reports.keep(tuned);
  await reports.learn(report);
  assert.deepEqual(await reports.all(), [tuned]);
  const updated = { ...report, driver: "Browser/2" };
  await reports.learn(updated);
  const other = { ...report, adapter: "Another GPU" };
  await reports.learn(other);
  assert.deepEqual(await reports.all(), [other, updated]);
  for (let i = 0; i < 20; i++) await reports.keep({ ...report, adapter: `GPU ${i}` });
  assert.equal((await reports.all()).length, 8);
  await reports.forget();
  assert.deepEqual(await reports.all(), []);
});

test("autotune is a truth value", () => {
  assert.deepEqual(toOpenOptions({ autotune: false }), { autotune: false });
  assert.throws(() => toOpenOptions({ autotune: "no" as never }), InvalidRequestError);
});
