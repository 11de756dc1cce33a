// Measures one cell after another, as docs/benchmarks.md defines speeds, and gives the lines that `native-runner bench compare` reads.

import { createEngine, pipeline, version, type Engine, type GenerateResult, type ModelInfo, type ModelSource } from "webweft";
import { builtInUrl } from "../models.ts";
import { BUILT_IN, contextOf, isEncoder, nameOf, shapeOf, tasks, type Matrix, type Task } from "./matrix.ts";
import { checkpoint, operations } from "./shapes.ts";

declare const __COMMIT__: string | null;

/** What the adapter can do, in units that people read. */
export interface Rates {
  copy_gb_per_s: number;
  fma_gflops: number;
  f16_gflops: number | null;
  int8_gops: number | null;
  dispatch_us: number;
  submit_us: number;
  readback_us: number;
}

/** Milliseconds from the beginning of the page's load to the first token of the built-in model: at a first visit, and at the next one. */
export interface FirstToken {
  cold_ms: number[];
  warm_ms: number[];
}

/** A line: the fields of `native-runner`, and in which browser. */
export interface Cell {
  schema: 1;
  date: string;
  commit: string | null;
  version: string;
  browser: { name: string; version: string };
  adapter: string;
  driver: string;
  kind: string;
  shape: string;
  parameters: number;
  dtype: string;
  cache_dtype: string;
  prompt_tokens: number;
  cache_tokens: number;
  batch: number;
  new_tokens: number;
  prefill_tps: number[];
  /** An encoder has none. */
  decode_tps: number[] | null;
  memory: { weights: number; cache: number; activations: number; staging: number; peak: number };
  bytes_per_step: number | null;
  operations_per_token: number;
  prefill_share: number | null;
  decode_share: number | null;
  roofline: Rates | null;
  first_token: FirstToken | null;
}

export interface Adapter {
  name: string;
  kind: string;
  backend: string;
  driver?: string;
}

export interface Listener {
  /** What is done now, in words, and which share of everything is done. */
  at(words: string, share: number): void;
  roofline(rates: Rates | null): void;
  cell(cell: Cell): void;
  /** A cell for which there is no room. */
  leftOut(task: string, why: string): void;
}

/** As `native-runner devices` names it. */
export const adapterName = ({ name, backend, kind }: Adapter) => `${name} (${backend}, ${kind})`;

/** What the adapter can do; null where there was no memory to measure it. */
export async function rates(signal: AbortSignal): Promise<Rates | null> {
  try {
    // on a device where hardly anything else is
    const engine = await createEngine(await checkpoint(shapeOf("tiny"), signal), { cache: false, context: 64, signal });
    const measured = await engine.roofline({ signal }).finally(() => engine.dispose());
    const giga = (rate: number | null) => (rate === null ? null : rate / 1e9);
    return {
      copy_gb_per_s: measured.bytes_per_second / 1e9,
      fma_gflops: measured.operations_per_second / 1e9,
      f16_gflops: giga(measured.f16_operations_per_second),
      int8_gops: giga(measured.int8_operations_per_second),
      ...measured.costs,
    };
  } catch (error) {
    if ((error as Error).name === "OutOfMemoryError") return null;
    throw error;
  }
}

