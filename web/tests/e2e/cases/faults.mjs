// Whatever a server does wrong: the load recovers, or ends in its typed error. Nothing partial is ever taken as whole.

import assert from "node:assert/strict";
import { FOLDERS, expected, greedy, sameIds, test } from "../harness.mjs";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const native = expected.models.stories.dtypes.f32[0];
const WEIGHTS = "model.safetensors";
const sha256 = createHash("sha256").update(readFileSync(FOLDERS.stories + WEIGHTS)).digest("hex");
const options = { dtype: "f32", cache: false, retries: 3, backoffMs: 30 };

/** Faults that a load must survive. */
const SURVIVED = [
  ["the connection breaks at random bytes, five times", [["cut:times=5", WEIGHTS]]],
  ["it breaks at the first byte, within the header, and near the end", [["cut:at=0,times=1", WEIGHTS], ["cut:at=100,times=1", WEIGHTS], ["cut:at=2399000,times=1", WEIGHTS]]],
  ["it breaks before any answer", [["reset:times=2", WEIGHTS]]],
  ["503, twice", [["status:status=503,times=2", WEIGHTS]]],
  ["503 with Retry-After", [["status:status=503,retryAfter=1,times=1", WEIGHTS]]],
  ["429 with Retry-After", [["status:status=429,retryAfter=1,times=1", WEIGHTS]]],
  ["429 without", [["status:status=429,times=2", WEIGHTS]]],
  ["config and tokenizer fail at first", [["status:status=503,times=1", "config.json"], ["cut:at=50,times=1", "tokenizer.json"]]],
  ["no ranges", [["norange", WEIGHTS]]],
  ["no ranges, and it breaks", [["cut:at=1000000,times=2", WEIGHTS], ["norange", WEIGHTS]]],
  ["bytes drip", [["drip:bytes=65536,ms=5", WEIGHTS]]],
  ["no entity tag", [["noetag", WEIGHTS]]],
  ["every answer is late", [["delay:ms=100"]]],
  ["a length that is too great, once", [["length:by=7,times=1", WEIGHTS]]],
];

test("faults that pass are survived", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const models = await t.modelServer();
  for (const [what, rules] of SURVIVED) {
    models.faults.clear();
    const added = rules.map(([rule, path]) => models.faults.add(rule, path));
    try {
      const info = await page.act("open", { model: `${models.origin}/models/stories/`, options: { ...options, retries: 5 } });
      assert.ok(info.load.bytes > 2_300_000, "all of it was read");
      const { ids } = await page.act("generate", { input: { prompt: native.prompt, options: greedy(6) } });
      sameIds(ids, native, { tokens: 6 });
      await page.act("dispose");
      for (const rule of added) assert.ok(rule.hits > 0, `${rule.kind} never came to pass`);
    } catch (error) {
      error.message = `${what}: ${error.message}`;
      throw error;
    }
  }
  return `${SURVIVED.length} faults`;
});

/** Faults that last, and what they are called. */
const REFUSED = [
  ["503 always", [["status:status=503", WEIGHTS]], {}, ["NetworkError"]],
  ["500 always, for the config", [["status:status=500", "config.json"]], {}, ["NetworkError"]],
  ["429 always", [["status:status=429", WEIGHTS]], {}, ["RateLimitedError"]],
  ["429 with a wait of hours", [["status:status=429,retryAfter=7200", WEIGHTS]], {}, ["RateLimitedError"]],
  ["404 for the weights", [["status:status=404", WEIGHTS]], {}, ["ModelNotFoundError", "CheckpointError"]],
  ["403", [["status:status=403"]], {}, ["AccessDeniedError"]],
  ["it always breaks before any answer", [["reset"]], {}, ["NetworkError"]],
  ["it always breaks at the first byte", [["cut:at=0", WEIGHTS]], {}, ["NetworkError"]],
  ["it always breaks soon", [["cut:at=10", WEIGHTS]], {}, ["NetworkError"]],
  ["the file is truncated in its header", [["truncate:at=1000", WEIGHTS]], {}, ["CheckpointError"]],
  ["the file is truncated in its weights", [["truncate:at=2000000", WEIGHTS]], {}, ["CheckpointError"]],
  ["it lacks its last byte", [["truncate:at=2399863", WEIGHTS]], {}, ["CheckpointError"]],
  ["it is truncated, without ranges", [["norange:times=0"], ["truncate:at=2000000", WEIGHTS]], {}, ["CheckpointError"]],
  ["it is empty", [["truncate:at=0", WEIGHTS]], {}, ["CheckpointError"]],
  ["the config is truncated", [["truncate:at=100", "config.json"]], {}, ["CheckpointError", "UnsupportedModelError"]],
  ["the tokenizer is truncated", [["truncate:at=5000", "tokenizer.json"]], {}, ["CheckpointError"]],
  ["ranges that were not asked for", [["range:by=64", WEIGHTS]], {}, ["NetworkError", "CheckpointError"]],
  ["another version with every answer", [["etag", WEIGHTS]], {}, ["NetworkError", "CheckpointError"]],
  ["a page to log in", [["html"]], {}, ["CheckpointError", "NetworkError"]],
  ["an altered byte, where the digest is known", [["alter:at=1500000", WEIGHTS]], { digests: { [WEIGHTS]: sha256 } }, ["ChecksumError"]],
  ["an altered byte of the last tensor", [["alter:at=2399863", WEIGHTS]], { digests: { [WEIGHTS]: sha256 } }, ["ChecksumError"]],
  ["an altered byte of the header", [["alter:at=20", WEIGHTS]], { digests: { [WEIGHTS]: sha256 } }, ["ChecksumError", "CheckpointError"]],
];

