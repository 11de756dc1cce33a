// The page's side of the package: one model at a time, loaded, asked, and let go.

import { cache, canRun, createEngine, type Engine, type LoadOptions, type ModelSource } from "webweft";
import type { Message } from "./chat.ts";
import { builtInUrl } from "./models.ts";
import type { Kept } from "./panel.ts";
import { shortName, type Choice, type Verdict } from "./picker.ts";
import type { Settings } from "./store.ts";

export interface LoadListener {
  stage(stage: string): void;
  progress(loaded: number, total: number): void;
  notice(message: string): void;
  lost(message: string): void;
  recovered(ms: number): void;
}

/** How an answer ended. */
export interface Outcome {
  tokens: number;
  /** Tokens per second of the decoding, as the engine measured it. */
  speed: number;
  finish: string;
}

function options(choice: Choice, settings: Settings): LoadOptions {
  const given: LoadOptions = { dtype: settings.dtype, cache: settings.keep };
  if (settings.cacheDtype !== "") given.cache_dtype = settings.cacheDtype;
  if (settings.context > 0) given.context = settings.context;
  if (choice.revision) given.revision = choice.revision;
  if (choice.token) given.token = choice.token;
  if (choice.host) given.remoteHost = choice.host;
  return given;
}

export async function load(choice: Choice, settings: Settings, listener: LoadListener, signal: AbortSignal): Promise<Engine> {
  return createEngine(choice.model as ModelSource, {
    ...options(choice, settings),
    signal,
    on: {
      stage: ({ stage }) => listener.stage(stage),
      notice: ({ message }) => listener.notice(message),
      progress: (info) => info.status === "progress_total" && listener.progress(info.loaded, info.total),
      devicelost: ({ message }) => listener.lost(message),
      recovered: ({ ms }) => listener.recovered(ms),
    },
  });
}

/** Whether a model runs here, before a byte of its weights is fetched. */
export async function check(choice: Choice, settings: Settings, signal: AbortSignal): Promise<Verdict> {
  const report = await canRun(choice.model as ModelSource, { ...options(choice, settings), signal });
  // why the network or the server refuses belongs with their own errors, which the page tells with ways on
  if (report.error && report.adapter === undefined && report.inspection === undefined) throw report.error;
  return { ...report, reason: report.error?.userMessage };
}

/** Says what comes next, in a chat or in a text. */
export async function answer(
  engine: Engine,
  input: { messages: Message[] } | { prompt: string },
  settings: Settings,
  onPiece: (text: string) => void,
  signal: AbortSignal,
): Promise<Outcome> {
  let tokens = 0;
  const result = await engine.generate(
    {
      ...input,
      options: {
        max_new_tokens: settings.maxTokens,
        do_sample: settings.temperature > 0,
        ...(settings.temperature > 0 ? { temperature: settings.temperature, top_p: settings.topP } : {}),
        ...(settings.seed === "" ? {} : { seed: Number(settings.seed) }),
      },
    },
    {
      signal,
      onPiece(piece) {
        tokens += 1;
        onPiece(piece.text);
      },
    },
  );
  const { decode_tokens, decode_ms } = result.timing;
  return { tokens: result.ids.length || tokens, speed: decode_ms > 0 ? (decode_tokens * 1000) / decode_ms : 0, finish: result.finish_reason };
}

export async function kept(): Promise<Kept[]> {
  const entries = await cache.list();
  const own = builtInUrl().replace(/\/$/, "");
  return entries.map(({ key, bytes, name }) => ({ key, bytes, name: name.replace(/\/$/, "") === own ? "Stories" : shortName(name) }));
}

export const forget = (key: string) => cache.delete(key);
export const forgetAll = () => cache.clear();
