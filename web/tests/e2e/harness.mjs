// What a test is given: servers of its own (so an origin of its own, with nothing kept), pages, and calls on them.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Hub } from "../server/hub.mjs";
import { startServer } from "../server/server.mjs";
import { remove, temporary } from "./browser.mjs";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

export const FOLDERS = {
  page: path("page/"),
  package: path("../../dist/"),
  demo: path("../../demo/dist/"),
  stories: path("../../../assets/stories/"),
  models: path("../../../../shared/models/"),
  fixtures: path("../../../../shared/fixtures/"),
};
export const STORY_FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
export const expected = JSON.parse(readFileSync(path("expected.json"), "utf8"));

/** Thrown by a test that cannot run here. */
export class Skip extends Error {}

/** All tests, in the order in which they are told. */
export const tests = [];

/**
 * @param {string} name
 * @param {{ browsers?: string[], long?: boolean, fresh?: boolean, seconds?: number }} options
 *   browsers: only these; fresh: a browser of its own, which the test may break; seconds: how long it may take, where that is more than
 *   ten minutes
 * @param {(t: Context) => Promise<void>} run
 */
export function test(name, options, run) {
  tests.push({ name, ...options, run });
}

export class Context {
  #servers = [];
  #pages = [];
  #folders = [];

  constructor(browser, name) {
    this.browser = browser;
    this.name = name;
  }

  /** Of cases that differ little, all in Firefox, the first `count` in Chromium: its software adapter has one thread. */
  sampleOf(count, cases) {
    return this.name === "chromium" ? cases.slice(0, count) : cases;
  }

  /** The server of pages, package, demo and small models. */
  async server(options = {}) {
    const mounts = { "/": FOLDERS.page, "/pkg/": FOLDERS.package, "/demo/": FOLDERS.demo, ...modelMounts(), ...options.mounts };
    return this.#start({ ...options, mounts });
  }

  /** A second server, of models only: it may fail and go down while pages and workers still come. */
  async modelServer(options = {}) {
    const hub = new Hub(options.hub);
    const server = await this.#start({ ...options, hub, mounts: { ...modelMounts(), ...options.mounts } });
    return server;
  }

  async #start(options) {
    const server = await startServer(options);
    this.#servers.push(server);
    return server;
  }

  /** A page with the package on it. */
  async page(server, query = "") {
    const page = await this.blank();
    await page.goto(`${server.origin}/index.html${query}`);
    await page.until(() => globalThis.ready === true);
    const call = async (action, argument) => page.evaluate((given) => globalThis.act(given), [action, argument]);
    return Object.assign(page, {
      /** Does something on the page; its value, or throws what the page threw. */
      async act(action, argument) {
        const { value, error } = await call(action, argument);
        if (error) throw Object.assign(new Error(`${action}: ${error.name}: ${error.message}\n${error.stack ?? ""}`), { page: error });
        return value;
      },
      /** Does something that must fail; the error. It is one of the package's, with words for the visitor. */
      async fails(action, argument, ...names) {
        const { value, error } = await call(action, argument);
        assert.ok(error, `${action} should have failed with ${names.join(" or ")}, it gave ${JSON.stringify(value)?.slice(0, 300)}`);
        checkError(error, names);
        return error;
      },
      /** Begins something; `finish` waits for it. */
      start: (id, action, argument) => page.evaluate((calls) => globalThis.start(calls), [[id, action, argument]]),
      /** Begins several in one turn of the page, so that none can end before another has begun. */
      startTogether: (calls) => page.evaluate((calls) => globalThis.start(calls), calls),
      finish: (id) => page.evaluate((id) => globalThis.result(id), id),
      events: (type) => page.evaluate((type) => globalThis.events.filter((event) => type === null || event.type === type), type ?? null),
    });
  }

  /** An empty folder, for as long as the test runs. */
  folder(name) {
    const folder = temporary(name);
    this.#folders.push(folder);
    return folder;
  }

  /** A page with nothing on it. */
  async blank() {
    const page = await this.browser.newPage();
    this.#pages.push(page);
    return page;
  }

  async end() {
    for (const page of this.#pages) await page.close().catch(() => undefined);
    for (const server of this.#servers) await server.close();
    for (const folder of this.#folders) remove(folder);
  }
}

function modelMounts() {
  const mounts = { "/models/stories/": FOLDERS.stories };
  if (existsSync(`${FOLDERS.models}stories260K`)) mounts["/models/stories260K/"] = `${FOLDERS.models}stories260K/`;
  return mounts;
}

export function checkError(error, names) {
  assert.ok(names.includes(error.name), `expected ${names.join(" or ")}, got ${error.name}: ${error.message}`);
  assert.ok(error.typed, `${error.name} is none of the package's classes`);
  assert.match(error.code ?? "", /^[a-z0-9_]+$/);
  assert.ok(error.userMessage?.length > 5, `${error.name} says nothing to the visitor`);
}

export const greedy = (tokens) => ({ do_sample: false, max_new_tokens: tokens });

/**
 * Holds ids against those of the native runner: equal, or (where `loose`) up to a step at which the two best tokens were within
 * `margin` (natural logarithm) of one another, since another order of sums may take either. Gives how many were equal.
 */
export function sameIds(ids, native, { loose = false, margin = 0.02, tokens = native.ids.length } = {}) {
  const wanted = native.ids.slice(0, tokens);
  for (let i = 0; i < Math.max(wanted.length, ids.length); i++) {
    if (ids[i] === wanted[i]) continue;
    const close = loose && native.margins[i] < margin;
    assert.ok(close, `token ${i} is ${ids[i]}, natively ${wanted[i]} (margin ${native.margins[i]}); ids ${ids.slice(0, i + 1)}`);
    return i;
  }
  return wanted.length;
}
