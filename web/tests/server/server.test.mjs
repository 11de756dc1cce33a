import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KINDS, Faults, parseFault } from "./faults.mjs";
import { parseRange } from "./files.mjs";
import { COMMIT, Hub } from "./hub.mjs";
import { POLICIES, startServer } from "./server.mjs";

let folder, server, hub;
const bytes = randomBytes(3_000_000);

/** A request without fetch's own ideas: status, headers, body as far as it came, and whether it was whole. */
function raw(path, { method = "GET", headers = {} } = {}) {
  return new Promise((done) => {
    const sent = request(server.origin + path, { method, headers, agent: false }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      const end = (whole) => done({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts), whole });
      response.on("end", () => end(response.complete));
      response.on("error", () => end(false));
    });
    sent.on("error", (error) => done({ error: error.code }));
    sent.end();
  });
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "webweft-server-"));
  await mkdir(join(folder, "model"));
  await writeFile(join(folder, "index.html"), "<!doctype html><title>page</title>");
  await writeFile(join(folder, "worker.js"), "self.close()");
  await writeFile(join(folder, "model", "config.json"), "{}");
  await writeFile(join(folder, "model", "model.safetensors"), bytes);
  hub = new Hub();
  hub.add("org/open", { folder: join(folder, "model"), revisions: ["main", "refs/pr/1"] });
  hub.add("org/private", { folder: join(folder, "model"), access: "private", token: "hf_private" });
  hub.add("org/gated", { folder: join(folder, "model"), access: "gated", token: "hf_gated" });
  server = await startServer({ mounts: { "/": folder, "/again/": join(folder, "model") }, hub, control: true });
});