/** Measures every cell of `matrix`; what cannot be held is left out. `firstToken` belongs to the built-in model's first cell. */
export async function measure(matrix: Matrix, firstToken: FirstToken | null, listener: Listener, signal: AbortSignal): Promise<void> {
  const all = tasks(matrix);
  listener.at("Measuring the adapter", 0);
  const roofline = await rates(signal);
  listener.roofline(roofline);
  let made: { shape: string; files: ModelSource } | undefined;
  for (const [number, task] of all.entries()) {
    const name = nameOf(task);
    const tell = (words: string, share: number) => listener.at(`Cell ${number + 1} of ${all.length}, ${name}: ${words}`, (number + share) / all.length);
    const needed = task.prompt + task.cache + (isEncoder(task.shape) ? 0 : matrix.newTokens);
    if (needed > contextOf(task.shape)) {
      listener.leftOut(name, `it holds ${contextOf(task.shape)} tokens`);
      continue;
    }
    if (made?.shape !== task.shape) {
      made = undefined; // before the next one is made
      const files = task.shape === BUILT_IN ? builtInUrl() : await checkpoint(shapeOf(task.shape), signal, (share) => tell(`making weights, ${Math.round(share * 100)} %`, 0));
      made = { shape: task.shape, files };
    }
    try {
      const cell = await (isEncoder(task.shape) ? encoder : decoder)(task, made.files, matrix, roofline, tell, signal);
      if (task.shape === BUILT_IN) [cell.first_token, firstToken] = [firstToken, null];
      listener.cell(cell);
    } catch (error) {
      if (signal.aborted || !["OutOfMemoryError", "NothingFits", "ContextLengthError"].includes((error as Error).name)) throw error;
      listener.leftOut(name, (error as Error).message);
    }
  }
}

/** A prompt whose beginning no other number's has. */
export const prompt = (tokens: number, number: number, vocab: number) => Array.from({ length: tokens }, (_, i) => (i * 37 + 11 + number * 101) % vocab);

type Measure = (task: Task, files: ModelSource, matrix: Matrix, roofline: Rates | null, tell: (words: string, share: number) => void, signal: AbortSignal) => Promise<Cell>;

/** What is the same in all cells. */
const common = (task: Task, { adapter, parameters, dtype, cache_dtype }: ModelInfo) => ({
  schema: 1 as const,
  date: `${new Date().toISOString().slice(0, 19)}Z`,
  commit: __COMMIT__,
  version,
  browser: browser(),
  adapter: adapterName(adapter),
  driver: adapter.driver ?? "",
  kind: adapter.kind,
  shape: task.shape,
  parameters,
  dtype,
  cache_dtype,
  prompt_tokens: task.prompt,
  cache_tokens: task.cache,
  batch: task.batch,
});

/** How often a run was repeated, in words. */
const ofRun = (run: number, runs: number): [string, number] => [run === 0 ? "warming up" : `run ${run} of ${runs}`, 0.2 + (0.8 * run) / (runs + 1)];

const decoder: Measure = async (task, files, matrix, roofline, tell, signal) => {
  const { newTokens, runs } = matrix;
  const { batch, dtype } = task;
  tell("loading", 0);
  const engine = await createEngine(files, {
    dtype,
    cache: false,
    context: task.cache + task.prompt + newTokens,
    // so many calls wait for one another, and run in the same steps
    batch_strategy: `timeout:${batch}:1000ms`,
    signal,
  });
  try {
    const { info } = engine;
    const vocab = info.architecture.vocab_size;
    const numbers = Array.from({ length: batch }, (_, number) => number);
    const caches = numbers.map((number) => prompt(task.cache, number, vocab));
    const [prefill, decode]: [number[], number[]] = [[], []];
    const results: GenerateResult[] = [];
    const together = async (prompts: number[][], count: number) => {
      const made = await Promise.all(prompts.map((ids) => generate(engine, ids, count, signal)));
      results.push(...made);
      return made.map(({ timing }) => timing);
    };
    if (task.cache > 0) {
      tell("filling the cache", 0.1);
      await together(caches, 1);
    }
    // the first run records programs and compiles kernels
    for (let run = 0; run <= runs; run++) {
      tell(...ofRun(run, runs));
      // no run's prompts have the beginning of another's: they would be in the cache
      const prompts = numbers.map((number) => [...caches[number]!, ...prompt(task.prompt, (run + 1) * batch + number, vocab)]);
      const first = await together(prompts, 1);
      // what prompts there are is in the cache by now
      const next = await together(prompts, newTokens);
      if (run === 0) continue;
      // all of them, over the time until the last one has its first token
      prefill.push((sum(first.map((timing) => timing.prefill_tokens)) * 1000) / Math.max(...first.map((timing) => timing.prefill_ms), 1e-3));
      // they begin together, with a token each
      decode.push(sum(next.map((timing) => (timing.decode_tokens * 1000) / Math.max(timing.decode_ms, 1e-3))));
    }
    // figures of what runs otherwise than was asked are another cell's
    const given = results.flatMap(({ concessions }) => concessions);
    if (info.offload || given.length > 0) throw Object.assign(new Error(given[0] ?? "not all layers stay on the GPU"), { name: "NothingFits" });
    const memory = await engine.memory({ signal });
    const traffic = info.traffic!;
    const bytes_per_step = traffic.weights + batch * (task.cache + task.prompt + Math.floor(newTokens / 2)) * traffic.cache_per_token;
    return {
      ...common(task, info),
      new_tokens: newTokens,
      prefill_tps: prefill,
      decode_tps: decode,
      memory: { ...memory.peak_categories, peak: memory.peak },
      bytes_per_step,
      operations_per_token: traffic.operations_per_token,
      prefill_share: roofline && (traffic.operations_per_token * median(prefill)) / (roofline.fma_gflops * 1e9),
      decode_share: roofline && (bytes_per_step * median(decode)) / batch / (roofline.copy_gb_per_s * 1e9),
      roofline,
      first_token: null,
    };
  } finally {
    await engine.dispose();
  }
};

