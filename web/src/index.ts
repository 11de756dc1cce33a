/**
 * webweft: unmodified Hugging Face checkpoints on the visitor's GPU. Two doors: {@link pipeline}, shaped as in Transformers.js, and
 * {@link createEngine}, with OpenAI's chat completions.
 */
export { pipeline, supportedTasks } from "./pipeline.js";
export type {
  Chat,
  Message,
  TextGenerationOptions,
  TextGenerationPipeline,
  TextGenerationSingle,
  TextGenerationSingleChat,
} from "./pipeline.js";
export { Tensor } from "./features.js";
export type { FeatureExtractionOptions, FeatureExtractionPipeline, TextPair } from "./features.js";
export { ModelPool } from "./pool.js";
export type { PoolOptions } from "./pool.js";
export { createEngine } from "./engine.js";
export type { CallOptions, Engine, EngineEvents, GenerateInput } from "./engine.js";
export { supportedFields } from "./chat-request.js";
export type { ChatCompletions } from "./chat.js";
export type * from "./chat-types.js";
export { canRun } from "./can-run.js";
export type { CanRunReport, Suggestion } from "./can-run.js";
export { cache } from "./cache.js";
export { BaseStreamer, TextStreamer } from "./streamer.js";
export type { TextStreamerOptions } from "./streamer.js";
export {
  AbortError,
  AccessDeniedError,
  BusyError,
  ChatTemplateError,
  CheckpointError,
  ChecksumError,
  ContextLengthError,
  DeviceLostError,
  DisposedError,
  InternalError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  OutOfMemoryError,
  RateLimitedError,
  SavedCacheError,
  StorageError,
  UnsupportedModelError,
  UnsupportedParameterError,
  WebGPUUnavailableError,
  WebweftError,
  WorkerError,
} from "./errors.js";
export type { ErrorDetails } from "./errors.js";
export type { GenerationOptions } from "./generation.js";
export type { AssetOptions, LoadOptions } from "./options.js";
export type { BitsAndBytesConfig, Profile, ProfileDtype } from "./profile.js";
export type * from "./progress.js";
export type { SavedCache } from "./saved.js";
export type { FileBytes, ModelSource, SourceOptions } from "./source.js";
export type { Tokenizer } from "./tokenizer.js";
export { version } from "./version.js";
export type {
  AdapterReport,
  CacheDtype,
  CacheEntry,
  Dtype,
  Format,
  GenerateResult,
  Inspection,
  KernelReport,
  LoadStage,
  MemoryBuffer,
  MemoryCategories,
  MemoryReport,
  MemorySample,
  MemoryUse,
  ModelInfo,
  NoticeCode,
  OnGpu,
  Piece,
  PrecisionReport,
  Recommendation,
  Roofline,
  Timing,
  TopToken,
  Traffic,
} from "./wasm.js";
