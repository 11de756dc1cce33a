// What would be published: publint, the types, the exact list of files, and that a strict security policy will do.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("..", import.meta.url));
const shell = process.platform === "win32";

function checked(name, run) {
  try {
    run();
    console.log(`ok - ${name}`);
  } catch (error) {
    console.log(`not ok - ${name}\n${error.stdout ?? ""}${error.stderr ?? ""}${error.message}`);
    process.exitCode = 1;
  }
}

const bin = (name, ...args) => execFileSync(join(web, "node_modules/.bin", name), args, { cwd: web, shell, stdio: "pipe" });

checked("publint", () => bin("publint", ".", "--strict"));
// a wasm has no types
checked("types", () => bin("attw", "--pack", ".", "--profile", "esm-only", "--exclude-entrypoints", "webweft_bg.wasm"));
checked("files of the package", () => {
  const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: web, shell, stdio: ["ignore", "pipe", "ignore"] }));
  const found = new Set(files.map(({ path }) => path));
  const allowed = new Set(readFileSync(join(web, "tests/packages/files.txt"), "utf8").split("\n").filter(Boolean));
  const extra = [...found].filter((path) => !allowed.has(path));
  const missing = [...allowed].filter((path) => !found.has(path));
  if (extra.length + missing.length > 0) {
    throw new Error(`tests/packages/files.txt does not fit: not in it ${extra.join(", ") || "-"}; not there ${missing.join(", ") || "-"}`);
  }
});
checked("no text is run as a script", () => {
  for (const name of readdirSync(join(web, "dist")).filter((file) => file.endsWith(".js"))) {
    const found = /\beval\s*\(|\bnew\s+Function\b|\bSharedArrayBuffer\b/.exec(readFileSync(join(web, "dist", name), "utf8"));
    if (found) throw new Error(`${name}: ${found[0]}`);
  }
});
