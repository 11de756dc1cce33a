// Serves folders: node web/tests/server/main.mjs [--port N] [--csp strict|cdn|none] [--hub org/name=FOLDER]... [PREFIX=]FOLDER...
//
//   node web/tests/server/main.mjs web/demo/dist
//   node web/tests/server/main.mjs web/demo/dist /models/=../models --port 8000

import { parseArgs } from "node:util";
import { Hub } from "./hub.mjs";
import { POLICIES, startServer } from "./server.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: "string", default: "8080" }, csp: { type: "string", default: "strict" }, hub: { type: "string", multiple: true } },
});
if (positionals.length === 0 || !(values.csp === "none" || Object.hasOwn(POLICIES, values.csp))) {
  console.error("usage: main.mjs [--port N] [--csp strict|cdn|none] [--hub org/name=FOLDER]... [PREFIX=]FOLDER...");
  process.exit(2);
}
const mounts = {};
for (const text of positionals) {
  const at = text.startsWith("/") ? text.indexOf("/=") : -1;
  mounts[at < 0 ? "/" : text.slice(0, at + 1)] = at < 0 ? text : text.slice(at + 2);
}
const hub = new Hub();
for (const text of values.hub ?? []) {
  const [name, folder] = text.split("=");
  hub.add(name, { folder });
}
const server = await startServer({ mounts, hub, port: Number(values.port), policy: values.csp === "none" ? null : values.csp, control: true });
console.log(server.origin);
