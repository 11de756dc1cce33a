// Which cells there are: the same ones, unasked, as `native-runner bench matrix` has on an adapter of this kind.

import { CONTEXT, SHAPES, SHORT_CONTEXT, parameters, type Shape } from "./shapes.ts";

export type Dtype = "q4" | "q4a" | "nf4" | "q8" | "f16" | "f32";
export const DTYPES: readonly Dtype[] = ["q4", "q4a", "nf4", "q8", "f16", "f32"];

/** The model that comes with the page, beside the random ones. */
export const BUILT_IN = "Stories";
export const NAMES: readonly string[] = [BUILT_IN, ...SHAPES.map(({ name }) => name).filter((name) => name !== "tiny")];

/** Weights of the largest shape that is measured unasked where a CPU acts as a GPU. */
const MOST_ON_CPU = 200_000_000;
/** As the engine has them. */
const MAX_SLOTS = 32;

/** What is to be measured. */
export interface Matrix {
  shapes: string[];
  dtypes: Dtype[];
  /** Tokens of prompts. */
  prompts: number[];
  /** Tokens that are in each sequence's cache before. */
  cache: number[];
  /** Sequences at once. */
  batch: number[];
  /** Tokens that each sequence generates. */
  newTokens: number;
  /** How often each cell is measured. */
  runs: number;
}

export interface Task {
  shape: string;
  dtype: Dtype;
  prompt: number;
  cache: number;
  batch: number;
}

/** What is measured where nobody says: on a GPU, or where a CPU acts as one. `quick`: the first of each. */
export function usual(isCpu: boolean, quick: boolean): Matrix {
  const some = <T>(of: T[]) => (quick ? of.slice(0, 1) : of);
  const names = ["26M", "110M", "MiniLM", "0.5B", "1B"].slice(0, quick ? 2 : 5);
  return {
    shapes: names.filter((name) => !isCpu || parameters(shapeOf(name)) < MOST_ON_CPU),
    dtypes: some(["q4", "f16"]),
    prompts: some(isCpu ? [32, 128] : [32, 512]),
    cache: some(isCpu ? [0, 128] : [0, 2048]),
    batch: some(isCpu ? [1, 2] : [1, 8]),
    newTokens: isCpu ? 16 : 64,
    runs: 3,
  };
}

export function shapeOf(name: string): Shape {
  const found = SHAPES.find((shape) => shape.name.toLowerCase() === name.toLowerCase());
  if (!found) throw new RangeError(`${name} is none of ${NAMES.join(", ")}`);
  return found;
}

/** Every cell, the quick ones of a shape first. */
export function tasks({ shapes, dtypes, prompts, cache, batch, newTokens, runs }: Matrix): Task[] {
  const whole = (what: string, least: number, most: number) => (value: number) => {
    if (!Number.isInteger(value) || value < least || value > most) throw new RangeError(`${what}: ${value} is no whole number from ${least} to ${most}`);
  };
  prompts.forEach(whole("prompt tokens", 1, CONTEXT));
  cache.forEach(whole("cached tokens", 0, CONTEXT));
  batch.forEach(whole("sequences", 1, MAX_SLOTS));
  whole("new tokens", 8, CONTEXT)(newTokens);
  whole("runs", 1, 100)(runs);
  const most = Math.max(...prompts) + Math.max(...cache) + newTokens;
  if (most > CONTEXT) throw new RangeError(`${most} tokens of cache, prompt and answer are more than ${CONTEXT}`);
  const all: Task[] = [];
  for (const shape of shapes) {
    // an encoder has no cache
    const caches = isEncoder(shape) ? [0] : cache;
    for (const dtype of dtypes)
      for (const sequences of batch)
        for (const cached of caches)
          for (const prompt of prompts) all.push({ shape, dtype, prompt, cache: cached, batch: sequences });
  }
  return all;
}

export const isEncoder = (name: string) => name !== BUILT_IN && shapeOf(name).isEncoder;

/** The most tokens of a sequence. */
export const contextOf = (name: string) => (name === BUILT_IN || isEncoder(name) ? SHORT_CONTEXT : CONTEXT);

/** `26M q4, prompt 32, cache 0, batch 1` */
export const nameOf = ({ shape, dtype, prompt, cache, batch }: Task) => `${shape} ${dtype}, prompt ${prompt}, cache ${cache}, batch ${batch}`;
