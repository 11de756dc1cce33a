// Which kernels a page takes: tested before they are trusted, measured when nothing else is done, and remembered.

import assert from "node:assert/strict";
import { expected, greedy, sameIds, test } from "../harness.mjs";

const native = expected.models.stories.dtypes.f32[0];
const TOKENS = 16;

async function opened(t, server, options = {}) {
  const page = await t.page(server);
  const info = await page.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false, ...options } });
  return Object.assign(page, { info });
}

async function generates(page) {
  const { ids } = await page.act("generate", { input: { prompt: native.prompt, options: greedy(TOKENS) } });
  sameIds(ids, native, { tokens: TOKENS });
}

const measured = (page) => page.until(() => globalThis.events.some(({ type }) => type === "kernels"));

test("kernels: tested before a model is loaded, measured when it is idle, and known at the next visit", {}, async (t) => {
  const server = await t.server();
  const page = await opened(t, server);
  const tested = await page.act("kernels");
  assert.deepEqual([tested.is_tuned, tested.measured], [false, []]);
  assert.ok(tested.adapter.startsWith(page.info.adapter.name), tested.adapter);
  assert.equal(tested.driver, await page.evaluate(() => navigator.userAgent));
  const found = tested.verdicts.map(({ variant, wrong }) => [variant, wrong]);
  assert.ok(found.some(([variant, wrong]) => variant === "packed_dot" && wrong === null), JSON.stringify(found));
  // processors make no use of subgroups
  const used = page.info.adapter.features.subgroups && !tested.kernels.tiles_alone;
  assert.equal(found.some(([variant]) => variant === "subgroups"), used);
  assert.equal(tested.kernels.packed_dot, true);
  await generates(page);
  await measured(page);
  const tuned = await page.act("kernels");
  assert.equal(tuned.is_tuned, true);
  for (const { what, candidates, chosen } of tuned.measured) {
    assert.ok(what && candidates.length > 1 && candidates[chosen], what);
    for (const [name, us] of candidates) assert.ok(name && us.length === 3 && us.every((one) => one > 0), what);
  }
  await generates(page);
  assert.deepEqual(JSON.parse(await page.act("keptKernels")), [tuned]);
  assert.equal((await page.act("dispose")).total, 0);
  assert.deepEqual(page.problems, []);

  const later = await opened(t, server);
  assert.deepEqual(await later.act("kernels"), tuned);
  await generates(later);
  await later.act("dispose");
  await later.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false, autotune: false } });
  const fixed = await later.act("kernels");
  assert.deepEqual([fixed.is_tuned, fixed.kernels, fixed.verdicts], [false, tested.kernels, tested.verdicts]);
  await later.act("dispose");
  assert.deepEqual(JSON.parse(await later.act("keptKernels")), [tuned], "who takes the static choice keeps what others measured");
  await later.act("cacheClear");
  assert.equal(await later.act("keptKernels"), null);
  const what = tuned.measured.map(({ what, candidates, chosen }) => `${what}: ${candidates[chosen][0]}`);
  return [found.map(([variant]) => variant).join(", "), ...what].join("; ");
});

test("kernels: what was found wrong is told and not used, what is of another version or no report is not believed", {}, async (t) => {
  const server = await t.server();
  const first = await opened(t, server, { autotune: false });
  const tested = await first.act("kernels");
  await first.act("dispose");
  const verdicts = tested.verdicts.map((verdict) => (verdict.variant === "packed_dot" ? { ...verdict, wrong: "element 0 is 1 instead of 2" } : verdict));
  const struck = { ...tested, is_tuned: true, verdicts, kernels: { ...tested.kernels, packed_dot: false } };
  await first.act("keptKernels", { text: JSON.stringify([struck]) });
  const told = await opened(t, server);
  const notices = (await told.events("notice")).filter(({ code }) => code === "kernels_wrong");
  assert.equal(notices.length, 1);
  assert.match(notices[0].message, /packed dot.*element 0 is 1 instead of 2/);
  assert.deepEqual(await told.act("kernels"), struck);
  await generates(told);
  await told.act("dispose");
  // no measurement brings it back
  await told.act("keptKernels", { text: JSON.stringify([{ ...struck, is_tuned: false }]) });
  await told.act("open", { model: `${server.origin}/models/stories/`, options: { dtype: "f32", cache: false } });
  await measured(told);
  assert.equal((await told.act("kernels")).kernels.packed_dot, false);
  await told.act("dispose");
  const none = ["", "{", "[1, null]", '[{"adapter":"x"}]', JSON.stringify([{ ...struck, kernels: {} }])];
  for (const text of [...none, JSON.stringify([{ ...struck, version: "0.0.0" }])]) {
    await told.act("keptKernels", { text });
    const page = await opened(t, server, { autotune: false });
    assert.deepEqual(await page.act("kernels"), tested, text);
    await page.act("dispose");
    await page.close();
  }
});

test("kernels: of WebGPU's defaults alone there is nothing to choose from", {}, async (t) => {
  const page = await opened(t, await t.server(), { portable: true });
  assert.equal(await page.act("kernels"), null);
  await generates(page);
  await page.act("dispose");
  assert.equal(await page.act("keptKernels"), null);
});
