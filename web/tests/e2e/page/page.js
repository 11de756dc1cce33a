// What the tests do on a page: calls of the package, by name, with arguments and answers that can be sent.

// Workers are counted, to see that they end. Before the package is there, so that it finds this one.
const NativeWorker = globalThis.Worker;
const workers = new Set();
globalThis.Worker = class extends NativeWorker {
  constructor(...given) {
    super(...given);
    workers.add(this);
  }
  terminate() {
    workers.delete(this);
    super.terminate();
  }
};

const webweft = await import("/pkg/index.js");
const engines = new Map();
const signals = new Map();
/** What engines told, in order. */
const events = [];
let savedBlob;

const plain = (error) => ({
  name: error?.name ?? "?",
  code: error?.code,
  message: String(error?.message ?? error),
  userMessage: error?.userMessage,
  status: error?.status,
  url: error?.url,
  param: error?.param,
  retryAfter: error?.retryAfter,
  typed: error instanceof webweft.WebweftError,
  stack: error?.stack,
});

async function fetchFiles(base, names, as) {
  const files = [];
  for (const name of names) {
    const blob = await (await fetch(base + name)).blob();
    files.push([name, as === "bytes" ? new Uint8Array(await blob.arrayBuffer()) : new File([blob], name)]);
  }
  if (as === "handle") {
    // a folder of the browser's own storage is one like those that visitors choose
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("given", { create: true });
    for (const [name, file] of files) {
      const out = await (await folder.getFileHandle(name, { create: true })).createWritable();
      await out.write(file);
      await out.close();
    }
    return folder;
  }
  return as === "list" ? files.map(([, file]) => file) : Object.fromEntries(files);
}

/** Every file of the browser's storage for this origin, with the folder that it is in. */
async function* stored(folder) {
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === "directory") yield* stored(handle);
    else yield { folder, name, handle };
  }
}

/** A signal that the test can abort by name. */
function signal(name) {
  if (name === undefined) return undefined;
  const controller = new AbortController();
  signals.set(name, controller);
  return controller.signal;
}

const listeners = (of) =>
  Object.fromEntries(
    ["progress", "stage", "file", "notice", "devicelost", "recovered", "memory", "kernels"].map((type) => [
      type,
      (event) => events.push({ of, type, at: performance.now(), ...event }),
    ]),
  );