after(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

describe("files", () => {
  test("come with type, tag, length and CORS", async () => {
    const { status, headers, body, whole } = await raw("/model/model.safetensors");
    assert.equal(status, 200);
    assert.ok(whole && body.equals(bytes));
    assert.equal(headers["content-type"], "application/octet-stream");
    assert.equal(headers["accept-ranges"], "bytes");
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.match(headers["access-control-expose-headers"], /content-range/);
    assert.match(headers.etag, /^"[0-9a-f]+"$/);
    assert.equal((await raw("/model/model.safetensors", { headers: { "if-none-match": headers.etag } })).status, 304);
    const head = await raw("/model/model.safetensors", { method: "HEAD" });
    assert.equal(head.headers["content-length"], String(bytes.length));
    assert.equal(head.body.length, 0);
  });

  test("come in ranges", async () => {
    const { status, headers, body } = await raw("/model/model.safetensors", { headers: { range: "bytes=1048570-1048590" } });
    assert.equal(status, 206);
    assert.equal(headers["content-range"], `bytes 1048570-1048590/${bytes.length}`);
    assert.ok(body.equals(bytes.subarray(1048570, 1048591)));
    const none = await raw("/model/model.safetensors", { headers: { range: "bytes=3000000-" } });
    assert.equal(none.status, 416);
    assert.equal(none.headers["content-range"], "bytes */3000000");
    const changed = await raw("/model/model.safetensors", { headers: { range: "bytes=0-9", "if-range": '"other"' } });
    assert.equal(changed.status, 200);
  });

  test("ranges are read as RFC 9110 has them", () => {
    assert.deepEqual(parseRange("bytes=0-0", 10), { begin: 0, end: 1 });
    assert.deepEqual(parseRange("bytes=5-", 10), { begin: 5, end: 10 });
    assert.deepEqual(parseRange("bytes=-3", 10), { begin: 7, end: 10 });
    assert.deepEqual(parseRange("bytes=-30", 10), { begin: 0, end: 10 });
    assert.deepEqual(parseRange("bytes=8-99", 10), { begin: 8, end: 10 });
    assert.equal(parseRange("bytes=10-", 10), "none");
    assert.equal(parseRange("bytes=-0", 10), "none");
    for (const text of [undefined, "", "bytes=-", "bytes=5-4", "items=0-1", "bytes=0-1,4-5"]) assert.equal(parseRange(text, 10), null);
  });

  test("of a second mount, and none from outside of the folders", async () => {
    assert.equal((await raw("/again/config.json")).body.toString(), "{}");
    for (const path of ["/../secret", "/..%2fsecret", "/%2e%2e/secret", "/%00", "/%", "/model", "/nothing"]) {
      assert.equal((await raw(path)).status, 404, path);
    }
  });

  test("pages and workers have a policy, and no page is isolated", async () => {
    for (const path of ["/", "/index.html", "/worker.js"]) {
      const { headers } = await raw(path);
      assert.equal(headers["content-security-policy"], POLICIES.strict);
      assert.ok(!("cross-origin-opener-policy" in headers) && !("cross-origin-embedder-policy" in headers));
    }
    assert.equal((await raw("/index.html?csp=cdn")).headers["content-security-policy"], POLICIES.cdn);
    assert.ok(!("content-security-policy" in (await raw("/index.html?csp=none")).headers));
    assert.ok(!/unsafe-(eval|inline)(?<!wasm-unsafe-eval)/.test(POLICIES.strict));
  });
});

describe("faults", () => {
  const spoiled = async (fault, options) => {
    server.faults.clear();
    const rule = server.faults.add(fault, "model.safetensors");
    return { rule, ...(await raw("/model/model.safetensors", options)) };
  };
  const range = { headers: { range: "bytes=1000-1999" } };
  after(() => server.faults.clear());

  test("cut: the connection breaks at the byte, with the whole length announced", async () => {
    const { headers, body, whole } = await spoiled("cut:at=1234567");
    assert.equal(headers["content-length"], String(bytes.length));
    assert.equal(body.length, 1234567);
    assert.equal(whole, false);
    assert.ok(body.equals(bytes.subarray(0, 1234567)));
    assert.equal((await spoiled("cut:at=100", range)).body.length, 100);
    assert.ok((await spoiled("cut", range)).body.length < 1000); // somewhere
  });

  test("reset: no answer at all", async () => {
    assert.equal((await spoiled("reset")).error, "ECONNRESET");
  });

  test("status, with and without Retry-After", async () => {
    const limited = await spoiled("status:status=429,retryAfter=2");
    assert.equal(limited.status, 429);
    assert.equal(limited.headers["retry-after"], "2");
    const busy = await spoiled("status:status=503");
    assert.equal(busy.status, 503);
    assert.ok(!("retry-after" in busy.headers));
  });

  test("norange: the whole file, whatever was asked for", async () => {
    const { status, headers, body } = await spoiled("norange", range);
    assert.equal(status, 200);
    assert.ok(!("accept-ranges" in headers) && !("content-range" in headers));
    assert.ok(body.equals(bytes));
  });

  test("length and range: headers that lie", async () => {
    const longer = await spoiled("length:by=7", range);
    assert.equal(longer.headers["content-length"], "1007");
    assert.equal(longer.body.length, 1000);
    assert.equal(longer.whole, false);
    const shifted = await spoiled("range:by=7", range);
    assert.equal(shifted.headers["content-range"], "bytes 1007-2006/3000000");
    assert.ok(shifted.body.equals(bytes.subarray(1000, 2000)));
  });

  test("alter: one byte of the file, whichever range it is in", async () => {
    const { body } = await spoiled("alter:at=1500", range);
    const wrong = [...body.keys()].filter((i) => body[i] !== bytes[1000 + i]);
    assert.deepEqual(wrong, [500]);
    assert.ok((await spoiled("alter:at=2500", range)).body.equals(bytes.subarray(1000, 2000)));
  });

  test("truncate: a shorter file, and headers that agree", async () => {
    const { headers, body, whole } = await spoiled("truncate:at=1500");
    assert.ok(whole);
    assert.equal(headers["content-length"], "1500");
    assert.equal(body.length, 1500);
    assert.equal((await spoiled("truncate:at=1500", range)).headers["content-range"], "bytes 1000-1499/1500");
  });

  test("drip and delay: slowly", async () => {
    const start = performance.now();
    const { body } = await spoiled("drip:bytes=100,ms=20", range);
    assert.ok(performance.now() - start > 150);
    assert.ok(body.equals(bytes.subarray(1000, 2000)));
    const again = performance.now();
    await spoiled("delay:ms=150", range);
    assert.ok(performance.now() - again > 140);
  });

  test("stall: the rest never comes", async () => {
    server.faults.clear();
    server.faults.add("stall:at=10", "model.safetensors");
    const controller = new AbortController();
    const response = await fetch(`${server.origin}/model/model.safetensors`, { signal: controller.signal });
    const reader = response.body.getReader();
    let got = 0;
    while (got < 10) got += (await reader.read()).value.length;
    const more = await Promise.race([reader.read().catch(() => "broken"), new Promise((done) => setTimeout(done, 200, "silence"))]);
    assert.equal(more, "silence");
    controller.abort();
  });

  test("html, etag, noetag", async () => {
    const page = await spoiled("html");
    assert.equal(page.status, 200);
    assert.match(page.headers["content-type"], /html/);
    const tags = [await spoiled("etag", range), await spoiled("etag", range)].map((answer) => answer.headers.etag);
    assert.notEqual(tags[0], tags[1]);
    const bare = await spoiled("noetag", range);
    assert.ok(!("etag" in bare.headers) && !("last-modified" in bare.headers));
  });

  test("only so often, after so many, for such requests", async () => {
    server.faults.clear();
    const rule = server.faults.add("status:status=503,times=1,after=1", /safetensors$/);
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await raw("/model/model.safetensors", range)).status);
    assert.deepEqual(statuses, [206, 503, 206, 206]);
    assert.deepEqual([rule.hits, rule.seen], [1, 4]);
    assert.equal((await raw("/model/config.json")).status, 200);
    server.faults.clear();
    server.faults.add("status:status=503,only=range");
    assert.equal((await raw("/model/config.json")).status, 200);
    assert.equal((await raw("/model/config.json", range)).status, 503);
  });

  test("by query and by path", async () => {
    server.faults.clear();
    assert.equal((await raw("/model/config.json?fault=status:status=503")).status, 503);
    assert.equal((await raw("/~status:status=429/model/config.json")).status, 429);
    assert.equal((await raw("/model/config.json")).status, 200);
  });

  test("by control", async () => {
    const post = (order) => fetch(`${server.origin}/__control`, { method: "POST", body: JSON.stringify(order) });
    await post({ clear: true, forget: true });
    await post({ add: "status:status=500", path: "config.json" });
    assert.equal((await raw("/model/config.json")).status, 500);
    const { log } = await (await fetch(`${server.origin}/__control`)).json();
    assert.deepEqual(log.map(({ path, status, fault }) => [path, status, fault]), [["/model/config.json", 500, "status"]]);
    await post({ clear: true, down: 200 });
    await new Promise((done) => setTimeout(done, 60));
    assert.equal((await raw("/model/config.json")).error, "ECONNREFUSED");
    await new Promise((done) => setTimeout(done, 300));
    assert.equal((await raw("/model/config.json")).status, 200);
  });

  test("what is not a fault is refused", () => {
    for (const text of ["", "nothing", "cut:at=x", "cut:at=-1", "status"]) assert.throws(() => parseFault(text), text);
    for (const kind of Object.keys(KINDS)) parseFault(kind === "status" ? "status:status=500" : kind);
  });

  test("random places repeat with their seed", () => {
    const places = (seed) => {
      const faults = new Faults(seed);
      return Array.from({ length: 5 }, () => faults.at({ kind: "cut" }, 1000));
    };
    assert.deepEqual(places(3), places(3));
    assert.notDeepEqual(places(3), places(4));
  });
});

