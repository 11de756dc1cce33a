// Files of mounted folders: finding them, their MIME types, entity tags and byte ranges.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { extname, join, normalize, sep } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".txt": "text/plain; charset=utf-8",
  ".md": "text/plain; charset=utf-8",
  ".webmanifest": "application/manifest+json",
};

/** The MIME type of a file name; bytes where it has none of the known endings. */
export function mimeType(name) {
  return TYPES[extname(name).toLowerCase()] ?? "application/octet-stream";
}

/**
 * The file that a path of a URL names below the mounted folders, or null. The longest mount wins; a folder is its index.html.
 * @param {Record<string, string>} mounts URL prefix (with both slashes) to folder
 * @returns {Promise<{ file: string, size: number, etag: string, modified: Date, type: string } | null>}
 */
export async function find(mounts, pathname) {
  const prefix = Object.keys(mounts)
    .filter((prefix) => pathname.startsWith(prefix))
    .sort((a, b) => b.length - a.length)[0];
  if (prefix === undefined) return null;
  let rest;
  try {
    rest = decodeURIComponent(pathname.slice(prefix.length));
  } catch {
    return null;
  }
  const path = normalize(rest);
  if (rest.includes("\0") || path.startsWith("..") || path.startsWith(sep)) return null;
  return about(join(mounts[prefix], path.endsWith(sep) || path === "." ? join(path, "index.html") : path));
}

/** Size, tag and type of one file, or null where there is none. */
export async function about(file) {
  const found = await stat(file).catch(() => null);
  if (!found?.isFile()) return null;
  const etag = `"${createHash("sha1").update(`${file} ${found.size} ${found.mtimeMs}`).digest("hex").slice(0, 16)}"`;
  return { file, size: found.size, etag, modified: found.mtime, type: mimeType(file) };
}

/**
 * What a Range header asks for of a file: null for all of it (no header, or one that need not be understood), "none" where no
 * byte of it exists, else first byte and the byte after the last.
 */
export function parseRange(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec((header ?? "").trim());
  if (!match || (match[1] === "" && match[2] === "")) return null;
  if (match[1] === "") {
    const last = Number(match[2]);
    return last === 0 || size === 0 ? "none" : { begin: Math.max(0, size - last), end: size };
  }
  const begin = Number(match[1]);
  if (match[2] !== "" && Number(match[2]) < begin) return null;
  if (begin >= size) return "none";
  return { begin, end: match[2] === "" ? size : Math.min(Number(match[2]) + 1, size) };
}

/** The bytes of a file from `begin` to before `end`, in pieces. */
export async function* bytesOf(file, begin, end) {
  const handle = await open(file, "r");
  try {
    let at = begin;
    while (at < end) {
      const buffer = Buffer.allocUnsafe(Math.min(1 << 20, end - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new Error(`${file} became shorter`);
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

const digests = new Map();

/** A digest of a file in hexadecimal, after an optional prefix; computed once per version of the file. */
export async function digest(algorithm, file, prefix = "") {
  const { size, mtimeMs } = await stat(file);
  const key = [algorithm, prefix, file, size, mtimeMs].join(" ");
  if (!digests.has(key)) {
    const hash = createHash(algorithm).update(prefix);
    for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(piece);
    digests.set(key, hash.digest("hex"));
  }
  return digests.get(key);
}
