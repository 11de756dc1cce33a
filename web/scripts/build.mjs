// Builds the package: the wasm as ../wasm-pack.toml says, then the TypeScript, to dist/.
//
//     npm run build [-- --dev | --skip-wasm]
//
// --dev: neither optimized nor limited in size. --skip-wasm: takes the wasm that lies in ../<out_dir> already.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { brotliCompressSync } from "node:zlib";
import { parse } from "smol-toml";

const web = fileURLToPath(new URL("..", import.meta.url));
const root = join(web, "..");
const { values: args } = parseArgs({ options: { dev: { type: "boolean" }, "skip-wasm": { type: "boolean" } } });
const settings = parse(readFileSync(join(root, "wasm-pack.toml"), "utf8"));
const pkg = join(root, settings.out_dir);
const wasm = join(pkg, `${settings.out_name}_bg.wasm`);

// what ./test builds and installs
const tools = [join(web, "node_modules/.bin"), join(root, "target/tools/bin")];
const env = { ...process.env, PATH: [...tools, process.env.PATH].join(delimiter) };

function run(command, args, cwd) {
  try {
    // a shell finds npm's .cmd files on Windows; nothing of this comes from outside
    execFileSync(command, args, { cwd, env, stdio: "inherit", shell: process.platform === "win32" });
  } catch (error) {
    if (error.code === "ENOENT") throw new Error(`${command} is missing. ${hints[command] ?? ""}`);
    throw new Error(`${command} failed (${error.status ?? error.code})`);
  }
}

const hints = {
  "wasm-pack": "./test builds it into target/tools; or: cargo install wasm-pack",
  "wasm-opt": "Run npm ci first: Debian's (108) breaks the module's tables.",
  tsc: "Run npm ci first.",
};

function buildWasm() {
  const profile = args.dev ? ["--dev"] : ["--profile", settings.profile];
  const features = settings.features.length > 0 ? ["--", "--features", settings.features.join(",")] : [];
  // wasm-pack would download wasm-bindgen and wasm-opt: both are taken from PATH instead
  const flags = ["--mode", "no-install", "--no-opt", "--no-pack", "--target", settings.target, ...profile];
  run("wasm-pack", ["build", root, ...flags, "--out-dir", pkg, "--out-name", settings.out_name, ...features], root);
  if (args.dev) return;
  // binaryen of package.json: Debian's 108 mixes up tables, and the module traps when it starts
  const optimized = `${wasm}.optimized`;
  run("wasm-opt", [...settings.wasm_opt, wasm, "-o", optimized], root);
  renameSync(optimized, wasm);
}

function buildTypeScript() {
  const dist = join(web, "dist");
  rmSync(dist, { recursive: true, force: true });
  run("tsc", ["--project", "tsconfig.json"], web);
  mkdirSync(dist, { recursive: true });
  for (const name of [`${settings.out_name}.js`, `${settings.out_name}_bg.wasm`]) cpSync(join(pkg, name), join(dist, name));
  // a module of its own, for profiles in YAML alone: a page without them never loads it
  const yaml = join(web, "node_modules/js-yaml");
  const license = `/*!\n${readFileSync(join(yaml, "LICENSE"), "utf8").trim()}\n*/\n`;
  const code = readFileSync(join(yaml, "dist/browser/js-yaml.esm.min.mjs"), "utf8").replace(/^\/\/# sourceMappingURL=.*$/m, "");
  writeFileSync(join(dist, "js-yaml.js"), license + code);
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) cpSync(join(root, name), join(web, name));
}

/** The module starts (without a GPU it can do no more here), and is small enough. */
async function checkWasm() {
  const bytes = readFileSync(wasm);
  const glue = await import(pathToFileURL(join(web, "dist", `${settings.out_name}.js`)));
  glue.initSync({ module: bytes });
  const compressed = brotliCompressSync(bytes).length;
  const limit = settings.brotli_limit;
  console.log(`${settings.out_name}_bg.wasm: ${bytes.length} bytes, ${compressed} with brotli (limit ${limit})`);
  if (compressed > limit && !args.dev) throw new Error(`the wasm is ${compressed - limit} bytes above brotli_limit of wasm-pack.toml`);
}

try {
  if (!args["skip-wasm"]) buildWasm();
  if (!existsSync(wasm)) throw new Error(`there is no ${wasm}: build without --skip-wasm`);
  buildTypeScript();
  await checkWasm();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
