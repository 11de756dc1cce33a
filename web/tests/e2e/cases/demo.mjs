// The demo page as a visitor uses it.

import assert from "node:assert/strict";
import { FOLDERS, STORY_FILES, test } from "../harness.mjs";

const state = (...names) => [(names) => names.includes(document.body.dataset.state), names];
const text = (selector) => [(selector) => document.querySelector(selector)?.textContent ?? "", selector];

async function opened(t, query = "") {
  const server = await t.server({ control: true });
  const page = await t.blank();
  await page.goto(`${server.origin}/demo/${query}`);
  return { server, page };
}

const ready = (page) => page.until(...state("ready"));
const shown = (page, selector) => page.evaluate(...text(selector));

test("demo: a story at a click, with speed and memory", {}, async (t) => {
  const { page } = await opened(t);
  await ready(page);
  await page.click(".starter");
  await page.until(...state("busy"));
  await page.until(() => document.querySelector(".message.is-assistant .message-text")?.textContent.length > 20);
  assert.match(await shown(page, ".figure-large"), /^[\d.]+$/, "tokens per second, live");
  await ready(page);
  assert.match(await shown(page, ".message.is-user"), /^Tell me a story/);
  assert.match(await shown(page, ".message.is-assistant .message-text"), /^\w[\s\S]{40,}/);
  assert.match(await shown(page, ".message-foot"), /\d+ tokens · [\d.]+ tokens\/s/);
  const areas = await page.evaluate(() => [...document.querySelectorAll(".chart-area")].filter((area) => area.getAttribute("d")?.length > 10).length);
  assert.equal(areas, 4);
  assert.match(await shown(page, ".legend"), /nowpeakWeights[\d.]+ [kM]B[\d.]+ [kM]BCache.*Working.*Transfer/, "now and at most");
  assert.match(await shown(page, "[aria-label=Device]"), /Backend.*subgroups/s);
  await page.until(() => document.querySelectorAll(".kept li").length === 1);
  assert.equal(await shown(page, ".kept-name"), "Stories");
  assert.deepEqual(page.problems, [], "nothing violates the strict policy");
});

test("demo: the second visit reads from this device; what is kept can be deleted", {}, async (t) => {
  const { page, server } = await opened(t);
  await ready(page);
  server.log.length = 0;
  await page.reload();
  await ready(page);
  // the header is asked for, to see whether the file is still the same
  assert.ok(server.requests(/model\.safetensors$/).reduce((sum, { sent }) => sum + sent, 0) < 100_000);
  assert.match(await shown(page, "[aria-label=Model]"), /from this device/);
  await page.until(() => document.querySelectorAll(".kept li").length === 1);
  await page.evaluate(() => document.querySelector(".kept .icon-button").click());
  await page.until(() => document.querySelectorAll(".kept li").length === 0);
});

test("demo: by keyboard; Escape stops", {}, async (t) => {
  const { page } = await opened(t);
  await ready(page);
  await page.evaluate(() => document.querySelector("#prompt").focus());
  await page.type("#prompt", "Tell me a story about a lost key.");
  await page.press("Enter");
  await page.until(...state("busy"));
  await page.until(() => document.querySelector(".message.is-assistant .message-text")?.textContent.length > 10);
  await page.press("Escape");
  await ready(page);
  assert.match(await shown(page, ".message-foot"), /stopped/);
  // everything that can be pressed has a name
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, a, input, textarea, select")]
      .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length || element.title))
      .map((element) => element.outerHTML.slice(0, 100)),
  );
  assert.deepEqual(nameless, []);
  await page.evaluate(() => document.querySelector(".model-button").focus());
  await page.press("Enter");
  await page.until(() => document.querySelector("dialog[open] #model") === document.activeElement);
  await page.press("Escape");
  await page.until(() => !document.querySelector("dialog[open]"));
  await page.evaluate(() => document.querySelector(".again").click());
  await page.until(...state("busy"));
  await page.click(".send.is-stop");
  await ready(page);
  await page.click(".fresh");
  await page.until(() => document.querySelector(".starter")?.offsetParent !== null);
});