test("a server that is down refuses, and comes back at its port", async () => {
  const { origin } = server;
  await server.down();
  assert.equal((await raw("/model/config.json")).error, "ECONNREFUSED");
  await server.up();
  assert.equal(server.origin, origin);
  assert.equal((await raw("/model/config.json")).status, 200);
});

test("the log tells what was asked, and with which token", async () => {
  server.log.length = 0;
  await raw("/model/model.safetensors", { headers: { range: "bytes=0-9", authorization: "Bearer x" } });
  const [entry] = server.requests(/safetensors/);
  assert.deepEqual(
    { method: entry.method, range: entry.range, authorization: entry.authorization, status: entry.status, sent: entry.sent },
    { method: "GET", range: "bytes=0-9", authorization: "Bearer x", status: 206, sent: 10 },
  );
  const preflight = await raw("/model/config.json", { method: "OPTIONS" });
  assert.match(preflight.headers["access-control-allow-headers"], /authorization/);
  assert.equal(server.log.length, 1);
});

describe("the Hub", () => {
  const as = (token) => ({ headers: { authorization: `Bearer ${token}` } });
  const code = ({ status, headers }) => [status, headers["x-error-code"]];

  test("lists a revision", async () => {
    const { status, body } = await raw("/api/models/org/open/revision/refs%2Fpr%2F1?blobs=true");
    assert.equal(status, 200);
    const { sha, siblings } = JSON.parse(body);
    assert.equal(sha, COMMIT);
    assert.deepEqual(siblings.map((file) => [file.rfilename, file.size]), [["config.json", 2], ["model.safetensors", bytes.length]]);
    assert.equal(siblings[1].lfs.sha256, createHash("sha256").update(bytes).digest("hex"));
    assert.equal(siblings[0].blobId, createHash("sha1").update("blob 2\0{}").digest("hex"));
  });

  test("gives files, large ones by redirect", async () => {
    const small = await raw(`/org/open/resolve/${COMMIT}/config.json`);
    assert.deepEqual([small.status, small.body.toString(), small.headers["x-repo-commit"]], [200, "{}", COMMIT]);
    const large = await raw("/org/open/resolve/main/model.safetensors");
    assert.equal(large.status, 302);
    assert.equal(large.headers["x-linked-size"], String(bytes.length));
    const there = await raw(large.headers.location, { headers: { range: "bytes=0-9" } });
    assert.equal(there.status, 206);
    assert.ok(there.body.equals(bytes.subarray(0, 10)));
    assert.equal(there.headers.etag, large.headers["x-linked-etag"]);
    hub.redirect = false;
    assert.equal((await raw("/org/open/resolve/main/model.safetensors", { headers: { range: "bytes=0-9" } })).status, 206);
    hub.redirect = true;
  });

  test("refuses with the words of the Hub", async () => {
    assert.deepEqual(code(await raw("/api/models/org/none/revision/main")), [401, "RepoNotFound"]);
    assert.deepEqual(code(await raw("/api/models/org/none/revision/main", as("hf_gated"))), [404, "RepoNotFound"]);
    assert.deepEqual(code(await raw("/api/models/org/private/revision/main")), [401, "RepoNotFound"]);
    assert.equal((await raw("/api/models/org/private/revision/main", as("hf_private"))).status, 200);
    assert.deepEqual(code(await raw("/api/models/org/open/revision/v9")), [404, "RevisionNotFound"]);
    assert.deepEqual(code(await raw("/org/open/resolve/main/nothing.json")), [404, "EntryNotFound"]);
    assert.equal((await raw("/api/models/org/gated/revision/main")).status, 200);
    assert.deepEqual(code(await raw("/org/gated/resolve/main/config.json")), [401, "GatedRepo"]);
    assert.deepEqual(code(await raw("/org/gated/resolve/main/config.json", as("hf_private"))), [403, "GatedRepo"]);
    assert.equal((await raw("/org/gated/resolve/main/config.json", as("hf_gated"))).status, 200);
    const wrong = await raw("/api/models/org/open/revision/main", as("hf_wrong"));
    assert.equal(wrong.status, 401);
    assert.match(wrong.headers["x-error-message"], /^Invalid credentials/);
  });
});
