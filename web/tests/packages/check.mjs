// The packed tarball in fresh apps: Vite (build and dev server), webpack, no bundler (also from another origin), run in Chromium with the
// built-in model. Last line: how many passed, failed, were skipped.
//
//     node tests/packages/check.mjs [NAME...]
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { serve } from "./server.mjs";

const web = fileURLToPath(new URL("../..", import.meta.url));
const root = join(web, "..");
const apps = join(root, "target/package-apps");
const shell = process.platform === "win32";
// what native-runner gives, too
const EXPECTED = "Once upon a time, there was a funny bird named Max. He lived";
const STRICT = {
  "content-security-policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self' http:",
};
const CORS = { "access-control-allow-origin": "*" };

const require = createRequire(import.meta.url);
const counts = { passed: 0, failed: 0, skipped: 0 };
const wanted = process.argv.slice(2);
let browser;

async function check(name, run) {
  if (wanted.length > 0 && !wanted.some((one) => name.includes(one))) return;
  const start = performance.now();
  try {
    await run();
    counts.passed += 1;
    console.log(`ok - ${name} (${Math.round(performance.now() - start)} ms)`);
  } catch (error) {
    counts.failed += 1;
    console.log(`not ok - ${name}\n${error.stdout ?? ""}${error.stderr ?? ""}${error.stack ?? error}`);
  }
}

const npm = (args, cwd) => execFileSync("npm", args, { cwd, shell, stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });

/** A fresh app with the tarball installed, as a user has it; nothing of web/node_modules is near it. */
function freshApp(name, tarball) {
  const app = join(apps, name);
  rmSync(app, { recursive: true, force: true });
  mkdirSync(app, { recursive: true });
  cpSync(join(web, "tests/packages", name), app, { recursive: true });
  if (!existsSync(join(app, "main.js"))) cpSync(join(web, "tests/packages/app.js"), join(app, "main.js"));
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: `app-${name}`, private: true, type: "module" }));
  npm(["install", "--offline", "--no-audit", "--no-fund", tarball], app);
  return app;
}

function findChromium() {
  const names = ["chromium", "google-chrome", "chrome", "chromium-browser"];
  const folders = (process.env.PATH ?? "").split(delimiter);
  return process.env.CHROMIUM ?? names.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
}

/** Opens `url` and compares what the page generated. */
async function runPage(url, parameters) {
  const page = await browser.newPage();
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  try {
    await page.goto(`${url}?${new URLSearchParams(parameters)}`);
    // by polling: what waits within the page would need eval, which the strict policy forbids
    for (let waited = 0; !(await page.evaluate("'result' in globalThis")); waited += 100) {
      if (waited > 60_000) throw new Error(`the page's script did not run\n${said.join("\n")}`);
      await sleep(100);
    }
    const { generated_text, left, error } = await page.evaluate("globalThis.result");
    if (error !== undefined || generated_text !== EXPECTED || left !== 0) {
      throw new Error(`${error ?? `generated ${JSON.stringify(generated_text)}, ${left} bytes left`}\n${said.join("\n")}`);
    }
    const refused = said.filter((text) => /Content.Security.Policy/i.test(text));
    if (refused.length > 0) throw new Error(refused.join("\n"));
  } finally {
    await page.close();
  }
}

const filesBelow = (folder) => readdirSync(folder, { recursive: true, encoding: "utf8" });

/** The page, the worker, what reads YAML (the app's profile is in it) and the wasm are files of the bundle, once each. */
function checkBundle(dist) {
  const files = filesBelow(dist);
  const count = (pattern) => files.filter((file) => pattern.test(file)).length;
  if (count(/\.wasm$/) !== 1) throw new Error(`one wasm is expected: ${files.join(", ")}`);
  if (count(/\.js$/) !== 3) throw new Error(`three scripts are expected, page, worker and YAML: ${files.join(", ")}`);
}

/** Vite's dev server at a free port. */
async function viteDev(app) {
  const vite = join(web, "node_modules/vite/bin/vite.js");
  const server = spawn(process.execPath, [vite, app, "--port", "0", "--host", "127.0.0.1"], { cwd: app, stdio: ["ignore", "pipe", "inherit"] });
  const url = await new Promise((resolve, reject) => {
    let said = "";
    server.on("exit", (code) => reject(new Error(`vite ended (${code}): ${said}`)));
    server.stdout.on("data", (data) => {
      said += data;
      // without the colours of a terminal
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said.replace(/\u001b\[\d+m/g, ""));
      if (found) resolve(found[0].replace("127.0.0.1", "localhost"));
    });
  });
  return { url, close: () => server.kill() };
}

