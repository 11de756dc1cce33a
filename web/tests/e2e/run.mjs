// End-to-end tests in real browsers: node web/tests/e2e/run.mjs [--browser chromium|firefox] [--long] [--list] [FILTER]
//
// They need web/dist (npm run build in web/) and web/demo/dist (npm run build there). One line per test; the last line counts.

import { existsSync, readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { endAll, findBrowser, launch } from "./browser.mjs";
import { Context, FOLDERS, Skip, tests } from "./harness.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { browser: { type: "string" }, long: { type: "boolean", default: false }, list: { type: "boolean", default: false } },
});
// all of them, so that none is forgotten
const cases = new URL("cases/", import.meta.url);
for (const file of readdirSync(cases).sort()) await import(new URL(file, cases).href);

const browsers = values.browser ? [values.browser] : ["chromium", "firefox"];
const long = values.long || process.env.WEBWEFT_LONG === "1";
const counts = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const say = (mark, browser, name, seconds, note = "") =>
  console.log(`${mark.padEnd(6)} ${browser.padEnd(8)} ${seconds.toFixed(1).padStart(7)} s  ${name}${note && `: ${note}`}`);

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    endAll();
    process.exit(130);
  });
}
process.on("exit", endAll);

const within = (promise, seconds) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

async function runOn(name) {
  const chosen = tests.filter((test) => {
    if (!(test.browsers ?? [name]).includes(name)) return false;
    return positionals.every((filter) => test.name.includes(filter)) && (long || !test.long);
  });
  if (values.list) {
    for (const test of chosen) console.log(`${name}: ${test.name}`);
    return;
  }
  if (!findBrowser(name)) {
    counts.skipped += chosen.length;
    console.log(`${name} is not here: ${chosen.length} skipped`);
    return;
  }
  let browser = null;
  try {
    for (const test of chosen) {
      if (test.fresh && browser) {
        await browser.close();
        browser = null;
      }
      browser ??= await launch(name);
      const start = performance.now();
      const seconds = () => (performance.now() - start) / 1000;
      const context = new Context(browser, name);
      let broken = test.fresh;
      try {
        const note = await within(test.run(context), test.seconds ?? 600);
        counts.passed += 1;
        say("ok", name, test.name, seconds(), note ?? "");
      } catch (error) {
        if (error instanceof Skip) {
          counts.skipped += 1;
          say("skip", name, test.name, seconds(), error.message);
        } else {
          counts.failed += 1;
          broken = true;
          failures.push(`${name}: ${test.name}`);
          say("FAILED", name, test.name, seconds());
          console.log(String(error?.stack ?? error).replace(/^/gm, "       "));
        }
      } finally {
        await within(context.end(), 20).catch(() => (broken = true));
      }
      // what failed may have left the browser in any state
      if (broken) {
        await browser.close();
        browser = null;
      }
    }
  } finally {
    await browser?.close();
    endAll();
  }
}

if (!values.list) {
  for (const [what, file] of [["package", "index.js"], ["demo", "index.html"]]) {
    if (!existsSync(FOLDERS[what] + file)) {
      console.error(`${FOLDERS[what]}${file} is missing: run npm run build first`);
      process.exit(2);
    }
  }
}
for (const name of browsers) await runOn(name);
if (!values.list) {
  for (const failure of failures) console.log(`failed: ${failure}`);
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
}
process.exit(counts.failed > 0 ? 1 : 0);