const encoder: Measure = async (task, files, { runs }, roofline, tell, signal) => {
  tell("loading", 0);
  const extractor = await pipeline("feature-extraction", files, { dtype: task.dtype, cache: false, signal });
  try {
    const shape = shapeOf(task.shape);
    const prefill: number[] = [];
    for (let run = 0; run <= runs; run++) {
      tell(...ofRun(run, runs));
      // words of the tokenizer that comes with the shape are ids
      const texts = Array.from({ length: task.batch }, (_, text) => prompt(task.prompt, run * task.batch + text, shape.vocab).join(" "));
      const start = performance.now();
      await extractor(texts, { pooling: "mean", normalize: true, signal });
      if (run > 0) prefill.push((task.batch * task.prompt * 1000) / Math.max(performance.now() - start, 1e-3));
    }
    const memory = await extractor.memory({ signal });
    const operations_per_token = operations(shape);
    return {
      ...common(task, extractor.info),
      new_tokens: 0,
      prefill_tps: prefill,
      decode_tps: null,
      memory: { ...memory.peak_categories, peak: memory.peak },
      bytes_per_step: null,
      operations_per_token,
      prefill_share: roofline && (operations_per_token * median(prefill)) / (roofline.fma_gflops * 1e9),
      decode_share: null,
      roofline,
      first_token: null,
    };
  } finally {
    await extractor.dispose();
  }
};

/** So many tokens, greedily, past every end token. */
const generate = (engine: Engine, ids: number[], count: number, signal: AbortSignal) =>
  engine.generate({ ids, options: { max_new_tokens: count, do_sample: false, eos_token_id: [] } }, { signal });

const sum = (values: number[]) => values.reduce((all, value) => all + value, 0);

/** The value in the middle; 0 of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Which browser this is. */
export function browser(): { name: string; version: string } {
  const agent = navigator.userAgent;
  const names: [RegExp, string][] = [
    [/Edg\/([\d.]+)/, "Edge"],
    [/Firefox\/([\d.]+)/, "Firefox"],
    [/(?:Headless)?Chrome\/([\d.]+)/, "Chromium"],
    [/Version\/([\d.]+).*Safari/, "Safari"],
  ];
  for (const [pattern, name] of names) {
    const found = pattern.exec(agent);
    if (found) return { name, version: found[1]! };
  }
  return { name: "another browser", version: "" };
}