async function main() {
  const chromium = findChromium();
  if (!chromium) {
    counts.skipped += 1;
    console.log("Skipped: there is no Chromium (or CHROMIUM=path).");
    return;
  }
  mkdirSync(apps, { recursive: true });
  const [{ filename }] = JSON.parse(npm(["pack", "--json", "--pack-destination", apps], web));
  const tarball = join(apps, filename);
  const flags = ["--no-sandbox", "--enable-unsafe-webgpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"];
  browser = await require("playwright-core").chromium.launch({ executablePath: chromium, args: flags });
  const stories = { "/stories/": join(root, "assets/stories") };
  const models = await serve(stories, CORS);
  const model = `${models.url}/stories/`;
  const served = [models];
  const start = async (folders, headers) => {
    const server = await serve(folders, headers);
    served.push(server);
    return server.url;
  };
  try {
    await check("Vite: build", async () => {
      const app = freshApp("vite", tarball);
      execFileSync(process.execPath, [join(web, "node_modules/vite/bin/vite.js"), "build", app], { cwd: app, stdio: "pipe" });
      checkBundle(join(app, "dist"));
      await runPage(`${await start({ "/": join(app, "dist") }, STRICT)}/`, { model });
    });
    await check("Vite: dev server", async () => {
      const dev = await viteDev(freshApp("vite", tarball));
      try {
        await runPage(`${dev.url}/`, { model });
      } finally {
        dev.close();
      }
    });
    await check("webpack: build", async () => {
      const app = freshApp("webpack", tarball);
      const { default: config } = await import(`${app}/webpack.config.mjs`);
      await new Promise((resolve, reject) => {
        require("webpack")({ ...config, context: app, output: { ...config.output, path: join(app, "dist") } }, (error, stats) => {
          if (error || stats.hasErrors() || stats.hasWarnings()) reject(error ?? new Error(stats.toString("errors-warnings")));
          else resolve();
        });
      });
      checkBundle(join(app, "dist"));
      cpSync(join(app, "index.html"), join(app, "dist/index.html"));
      await runPage(`${await start({ "/": join(app, "dist") }, STRICT)}/`, { model });
    });

    const plain = freshApp("plain", tarball);
    const dist = join(plain, "node_modules/webweft/dist");
    await check("no bundler, strict policy", async () => {
      const url = await start({ "/webweft/": dist, "/": plain }, STRICT);
      await runPage(`${url}/`, { model, script: `${url}/webweft/index.js` });
    });
    await check("script from another origin", async () => {
      const cdn = await start({ "/webweft/": dist }, CORS);
      const url = await start({ "/": plain });
      await runPage(`${url}/`, { model, script: `${cdn}/webweft/index.js` });
    });
    await check("worker and wasm from another origin", async () => {
      const cdn = await start({ "/webweft/": dist }, CORS);
      const url = await start({ "/webweft/": dist, "/": plain });
      const assets = { workerUrl: `${cdn}/webweft/worker.js`, wasmUrl: `${cdn}/webweft/webweft_bg.wasm` };
      await runPage(`${url}/`, { model, script: `${url}/webweft/index.js`, ...assets });
    });
    await check("a worker that is not there is told", async () => {
      const url = await start({ "/webweft/": dist, "/": plain });
      const script = `${url}/webweft/index.js`;
      const failing = [{ workerUrl: `${url}/missing.js` }, { wasmUrl: `${url}/missing.wasm` }, { workerUrl: `${models.url}/missing.js` }];
      for (const assets of failing) {
        const error = await runPage(`${url}/`, { model, script, ...assets }).then(() => "nothing", (thrown) => thrown.message);
        if (!error.startsWith("WorkerError: ")) throw new Error(`${JSON.stringify(assets)} gave ${error}`);
      }
    });
  } finally {
    await browser.close();
    for (const server of served) await server.close();
    rmSync(tarball, { force: true });
  }
}

await main();
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