test("demo: a model of the Hub, looked at first", {}, async (t) => {
  const models = await t.modelServer();
  models.hub.add("org/small", { folder: FOLDERS.stories });
  models.hub.add("org/gated", { folder: FOLDERS.stories, access: "gated", token: "hf_good" });
  const { page } = await opened(t, `?host=${encodeURIComponent(models.origin)}`);
  await ready(page);
  await page.click(".model-button");
  await page.type("#model", "org/small");
  await page.press("Enter");
  await page.until(() => document.querySelector(".verdict.is-yes") !== null);
  assert.match(await shown(page, ".verdict"), /runs here.*To fetch2\.4 MB.*512 tokens/s);
  assert.ok(models.requests(/^\/cdn\//).reduce((sum, { sent }) => sum + sent, 0) < 100_000);
  await page.click(".is-load");
  await page.until(...state("loading", "ready"));
  await ready(page);
  assert.equal(await shown(page, ".model-name"), "org/small");

  await page.click(".model-button");
  await page.evaluate(() => (document.querySelector("#model").value = "org/gated"));
  await page.press("Enter");
  await page.until(() => document.querySelector(".verdict.is-no") !== null);
  assert.match(await shown(page, ".verdict"), /private|terms|token/);
  await page.type("#token", "hf_good");
  await page.evaluate(() => document.querySelector(".picker-form").requestSubmit());
  await page.until(() => document.querySelector(".verdict.is-yes") !== null);
});

test("demo: a folder of files", {}, async (t) => {
  const { page } = await opened(t);
  await ready(page);
  await page.click(".model-button");
  await page.evaluate(async (names) => {
    const given = new DataTransfer();
    for (const name of names) given.items.add(new File([await (await fetch(`/models/stories/${name}`)).blob()], name));
    const input = document.querySelector("#folder");
    input.files = given.files;
    input.dispatchEvent(new Event("change"));
  }, STORY_FILES);
  await page.until(() => document.querySelector(".verdict.is-yes") !== null);
  await page.click(".is-load");
  await page.until(...state("loading"));
  await ready(page);
  assert.match(await shown(page, "[aria-label=Model]"), /from files/);
});

test("demo: what goes wrong is told, with a way on", {}, async (t) => {
  const models = await t.modelServer();
  const { page } = await opened(t, `?model=${encodeURIComponent(`${models.origin}/nothing/`)}`);
  await page.until(...state("failed"));
  assert.equal(await page.evaluate(() => document.querySelector(".problem").dataset.error), "ModelNotFoundError");
  assert.match(await shown(page, ".problem-text"), /no such model/);
  await page.evaluate(() => [...document.querySelectorAll(".problem .button")].find((button) => /built-in/.test(button.textContent)).click());
  await ready(page);
  assert.equal(await shown(page, ".model-name"), "Stories");
});

test("demo: no wider than a phone, light and dark", {}, async (t) => {
  const { page } = await opened(t);
  await page.viewport(360, 740);
  await ready(page);
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(await wide(), 0);
  await page.evaluate(() => document.querySelector(".panel-button").getAttribute("aria-expanded") === "false" && document.querySelector(".panel-button").click());
  assert.equal(await wide(), 0);
  const outside = await page.evaluate(() => [...document.querySelectorAll(".panel *")].filter((element) => element.getBoundingClientRect().right > innerWidth + 1).length);
  assert.equal(outside, 0);
  await page.evaluate(() => document.querySelector(".panel-head .icon-button").click());
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.evaluate(() => (document.documentElement.dataset.theme = "light"));
  const light = await ground();
  await page.evaluate(() => (document.documentElement.dataset.theme = "dark"));
  assert.notEqual(await ground(), light);
});

test("demo: the GPU process is killed in the middle of a story", { browsers: ["chromium"], fresh: true }, async (t) => {
  const { page } = await opened(t);
  await ready(page);
  await page.click(".starter");
  await page.until(() => document.querySelector(".message.is-assistant .message-text")?.textContent.length > 20);
  const before = await shown(page, ".message.is-assistant .message-text");
  t.browser.killGpuProcess();
  await page.until(() => document.querySelector(".banner.is-warn") !== null);
  await page.until(() => document.querySelector(".banner.is-good") !== null);
  await ready(page);
  const after = await shown(page, ".message.is-assistant .message-text");
  assert.ok(after.startsWith(before) && after.length > before.length, "the story goes on");
});
