// Chromium through Playwright and Firefox through Puppeteer, behind the few calls that the tests need.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What headless WebGPU needs without a GPU. */
const CHROMIUM_ARGS = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // a GPU process that is killed for a test must not make the browser refuse WebGPU to the page
  "--disable-gpu-process-crash-limit",
  "--disable-domain-blocking-for-3d-apis",
];
/** Milliseconds that a test waits for anything: a machine may be slow, and no test is of speed. */
const PATIENCE = 180_000;
const FIREFOX_PREFS = { "dom.webgpu.enabled": true, "gfx.webgpu.ignore-blocklist": true };

const MARK = "WEBWEFT_E2E_RUN";
const run = `${process.pid}.${Date.now()}`;

function executable(names) {
  for (const name of names) {
    for (const folder of (process.env.PATH ?? "").split(":").concat("/usr/bin", "/usr/local/bin")) {
      if (folder && existsSync(join(folder, name))) return join(folder, name);
    }
  }
  return null;
}

/** Where a browser's program is, or null. WEBWEFT_CHROMIUM and WEBWEFT_FIREFOX name others. */
export function findBrowser(name) {
  return name === "chromium"
    ? (process.env.WEBWEFT_CHROMIUM ?? executable(["chromium", "chromium-browser", "google-chrome", "chrome"]))
    : (process.env.WEBWEFT_FIREFOX ?? executable(["firefox-esr", "firefox"]));
}

/**
 * Processes of this run's browsers: those that carry the mark in their environment, and all that these started (Chromium writes its
 * processes' titles over their environments). Linux only; none elsewhere.
 */
function processes() {
  if (!existsSync("/proc/self/stat")) return [];
  const all = new Map();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      const read = (file) => readFileSync(`/proc/${entry}/${file}`, "latin1");
      const parent = Number(/\) \S+ (\d+)/.exec(read("stat"))?.[1]);
      const marked = read("environ").split("\0").includes(`${MARK}=${run}`);
      all.set(Number(entry), { pid: Number(entry), parent, marked, command: read("cmdline").replaceAll("\0", " ") });
    } catch {
      // it has ended, or is somebody else's
    }
  }
  const ours = ({ marked, parent }) => marked || (all.has(parent) && ours(all.get(parent)));
  return [...all.values()].filter(ours);
}

const folders = new Set();

/** A new temporary folder, which goes with the run at the latest. */
export function temporary(name) {
  const folder = mkdtempSync(join(tmpdir(), `webweft-${name}-`));
  folders.add(folder);
  return folder;
}

export function remove(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  folders.delete(folder);
}

/** Ends whatever is left of this run's browsers, and removes temporary folders. Nothing of the run may be under way any more. */
export function endAll() {
  endBrowsers();
  for (const folder of folders) remove(folder);
}

function endBrowsers() {
  for (const { pid } of processes()) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // gone by itself
    }
  }
}

/** Starts a browser: a new profile in a temporary folder, which goes with it. */
export async function launch(name) {
  const path = findBrowser(name);
  if (!path) throw new Error(`there is no ${name} here`);
  const profile = temporary(name);
  const env = { ...process.env, [MARK]: run };
  const browser = name === "chromium" ? await chromium(path, profile, env) : await firefox(path, profile, env);
  const close = async () => {
    await Promise.race([browser.close().catch(() => undefined), new Promise((done) => setTimeout(done, 5000).unref())]);
    endBrowsers();
    remove(profile);
  };
  return { name, version: browser.version, newPage: browser.newPage, close, killGpuProcess, resident };
}

/** Kills the GPU process of the running Chromium, as a driver that crashes does; its process id. */
function killGpuProcess() {
  const gpu = processes().find(({ command }) => command.includes("--type=gpu-process"));
  if (!gpu) throw new Error("there is no GPU process to kill");
  process.kill(gpu.pid, "SIGKILL");
  return gpu.pid;
}

/** Bytes of anonymous memory that all processes of this run's browser hold. */
function resident() {
  const of = ({ pid }) => {
    try {
      return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      return 0; // it has ended
    }
  };
  return processes().reduce((sum, process) => sum + of(process), 0);
}

async function chromium(executablePath, profile, env) {
  const { chromium } = await import("playwright-core");
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: CHROMIUM_ARGS, env, headless: true });
  return {
    version: execFileSync(executablePath, ["--version"], { encoding: "utf8" }).trim(),
    close: () => context.close(),
    async newPage() {
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      return adapt(page, {
        async quota(origin, bytes) {
          const session = await context.newCDPSession(page);
          await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: bytes });
        },
        async heap() {
          const session = await context.newCDPSession(page);
          await session.send("HeapProfiler.collectGarbage");
          const { usedSize } = await session.send("Runtime.getHeapUsage");
          await session.detach();
          return usedSize;
        },
        viewport: (width, height) => page.setViewportSize({ width, height }),
        scheme: (scheme) => page.emulateMedia({ colorScheme: scheme }),
      });
    },
  };
}

async function firefox(executablePath, profile, env) {
  const { default: puppeteer } = await import("puppeteer-core");
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    env,
    extraPrefsFirefox: FIREFOX_PREFS,
    userDataDir: profile,
    protocolTimeout: 1_800_000,
    headless: true,
  });
  return {
    version: await browser.version(),
    close: () => browser.close(),
    async newPage() {
      const page = await browser.newPage();
      page.setDefaultTimeout(PATIENCE);
      return adapt(page, {
        viewport: (width, height) => page.setViewport({ width, height }),
        scheme: (scheme) => page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]),
      });
    },
  };
}

/** What Playwright's and Puppeteer's pages have in common, under one set of names. */
function adapt(page, { viewport, scheme, quota, heap }) {
  /** What went wrong on the page: uncaught errors, and errors on the console (a policy that was violated is one). */
  const problems = [];
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.stack ?? error.message ?? error}`));
  page.on("console", (message) => message.type() === "error" && problems.push(`console: ${message.text()}`));
  const adapted = {
    problems,
    viewport,
    scheme,
    /** How many bytes an origin may store. Chromium only. */
    quota,
    /** Bytes of the page's JavaScript, after a garbage collection. Chromium only. */
    heap,
    goto: (url) => page.goto(url, { waitUntil: "load" }),
    /** Runs a function on the page with one argument, and gives its (awaited) result. */
    evaluate: (code, argument) => page.evaluate(code, argument),
    screenshot: (path) => page.screenshot({ path }),
    click: (selector) => page.click(selector),
    type: (selector, text) => page.type(selector, text),
    press: (key) => page.keyboard.press(key),
    reload: () => page.reload({ waitUntil: "load" }),
    close: () => page.close(),
    /** Asks until `code` gives something true (no element: those do not cross); gives that. */
    async until(code, argument) {
      const end = Date.now() + PATIENCE;
      for (;;) {
        const value = await page.evaluate(code, argument);
        if (value) return value;
        if (Date.now() > end) throw new Error(`not within ${PATIENCE / 1000} s: ${String(code).slice(0, 200)}`);
        await new Promise((done) => setTimeout(done, 50));
      }
    },
  };
  return adapted;
}