test("faults that last end in their errors", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const models = await t.modelServer();
  const model = `${models.origin}/models/stories/`;
  for (const [what, rules, more, names] of REFUSED) {
    models.faults.clear();
    for (const [rule, path] of rules) models.faults.add(rule, path);
    try {
      const error = await page.fails("open", { model, options: { ...options, ...more } }, ...names);
      if (names[0] === "NetworkError") assert.ok(error.message.length > 10);
      if (what.includes("503")) assert.equal(error.status, 503);
      if (what.includes("hours")) assert.equal(error.retryAfter, 7200);
    } catch (error) {
      error.message = `${what}: ${error.message}`;
      throw error;
    }
    assert.equal(await page.act("workers"), 0, `${what}: the worker ended`);
  }
  // a length that lies is either survived (all that was asked for came) or refused
  models.faults.clear();
  models.faults.add("length:by=7", WEIGHTS);
  const lies = await page.evaluate((given) => globalThis.act(given), ["open", { model, options }]);
  if (lies.error) assert.equal(lies.error.name, "NetworkError");
  else sameIds((await page.act("generate", { input: { prompt: native.prompt, options: greedy(6) } })).ids, native, { tokens: 6 });
  return `${REFUSED.length + 1} faults`;
});

test("the Hub's digests: an altered byte is never used", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const models = await t.modelServer();
  models.hub.add("org/m", { folder: FOLDERS.stories });
  const given = { model: "org/m", options: { dtype: "f32", remoteHost: models.origin, retries: 2, backoffMs: 30 } };
  models.faults.add("alter:at=1234567", "/cdn/");
  await page.fails("open", given, "ChecksumError");
  assert.deepEqual((await page.act("cacheList")).filter((entry) => entry.complete !== false), [], "nothing of it is kept as whole");
  // the server mends itself: what is loaded now is right, and not what came before
  models.faults.clear();
  await page.act("open", given);
  const { ids } = await page.act("generate", { input: { prompt: native.prompt, options: greedy(6) } });
  sameIds(ids, native, { tokens: 6 });
});

test("a server that goes away in the middle, and comes back", {}, async (t) => {
  const server = await t.server();
  const page = await t.page(server);
  const models = await t.modelServer();
  models.faults.add("drip:bytes=65536,ms=30", WEIGHTS);
  const given = { model: `${models.origin}/models/stories/`, options: { ...options, retries: 6, backoffMs: 200 } };
  await page.start("load", "open", given);
  await page.until(() => globalThis.events.some((event) => event.type === "progress" && event.status === "progress" && event.loaded > 200_000));
  await models.down();
  models.faults.clear();
  await new Promise((done) => setTimeout(done, 700));
  await models.up();
  const { error } = await page.finish("load");
  assert.equal(error, undefined, error?.message);
  const { ids } = await page.act("generate", { input: { prompt: native.prompt, options: greedy(6) } });
  sameIds(ids, native, { tokens: 6 });
  const whole = models.requests(/safetensors/).reduce((sum, { sent }) => sum + sent, 0);
  assert.ok(whole < 2 * 2_400_000, `${whole} bytes were sent for a file of 2.4 MB: it resumes, it does not begin anew`);
});
