import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as api from "webweft";

test("on a server, everything imports and says what is missing", async () => {
  assert.equal(typeof Worker, "undefined");
  await assert.rejects(api.createEngine("org/name"), api.WebGPUUnavailableError);
  await assert.rejects(api.pipeline("text-generation", "org/name"), api.WebGPUUnavailableError);
  await assert.rejects(api.cache.list(), api.WorkerError);
  const report = await api.canRun("org/name");
  assert.equal(report.ok, false);
  assert.equal(report.reason, "no_worker");
  assert.ok(report.error instanceof api.WebGPUUnavailableError);
  assert.match(report.error.userMessage, /WebGPU/);
});

test("wrong arguments are told first", async () => {
  await assert.rejects(api.pipeline("translation" as never, "org/name"), api.UnsupportedParameterError);
  const wrong: [string, object, typeof api.InvalidRequestError][] = [
    ["dtype", { dtype: "q3" }, api.UnsupportedParameterError],
    ["device", { device: "wasm" }, api.UnsupportedParameterError],
    ["local_files_only", { local_files_only: true }, api.UnsupportedParameterError],
    ["contxt", { contxt: 3 }, api.InvalidRequestError],
    ["context", { context: 0 }, api.InvalidRequestError],
    ["concurrency", { concurrency: 1.5 }, api.InvalidRequestError],
    ["cache", { cache: "yes" }, api.InvalidRequestError],
  ];
  for (const [param, options, Class] of wrong) {
    for (const call of [api.createEngine, api.canRun]) {
      await assert.rejects(call("org/name", options), (error) => error instanceof Class && error.param === param, param);
    }
  }
});

test("the version is that of the package and of the engine", () => {
  const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
  assert.equal(JSON.parse(read("package.json")).version, api.version);
  assert.equal(/^version = "(.*)"$/m.exec(read("../Cargo.toml"))?.[1], api.version);
});

test("the README's errors are those that there are", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  for (const name of Object.keys(api).filter((name) => name.endsWith("Error"))) assert.ok(readme.includes(`\`${name}\``), name);
});
