// A static server for tests and for the demo: ranges, CORS, entity tags, a strict CSP, faults on demand, a log of requests.
// Nothing but node. On the command line: see main.mjs.

import { createServer } from "node:http";
import { bytesOf, find, parseRange } from "./files.mjs";
import { Faults, parseFault } from "./faults.mjs";

/** Policies for pages and workers. What the package promises is the first one. */
export const POLICIES = {
  strict:
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; " +
    "connect-src 'self' http://127.0.0.1:*; style-src 'self'; img-src 'self' data:",
  // of a page that takes its worker from another origin: browsers start such a worker only through a blob, and what that imports
  // counts as a worker's script, too
  cdn:
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' http://127.0.0.1:*; worker-src 'self' blob: http://127.0.0.1:*; " +
    "connect-src 'self' http://127.0.0.1:*; style-src 'self'; img-src 'self' data:",
};

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-methods": "GET, HEAD, OPTIONS",
  "access-control-allow-headers": "authorization, range, if-range, if-none-match, content-type, x-requested-with",
  "access-control-expose-headers": "accept-ranges, content-length, content-range, etag, last-modified, retry-after",
  "access-control-max-age": "600",
};

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Starts a server on 127.0.0.1.
 * @param {{ mounts?: Record<string, string>, hub?: import("./hub.mjs").Hub, port?: number, seed?: number, cors?: boolean,
 *           policy?: keyof POLICIES | null, control?: boolean }} options
 *   mounts: URL prefix to folder; policy: which CSP pages get (null: none); control: answers `/__control`
 */
export async function startServer(options = {}) {
  const server = new TestServer(options);
  await server.up(options.port ?? 0);
  return server;
}

class TestServer {
  /** One entry per request, in the order of arrival: { method, path, range, authorization, origin, status, sent, fault } */
  log = [];
  #http = null;
  #sockets = new Set();
  #port = 0;

  constructor({ mounts = {}, hub = null, seed = 1, cors = true, policy = "strict", control = false }) {
    Object.assign(this, { mounts, hub, cors, policy, control });
    this.faults = new Faults(seed);
  }

  get port() {
    return this.#port;
  }

