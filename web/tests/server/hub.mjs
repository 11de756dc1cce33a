// A small Hugging Face Hub: the two addresses that a client needs, answered as huggingface.co answers them.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { about, digest } from "./files.mjs";

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** Files that the Hub keeps outside git, where a request is redirected to. */
const isLarge = (name) => /\.(safetensors|bin|gguf|onnx)$/.test(name);

const EXPOSED =
  "X-Repo-Commit, X-Request-Id, X-Error-Code, X-Error-Message, ETag, Link, Accept-Ranges, Content-Range, X-Linked-Size, X-Linked-ETag";

/**
 * Repositories over folders.
 * A repository: { folder, commit?, revisions?: string[], access?: "open" | "private" | "gated", token?: string }
 */
export class Hub {
  #repos = new Map();
  #blobs = new Map();

  /** @param {{ redirect?: boolean }} options redirect: large files lie at `/cdn/` (default), as the Hub's do on another host */
  constructor({ redirect = true, cdn = "" } = {}) {
    this.redirect = redirect;
    this.cdn = cdn;
  }

  add(name, repo) {
    this.#repos.set(name, { commit: COMMIT, revisions: ["main"], access: "open", ...repo });
  }

  remove(name) {
    this.#repos.delete(name);
  }

  /**
   * The answer to a request, or null where it is for no address of the Hub:
   * { status, headers, json } or { file, headers } or { status, headers } .
   */
  async answer(pathname, authorization) {
    const cdn = /^\/cdn\/([0-9a-f]{64})$/.exec(pathname);
    if (cdn) {
      const file = this.#blobs.get(cdn[1]);
      return file ? { file: await about(file), headers: { etag: `"${cdn[1]}"` } } : { status: 404, headers: {} };
    }
    const api = /^\/api\/models\/([^/]+\/[^/]+|[^/]+)(?:\/revision\/([^/]+))?$/.exec(pathname);
    if (api) return this.#listing(api[1], decodeURIComponent(api[2] ?? "main"), authorization);
    const resolve = /^\/([^/]+\/[^/]+|[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname);
    if (resolve) return this.#file(resolve[1], decodeURIComponent(resolve[2]), decodeURIComponent(resolve[3]), authorization);
    return null;
  }

  #refusal(status, code, message) {
    return {
      status,
      headers: { "x-error-code": code, "x-error-message": message, "access-control-expose-headers": EXPOSED },
      json: { error: message },
    };
  }

  /** The repository, or the refusal of a request for it. */
  #open(name, revision, authorization, forFile) {
    const token = /^Bearer (.+)$/.exec(authorization ?? "")?.[1];
    const repo = this.#repos.get(name);
    if (token !== undefined && ![...this.#repos.values()].some((repo) => repo.token === token)) {
      return [this.#refusal(401, "", "Invalid credentials in Authorization header")];
    }
    // The Hub tells whoever is not logged in no more of what it does not have than of what is private.
    if (!repo || (repo.access === "private" && token !== repo.token)) {
      return [this.#refusal(token === undefined ? 401 : 404, "RepoNotFound", "Repository not found")];
    }
    if (repo.access === "gated" && forFile && token !== repo.token) {
      const status = token === undefined ? 401 : 403;
      return [this.#refusal(status, "GatedRepo", `Access to model ${name} is restricted.`)];
    }
    if (revision !== repo.commit && !repo.revisions.includes(revision)) {
      return [this.#refusal(404, "RevisionNotFound", `Invalid rev id: ${revision}`)];
    }
    return [null, repo];
  }

  async #listing(name, revision, authorization) {
    const [refusal, repo] = this.#open(name, revision, authorization, false);
    if (refusal) return refusal;
    const siblings = [];
    for (const entry of (await readdir(repo.folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (!entry.isFile()) continue;
      const file = await about(join(repo.folder, entry.name));
      const sibling = { rfilename: entry.name, size: file.size, blobId: await digest("sha1", file.file, `blob ${file.size}\0`) };
      if (isLarge(entry.name)) sibling.lfs = { sha256: await digest("sha256", file.file), size: file.size, pointerSize: 134 };
      siblings.push(sibling);
    }
    const json = { id: name, modelId: name, sha: repo.commit, private: repo.access === "private", gated: repo.access === "gated" && "manual", siblings };
    return { status: 200, headers: { "access-control-expose-headers": EXPOSED }, json };
  }

  async #file(name, revision, path, authorization) {
    const [refusal, repo] = this.#open(name, revision, authorization, true);
    if (refusal) return refusal;
    const file = path.split("/").includes("..") ? null : await about(join(repo.folder, path));
    if (!file) return this.#refusal(404, "EntryNotFound", "Entry not found");
    const headers = { "x-repo-commit": repo.commit, "access-control-expose-headers": EXPOSED };
    if (!isLarge(path)) {
      return { file, headers: { ...headers, etag: `"${await digest("sha1", file.file, `blob ${file.size}\0`)}"` } };
    }
    const hash = await digest("sha256", file.file);
    this.#blobs.set(hash, file.file);
    Object.assign(headers, { "x-linked-size": String(file.size), "x-linked-etag": `"${hash}"` });
    if (!this.redirect) return { file, headers: { ...headers, etag: `"${hash}"` } };
    return { status: 302, headers: { ...headers, location: `${this.cdn}/cdn/${hash}` } };
  }
}