const actions = {
  /** Opens an engine; { name, model | files: { base, names, as }, options, abort } -> info */
  async open({ name = "a", model, files, options = {}, abort }) {
    const source = files ? await fetchFiles(files.base, files.names, files.as) : model;
    const engine = await webweft.createEngine(source, { ...options, on: listeners(name), signal: signal(abort) });
    engines.set(name, engine);
    return engine.info;
  },
  /** { name, call, input, abort, abortAt, loseAt, atFirst } -> result, with the pieces as they came; abortAt: after so many of them; atFirst: calls that the first begins */
  async generate({ name = "a", call = name, input, abort, abortAt, loseAt, atFirst }) {
    const pieces = [];
    const own = signal(abort ?? (abortAt === undefined ? undefined : `own ${call}`));
    try {
      const result = await engines.get(name).generate(input, {
        signal: own,
        onPiece(piece) {
          pieces.push(piece);
          if (pieces.length === abortAt) signals.get(abort ?? `own ${call}`).abort();
          if (pieces.length === 1 && atFirst) globalThis.start(atFirst);
          if (pieces.length === loseAt) void engines.get(name).loseDevice();
          events.push({ of: name, call, type: "piece", count: pieces.length });
        },
      });
      return { ...result, pieces: pieces.map(({ id, text }) => [id, text]) };
    } catch (error) {
      error.pieces = pieces.length;
      throw error;
    }
  },
  abort: ({ name }) => signals.get(name).abort(),
  memory: ({ name = "a" } = {}) => engines.get(name).memory(),
  precision: ({ name = "a" } = {}) => engines.get(name).precision(),
  kernels: ({ name = "a" } = {}) => engines.get(name).kernels(),
  /** What is kept of kernels, as a text; with `text` that from now on. */
  async keptKernels({ text } = {}) {
    const cache = await caches.open("webweft-kernels");
    const [address = "https://webweft.invalid/kernels.json"] = await cache.keys();
    if (text !== undefined) await cache.put(address, new Response(text));
    return (await (await cache.match(address))?.text()) ?? null;
  },
  /** Two pipelines of one pool at once, and what is left when both were disposed of; { model, options, input, tokens }. */
  async sharePool({ model, options, input, tokens }) {
    const pool = new webweft.ModelPool({ idleTimeout: 0 });
    const both = await Promise.all([1, 2].map(() => pool.pipeline("text-generation", model, options)));
    const running = workers.size;
    const generated = { max_new_tokens: tokens, do_sample: false };
    const texts = await Promise.all(both.map((generator) => generator(input, generated)));
    const left = [await both[0].dispose(), await both[1].dispose()];
    return { running, texts: texts.map(([{ generated_text }]) => generated_text), left, models: pool.size };
  },
  loseDevice: ({ name = "a" } = {}) => engines.get(name).loseDevice(),
  async dispose({ name = "a" } = {}) {
    const left = await engines.get(name).dispose();
    engines.delete(name);
    return left;
  },
  /** Calls after the engine's end; the engine stays known. */
  disposeAndCall: async ({ name = "a", input }) => {
    const engine = engines.get(name);
    const pending = engine.generate(input);
    const outcome = pending.then(
      () => "resolved",
      (error) => error.name,
    );
    const left = await engine.dispose();
    const after = await engine.generate(input).then(
      () => "resolved",
      (error) => error.name,
    );
    return { left, pending: await outcome, after };
  },
  reset: ({ name = "a" } = {}) => engines.get(name).reset(),
  /** What is not given a name is kept on the page. */
  async saveCache({ name = "a", ids, file }) {
    const { blob, ...saved } = await engines.get(name).saveCache({ ids, file });
    savedBlob = blob ?? savedBlob;
    return { ...saved, size: blob?.size };
  },
  restoreCache: async ({ name = "a", from = savedBlob, cut }) => engines.get(name).restoreCache(cut ? from.slice(0, cut) : from),
  complete: ({ name = "a", request }) => engines.get(name).chat.completions.create(request),
  async completeStream({ name = "a", request }) {
    const chunks = [];
    for await (const chunk of await engines.get(name).chat.completions.create({ ...request, stream: true })) {
      chunks.push({ at: performance.now(), ...chunk });
    }
    return chunks;
  },
  /** { model, options, calls: [[input, options]] } */
  async pipeline({ model, options, calls, stream }) {
    const progress = [];
    const generator = await webweft.pipeline("text-generation", model, { ...options, progress_callback: (info) => progress.push(info) });
    const results = [];
    for (const [input, settings] of calls) {
      const printed = [];
      const callback_function = (text) => printed.push(text);
      const isOne = typeof input === "string" || input[0].role !== undefined;
      const streamer = isOne ? new webweft.TextStreamer(generator.tokenizer, { skip_prompt: true, callback_function }) : undefined;
      results.push({ output: await generator(input, { ...settings, streamer }), printed });
    }
    const streamed = [];
    if (stream) for await (const text of generator.stream(...stream)) streamed.push(text);
    const left = await generator.dispose();
    return { progress, results, streamed, left };
  },
  /** { model, options, calls: [[input, options]], lose } -> info, dims and data of each, what is left; lose: before the last call */
  async features({ model, options, calls, lose = false }) {
    const progress = [];
    const given = { ...options, progress_callback: (info) => progress.push(info), on: listeners("features") };
    const extractor = await webweft.pipeline("feature-extraction", model, given);
    const results = [];
    for (const [at, [input, settings]] of calls.entries()) {
      if (lose && at === calls.length - 1) await extractor.loseDevice();
      const { dims, data } = await extractor(input, settings);
      results.push({ dims, data: [...data] });
    }
    const { peak } = await extractor.memory();
    return { info: extractor.info, results, progress, peak, left: await extractor.dispose() };
  },
  canRun: async ({ model, options }) => {
    const { error, ...report } = await webweft.canRun(model, options);
    return { ...report, error: error && plain(error) };
  },
  cacheList: () => webweft.cache.list(),
  cacheDelete: ({ key }) => webweft.cache.delete(key),
  cacheClear: () => webweft.cache.clear(),
  encode: async ({ name = "a", text }) => [...(await engines.get(name).tokenizer.encode(text))],
  /** What the browser does to its storage: `evict` takes all of it, `truncate` half of the largest file. */
  async spoil({ how }) {
    const root = await navigator.storage.getDirectory();
    if (how === "evict") {
      const names = [];
      for await (const name of root.keys()) names.push(name);
      for (const name of names) await root.removeEntry(name, { recursive: true });
      return names.length;
    }
    let largest = null;
    for await (const { handle } of stored(root)) {
      const { size } = await handle.getFile();
      if (!largest || size > largest.size) largest = { handle, size };
    }
    const out = await largest.handle.createWritable({ keepExistingData: true });
    await out.truncate(Math.floor(largest.size / 2));
    await out.close();
    return largest.size;
  },
  workers: () => workers.size,
  /** Reads addresses to the end; milliseconds and bytes. */
  async fetchAll({ urls }) {
    const start = performance.now();
    let bytes = 0;
    for (const url of urls) {
      const reader = (await fetch(url)).body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        bytes += value.length;
      }
    }
    return { ms: performance.now() - start, bytes };
  },
  time: () => performance.now(),
};

globalThis.events = events;
globalThis.signals = signals;
/** `{ value }` or `{ error }`; what is started without waiting is asked for by `result`. */
globalThis.act = async ([action, argument]) => {
  try {
    return { value: await actions[action](argument) };
  } catch (error) {
    return { error: plain(error) };
  }
};
const started = new Map();
globalThis.start = (calls) => {
  for (const [id, action, argument] of calls) {
    const result = globalThis.act([action, argument]);
    void result.then(() => events.push({ type: "ended", id }));
    started.set(id, result);
  }
};
globalThis.result = (id) => started.get(id);
globalThis.ready = true;
