import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

const dist = new URL("../../dist/", import.meta.url);
const modules = readdirSync(dist).filter((name) => name.endsWith(".js") && name !== "webweft.js");

// what is compiled has no imports of types any more
const importsOf = (name: string) =>
  [...readFileSync(new URL(name, dist), "utf8").matchAll(/^(?:import|export)\b[^;]*?from "\.\/([\w.-]+\.js)"/gm)].map(([, from]) => from ?? "");

test("modules import in one direction", () => {
  const visit = (name: string, path: string[]): void => {
    assert.ok(!path.includes(name), `a circle: ${[...path, name].join(" -> ")}`);
    if (modules.includes(name)) for (const next of importsOf(name)) visit(next, [...path, name]);
  };
  assert.ok(modules.length > 15);
  assert.ok(importsOf("index.js").includes("engine.js"), "imports are found");
  for (const name of modules) visit(name, []);
});

test("only the worker reaches for the wasm, and nothing for other packages", () => {
  for (const name of modules) {
    const text = readFileSync(new URL(name, dist), "utf8");
    assert.equal(importsOf(name).includes("webweft.js"), name === "worker.js", name);
    for (const [, from] of text.matchAll(/\bfrom "([^"]+)"/g)) assert.match(from ?? "", /^\.\//, name);
  }
});