  get origin() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens again, on the port that it had. */
  async up(port = this.#port) {
    if (this.#http) return;
    const http = createServer((request, response) => {
      this.#handle(request, response).catch((error) => {
        if (!response.headersSent) response.writeHead(500, CORS).end(String(error));
        else response.destroy();
      });
    });
    http.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await new Promise((done, failed) => http.once("error", failed).listen(port, "127.0.0.1", done));
    this.#port = http.address().port;
    this.#http = http;
  }

  /** Breaks all connections and refuses new ones until `up`. */
  async down() {
    const http = this.#http;
    if (!http) return;
    this.#http = null;
    const closed = new Promise((done) => http.close(done));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  close() {
    return this.down();
  }

  /** Requests whose path matches, with their methods where these are not GET. */
  requests(pattern = /./) {
    return this.log.filter((entry) => pattern.test(entry.path));
  }

  async #handle(request, response) {
    const url = new URL(request.url, this.origin);
    let pathname = url.pathname;
    const entry = {
      method: request.method,
      path: pathname,
      query: url.search,
      range: request.headers.range ?? null,
      authorization: request.headers.authorization ?? null,
      origin: request.headers.origin ?? null,
      status: 0,
      sent: 0,
      fault: null,
    };
    const cors = this.cors ? CORS : {};
    if (this.control && pathname === "/__control") return this.#control(request, response);
    if (request.method === "OPTIONS") {
      response.writeHead(204, cors).end();
      return;
    }
    this.log.push(entry);

    // Faults come by a rule, by `?fault=cut:at=9`, or, for folders, by a path that begins with `/~cut:at=9/`.
    let rule = null;
    const inPath = /^\/~([^/]+)(\/.*)$/.exec(pathname);
    if (inPath) pathname = inPath[2];
    const asked = inPath ? decodeURIComponent(inPath[1]) : url.searchParams.get("fault");
    if (asked) rule = parseFault(asked);
    rule ??= this.faults.match(pathname, entry.range !== null);
    entry.fault = rule?.kind ?? null;

    if (rule?.kind === "delay") await sleep(rule.ms ?? 100);
    if (rule?.kind === "reset") {
      request.socket.destroy();
      return;
    }
    const head = (status, headers) => {
      entry.status = status;
      response.writeHead(status, { ...cors, "cache-control": "no-store", ...headers });
    };
    if (rule?.kind === "status") {
      const after = rule.retryAfter === undefined ? {} : { "retry-after": String(rule.retryAfter) };
      head(rule.status, { ...after, "content-type": "text/plain" });
      response.end(`${rule.status}, as asked for\n`);
      return;
    }
    if (rule?.kind === "html") {
      head(200, { "content-type": "text/html; charset=utf-8" });
      response.end("<!doctype html><title>Log in</title><p>Log in to this network first.");
      return;
    }

    const answer = (await this.hub?.answer(pathname, entry.authorization)) ?? null;
    if (answer && !answer.file) {
      const body = answer.json === undefined ? "" : JSON.stringify(answer.json);
      head(answer.status, { "content-type": "application/json; charset=utf-8", ...answer.headers, "content-length": Buffer.byteLength(body) });
      response.end(request.method === "HEAD" ? "" : body);
      return;
    }
    const found = answer?.file ?? (request.method === "GET" || request.method === "HEAD" ? await find(this.mounts, pathname) : null);
    if (!found) {
      head(404, { "content-type": "text/plain" });
      response.end("no such file\n");
      return;
    }
    await this.#send(request, response, { found, extra: answer?.headers ?? {}, rule, entry, head, url });
  }

  async #send(request, response, { found, extra, rule, entry, head, url }) {
    const size = rule?.kind === "truncate" ? this.faults.at(rule, found.size) : found.size;
    const headers = { "content-type": found.type, etag: found.etag, "last-modified": found.modified.toUTCString(), ...extra };
    headers["accept-ranges"] = "bytes";
    if (rule?.kind === "etag") headers.etag = `"changed-${this.log.length}"`;
    if (rule?.kind === "noetag") delete headers.etag, delete headers["last-modified"];
    if (/html|javascript/.test(found.type)) {
      const policy = url.searchParams.get("csp") ?? this.policy;
      if (policy !== null && policy !== "none") headers["content-security-policy"] = POLICIES[policy];
    }
    if (request.headers["if-none-match"] === headers.etag && headers.etag) {
      head(304, headers);
      response.end();
      return;
    }
    let range = parseRange(entry.range, size);
    const condition = request.headers["if-range"];
    if (condition !== undefined && condition !== headers.etag && condition !== headers["last-modified"]) range = null;
    if (rule?.kind === "norange") {
      range = null;
      delete headers["accept-ranges"];
    }
    if (range === "none") {
      head(416, { ...headers, "content-range": `bytes */${size}`, "content-length": 0 });
      response.end();
      return;
    }
    const { begin, end } = range ?? { begin: 0, end: size };
    const by = rule?.by ?? 7;
    if (range) {
      const lie = rule?.kind === "range" ? by : 0;
      headers["content-range"] = `bytes ${begin + lie}-${end + lie - 1}/${size}`;
    }
    headers["content-length"] = Math.max(0, end - begin + (rule?.kind === "length" ? by : 0));
    if (rule?.kind === "length") headers.connection = "close";
    head(range ? 206 : 200, headers);
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    await this.#body(response, { file: found.file, begin, end, fileSize: found.size, rule, entry });
  }

  async #body(response, { file, begin, end, fileSize, rule, entry }) {
    const kind = rule?.kind;
    const stop = kind === "cut" || kind === "stall" ? this.faults.at(rule, end - begin) : Infinity;
    const altered = kind === "alter" ? this.faults.at(rule, fileSize) : -1;
    if (rule && (kind === "cut" || kind === "stall" || kind === "alter")) entry.at = kind === "alter" ? altered : stop;
    let at = begin;
    for await (let piece of bytesOf(file, begin, end)) {
      if (altered >= at && altered < at + piece.length) piece[altered - at] ^= 0x10;
      at += piece.length;
      if (entry.sent + piece.length >= stop) piece = piece.subarray(0, stop - entry.sent);
      const step = kind === "drip" ? (rule.bytes ?? 1024) : piece.length || 1;
      for (let from = 0; from < piece.length; from += step) {
        const part = piece.subarray(from, from + step);
        if (response.destroyed) return;
        if (!response.write(part)) await writable(response);
        entry.sent += part.length;
        if (kind === "drip") await sleep(rule.ms ?? 10);
      }
      if (entry.sent >= stop) {
        if (kind === "stall") return; // until somebody hangs up
        await sleep(20); // lets what was written leave first
        response.destroy();
        return;
      }
      if (response.destroyed) return;
    }
    // Of a length that lies, what is missing never comes: the connection ends instead.
    if (kind === "length" && (rule.by ?? 7) > 0) {
      await sleep(20);
      response.destroy();
      return;
    }
    response.end();
  }

  /** GET: the log. POST: `{ add: rule | text, path? }`, `{ clear: true }`, `{ forget: true }` (the log), `{ down: ms }`. */
  async #control(request, response) {
    const json = (value) =>
      response.writeHead(200, { ...CORS, "access-control-allow-methods": "GET, POST", "content-type": "application/json" }).end(JSON.stringify(value));
    if (request.method !== "POST") return json({ log: this.log });
    const parts = [];
    for await (const part of request) parts.push(part);
    const order = JSON.parse(Buffer.concat(parts).toString() || "{}");
    if (order.add) this.faults.add(order.add, order.path);
    if (order.clear) this.faults.clear();
    if (order.forget) this.log.length = 0;
    json({ ok: true });
    if (order.down) {
      response.once("close", async () => {
        await this.down();
        await sleep(order.down);
        await this.up();
      });
    }
  }
}

/** Until more can be written, or nobody wants it any more. */
function writable(response) {
  return new Promise((done) => {
    const end = () => {
      response.off("drain", end);
      response.off("close", end);
      done();
    };
    response.once("drain", end);
    response.once("close", end);
  });
}
