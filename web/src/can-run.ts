/** Whether a model can run here, before a byte of its weights is fetched. */
import { withWorker } from "./shared-worker.js";
import {
  AbortError,
  InvalidRequestError,
  OutOfMemoryError,
  UnsupportedModelError,
  toTyped,
  type WebweftError,
} from "./errors.js";
import { toOpenOptions, type LoadOptions } from "./options.js";
import { readProfile } from "./profile.js";
import { resolveSource, type ModelSource } from "./source.js";
import { requireWebGPU } from "./webgpu.js";
import type { AdapterReport, Dtype, Format, Inspection, OnGpu } from "./wasm.js";

/** Another way to open the model, which fits. Bytes on the GPU. */
export interface Suggestion {
  dtype: Exclude<Dtype, "auto">;
  context: number;
  weights_bytes: number;
  cache_bytes: number;
}

/** What is known before a model is loaded. */
export interface CanRunReport {
  ok: boolean;
  /** Code of `error`: `"webgpu_unavailable"`, `"out_of_memory"`, `"unsupported_model"`, `"network"`, ... */
  reason?: string;
  /** Why not; its `userMessage` is for the visitor. */
  error?: WebweftError;
  adapter?: AdapterReport;
  /** How the weights would be stored: with `dtype: "auto"`, what that becomes. */
  dtype?: Exclude<Dtype, "auto">;
  /** Why `"auto"` became that. */
  why?: string;
  /** Number of weights. */
  parameters?: number;
  /** Bytes of the weights on the GPU. */
  weights_bytes?: number;
  /** Bytes of the cache at `context`. */
  cache_bytes?: number;
  /** Tokens that would fit. */
  context?: number;
  /** Bytes of the files of weights. */
  download_bytes?: number;
  /** Other ways that fit: those with the context that is wanted first, then by quality, then the smaller one. */
  suggestions: Suggestion[];
  /** Everything else that the files' headers tell. */
  inspection?: Inspection;
}

/**
 * Whether `model` can run here with `options`: config and headers are fetched, no weights. What stands in the way is told, not
 * thrown; only wrong arguments and an aborted `signal` reject.
 */
export async function canRun(model: ModelSource, options: LoadOptions = {}): Promise<CanRunReport> {
  const source = resolveSource(model, options);
  source.catch(() => {});
  const open = toOpenOptions(options);
  try {
    requireWebGPU();
    const { spec } = await source;
    if (options.profile !== undefined) open.profile = await readProfile(options.profile, options.signal);
    const inspection = await withWorker(options, (client) =>
      client.call<Inspection>("inspect", { spec, options: open }, { signal: options.signal }),
    );
    const { dtype, context } = inspection.wanted ?? options;
    return judge(inspection, { dtype: dtype ?? undefined, context: context ?? undefined });
  } catch (thrown) {
    const error = toTyped(thrown);
    if (error instanceof AbortError || error instanceof InvalidRequestError) throw error;
    return { ok: false, reason: error.code, error, suggestions: [] };
  }
}

/** What `inspection` means for `options`. */
export function judge(inspection: Inspection, options: Pick<LoadOptions, "dtype" | "context">): CanRunReport {
  const { adapter, parameters, problems, files, on_gpu } = inspection;
  const report: CanRunReport = { ok: false, adapter, parameters, suggestions: [], inspection };
  report.download_bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const refuse = (error: WebweftError): CanRunReport => ({ ...report, ok: false, reason: error.code, error });
  if (!inspection.supported) {
    return refuse(new UnsupportedModelError(problems.join("; ") || `${inspection.model_type ?? "this model"} is not supported`));
  }
  const { recommendation } = inspection;
  // what another tool quantized is not quantized again, and encoders are small
  const keeps = inspection.quantization !== null || inspection.task === "feature-extraction";
  const wanted = options.dtype ?? (keeps ? "auto" : "q4");
  const auto = recommendation?.dtype ?? smallest(recommendation?.formats) ?? inspection.auto ?? "q4";
  const names: Record<string, string> = { fp16: "f16", fp32: "f32", auto };
  const chosen = on_gpu.find(({ dtype }) => dtype === (names[wanted] ?? wanted));
  if (!chosen) return refuse(new UnsupportedModelError(`the model cannot be stored as ${wanted}`));

  const longest = (size: OnGpu) => Math.min(options.context ?? size.context, size.longest_context ?? Infinity);
  const short = ({ context }: Suggestion) => Number(context < (options.context ?? 0));
  const quality = (dtype: OnGpu["dtype"]) => recommendation?.formats.find((f) => f.dtype === dtype)?.perplexity ?? 1;
  const cacheBytes = (size: OnGpu, context: number) => Math.ceil((size.cache_per_1k * context) / 1024);
  report.suggestions = on_gpu
    .filter((size) => size.fits && size !== chosen && longest(size) > 0)
    .map((size) => ({
      dtype: size.dtype,
      context: longest(size),
      weights_bytes: size.weights,
      cache_bytes: cacheBytes(size, longest(size)),
    }))
    .sort(
      (a, b) => short(a) - short(b) || quality(a.dtype) - quality(b.dtype) || a.weights_bytes - b.weights_bytes,
    );
  if (wanted === "auto" && recommendation) report.why = recommendation.reason;
  report.dtype = chosen.dtype;
  report.weights_bytes = chosen.weights;
  report.context = longest(chosen);
  report.cache_bytes = cacheBytes(chosen, report.context);
  if (wanted === "auto" && recommendation && recommendation.dtype === null) {
    return refuse(new OutOfMemoryError(recommendation.reason));
  }
  if (!chosen.fits) return refuse(new OutOfMemoryError(chosen.note ?? `the model does not fit as ${chosen.dtype}`));
  if (options.context !== undefined && report.context < options.context) {
    const { dtype, weights_bytes, context, cache_bytes } = report as Required<CanRunReport>;
    report.suggestions.unshift({ dtype, context, weights_bytes, cache_bytes });
    return refuse(new OutOfMemoryError(`a context of ${options.context} does not fit as ${dtype}; ${context} does`));
  }
  return { ...report, ok: true };
}

/** The dtype that takes the least. */
function smallest(formats: Format[] = []): Format["dtype"] | undefined {
  return [...formats].sort((a, b) => a.total - b.total)[0]?.dtype;
}
