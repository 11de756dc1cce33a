import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProgressInfo } from "../../dist/index.js";
import { Progress } from "../../dist/progress.js";
import type { LoadEvent } from "../../dist/wasm.js";

function shapes(events: LoadEvent[]): ProgressInfo[] {
  const heard: ProgressInfo[] = [];
  const progress = new Progress("org/name", (info) => heard.push(info));
  events.forEach((event) => progress.hear(event));
  progress.ready("text-generation");
  return heard;
}

test("events have the shapes of Transformers.js", () => {
  const name = "org/name";
  const file = "model.safetensors";
  const heard = shapes([
    { type: "stage", stage: "config" },
    { type: "file", file: "config.json", size: 10, from: "network" },
    { type: "done", file: "config.json" },
    { type: "file", file, size: 200, from: "network" },
    { type: "progress", file, loaded: 50, size: 200, total_loaded: 50, total: 400 },
    { type: "progress", file, loaded: 200, size: 200, total_loaded: 200, total: 400 },
    { type: "done", file },
  ]);
  const small = { "config.json": { loaded: 10, total: 10 } };
  assert.deepEqual(heard, [
    { status: "initiate", name, file: "config.json" },
    { status: "download", name, file: "config.json" },
    { status: "progress", name, file: "config.json", progress: 100, loaded: 10, total: 10 },
    { status: "done", name, file: "config.json" },
    { status: "initiate", name, file },
    { status: "download", name, file },
    { status: "progress_total", name, progress: 12.5, loaded: 50, total: 400, files: { ...small, [file]: { loaded: 50, total: 200 } } },
    { status: "progress", name, file, progress: 25, loaded: 50, total: 200 },
    { status: "progress_total", name, progress: 50, loaded: 200, total: 400, files: { ...small, [file]: { loaded: 200, total: 200 } } },
    { status: "progress", name, file, progress: 100, loaded: 200, total: 200 },
    { status: "done", name, file },
    { status: "ready", task: "text-generation", model: name },
  ]);
});

test("a file is announced and ended once", () => {
  const file: LoadEvent = { type: "file", file: "a", size: 0, from: "cache" };
  const heard = shapes([file, file, { type: "done", file: "a" }, { type: "done", file: "a" }]);
  assert.deepEqual(heard.map(({ status }) => status), ["initiate", "download", "done", "ready"]);
});

test("a page may keep what it is given", () => {
  const file = "m";
  const heard = shapes([
    { type: "progress", file, loaded: 1, size: 2, total_loaded: 1, total: 2 },
    { type: "progress", file, loaded: 2, size: 2, total_loaded: 2, total: 2 },
  ]);
  const totals = heard.filter((info) => info.status === "progress_total");
  assert.deepEqual(totals.map((info) => info.files["m"]?.loaded), [1, 2]);
});
