import assert from "node:assert/strict";
import { test } from "node:test";
import * as api from "../../dist/index.js";
import { fromPlain, toPlain, toTyped } from "../../dist/errors.js";
import { named } from "./scripted.js";

type Class = new (message: string, details?: api.ErrorDetails) => api.WebweftError;
const classes = Object.entries(api).filter(([name]) => name.endsWith("Error")) as [string, Class][];

test("every class keeps its name, code, message and details across a structured clone", () => {
  assert.equal(classes.length, 22);
  for (const [name, Class] of classes.filter(([name]) => name !== "WebweftError")) {
    const details = { status: 503, url: "https://host/a", param: "n", retryAfter: 3, cause: new api.NetworkError("below") };
    const error = fromPlain(structuredClone(toPlain(new Class("what happened", details))));
    assert.ok(error instanceof Class && error instanceof api.WebweftError && error instanceof Error, name);
    assert.equal(error.name, name);
    assert.equal(error.message, "what happened");
    assert.match(error.code, /^[a-z_]+$/);
    assert.ok(error.userMessage.length > 5, name);
    assert.ok(error.cause instanceof api.NetworkError, name);
    assert.ok(error.stack?.includes("errors.test"), name);
    if (error instanceof api.NetworkError) assert.deepEqual([error.status, error.url], [503, "https://host/a"]);
    if (error instanceof api.RateLimitedError) assert.equal(error.retryAfter, 3);
    if (error instanceof api.InvalidRequestError) assert.equal(error.param, "n");
  }
});

test("codes of classes differ", () => {
  const codes = classes.filter(([name]) => name !== "WebweftError").map(([, Class]) => new Class("").code);
  assert.equal(new Set(codes).size, codes.length);
});

test("errors of the wasm are told by their names", () => {
  const limited = fromPlain(toPlain(named("RateLimitedError", "slow down", { code: "rate_limited", retry_after: 7, status: 429 })));
  assert.ok(limited instanceof api.RateLimitedError);
  assert.deepEqual([limited.retryAfter, limited.status, limited.code], [7, 429, "rate_limited"]);
  assert.match(limited.userMessage, /7 seconds/);
  const denied = toTyped(named("AccessDeniedError", "gated", { code: "gated" }));
  assert.ok(denied instanceof api.AccessDeniedError && denied instanceof api.NetworkError);
  assert.equal(denied.code, "gated");
});

test("anything else is an InternalError that keeps the original", () => {
  const trap = toTyped(new WebAssembly.RuntimeError("unreachable"));
  assert.ok(trap instanceof api.InternalError);
  assert.equal(trap.code, "internal");
  assert.match(trap.message, /RuntimeError: unreachable/);
  assert.ok(trap.cause instanceof Error);
  assert.ok(toTyped("a text") instanceof api.InternalError);
  assert.ok(toTyped(named("constructor", "no class")) instanceof api.InternalError);
});

test("a DOMException's AbortError is ours", () => {
  const error = toTyped(new DOMException("stopped", "AbortError"));
  assert.ok(error instanceof api.AbortError);
  assert.equal(error.code, "aborted");
});
