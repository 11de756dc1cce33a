/** What can go wrong. Every error has a `code` to switch on and a `userMessage` that a page can show as it is. */

/** Details that some errors carry; they cross from the worker with the error. */
export interface ErrorDetails {
  code?: string | undefined;
  cause?: unknown;
  /** HTTP status of the answer. */
  status?: number | undefined;
  /** Address that was asked, without its query. */
  url?: string | undefined;
  /** Parameter that is wrong, as `"messages[0].content"`. */
  param?: string | undefined;
  /** Seconds to wait. */
  retryAfter?: number | undefined;
}

/** Base of all errors of this package. */
export class WebweftError extends Error {
  /** For programs: stable, in snake_case. */
  readonly code: string;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = details.code ?? (new.target as typeof WebweftError).defaultCode;
  }

  /** Code of errors of this class that have no finer one. */
  static get defaultCode(): string {
    return "internal";
  }

  /** For the person in front of the page: what happened and what can be done, in one or two sentences. */
  get userMessage(): string {
    return "Something went wrong inside the model runtime. Reload the page and try again.";
  }
}

/** There is no WebGPU here, or no adapter. */
export class WebGPUUnavailableError extends WebweftError {
  static override get defaultCode(): string {
    return "webgpu_unavailable";
  }
  override get userMessage(): string {
    return "This browser cannot use the graphics processor (WebGPU). Update the browser or its graphics driver, or open the page in a current Chrome, Edge, Firefox or Safari.";
  }
}

/** The GPU's memory, or the given `memoryLimit`, is used up. */
export class OutOfMemoryError extends WebweftError {
  static override get defaultCode(): string {
    return "out_of_memory";
  }
  override get userMessage(): string {
    return "This device has too little graphics memory for the model. Close other tabs and programs, or choose a smaller model.";
  }
}

/** The GPU device was lost, and could not be brought back. */
export class DeviceLostError extends WebweftError {
  static override get defaultCode(): string {
    return "device_lost";
  }
  override get userMessage(): string {
    return "The connection to the graphics processor was lost and did not come back. Reload the page.";
  }
}

/** A model, or a setting of one, that the engine does not know. */
export class UnsupportedModelError extends WebweftError {
  static override get defaultCode(): string {
    return "unsupported_model";
  }
  override get userMessage(): string {
    return "This kind of model is not supported. Choose another one.";
  }
}

/** A file of the model is wrong or damaged. */
export class CheckpointError extends WebweftError {
  static override get defaultCode(): string {
    return "checkpoint";
  }
  override get userMessage(): string {
    return "The model's files are incomplete or damaged. Fetch them again, or choose another model.";
  }
}

/** Bytes are not those that their digest announces. */
export class ChecksumError extends WebweftError {
  static override get defaultCode(): string {
    return "checksum";
  }
  override get userMessage(): string {
    return "The download arrived damaged and was not used. Try again.";
  }
}

/** The browser's storage refuses, as it does while another tab writes the same model. Loading goes on without it instead. */
export class StorageError extends WebweftError {
  static override get defaultCode(): string {
    return "storage";
  }
  override get userMessage(): string {
    return "The browser's storage for this page cannot be used. Close other tabs of this page and try again.";
  }
}

/** A saved cache that is none, is damaged, or is of another model or other settings (`code` says which); or there is nothing to save. */
export class SavedCacheError extends WebweftError {
  static override get defaultCode(): string {
    return "saved_cache";
  }
  override get userMessage(): string {
    return "What was saved of this conversation cannot be used here. It is read from its beginning instead.";
  }
}

/** A server could not be reached, or broke off again and again. */
export class NetworkError extends WebweftError {
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** Address, without its query. */
  readonly url: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.status = details.status;
    this.url = details.url;
  }
  static override get defaultCode(): string {
    return "network";
  }
  override get userMessage(): string {
    return "The model could not be downloaded. Check the connection and try again.";
  }
}

/** No model of that name or at that address. */
export class ModelNotFoundError extends NetworkError {
  static override get defaultCode(): string {
    return "model_not_found";
  }
  override get userMessage(): string {
    return "There is no such model. Check its name or address.";
  }
}

/** The server wants a token, another token, or terms to be accepted. */
export class AccessDeniedError extends NetworkError {
  static override get defaultCode(): string {
    return "access_denied";
  }
  override get userMessage(): string {
    return "This model is private, or its terms must be accepted first. Sign in with an access token that may read it.";
  }
}

/** The server wants fewer requests. */
export class RateLimitedError extends NetworkError {
  /** Seconds to wait, where the server said so. */
  readonly retryAfter: number | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.retryAfter = details.retryAfter;
  }
  static override get defaultCode(): string {
    return "rate_limited";
  }
  override get userMessage(): string {
    const wait = this.retryAfter === undefined ? "in a while" : `in ${Math.ceil(this.retryAfter)} seconds`;
    return `The server that has the model is asked too often. Try again ${wait}.`;
  }
}

/** An argument that makes no sense. */
export class InvalidRequestError extends WebweftError {
  /** Which one, as `"messages[0].content"`. */
  readonly param: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details);
    this.param = details.param;
  }
  static override get defaultCode(): string {
    return "invalid_request";
  }
  override get userMessage(): string {
    return "The page asked the model for something that it cannot do.";
  }
}

/** An argument that others understand and this package does not support (yet). */
export class UnsupportedParameterError extends InvalidRequestError {
  static override get defaultCode(): string {
    return "unsupported_parameter";
  }
}

/** The prompt is longer than the context. */
export class ContextLengthError extends InvalidRequestError {
  static override get defaultCode(): string {
    return "context_length";
  }
  override get userMessage(): string {
    return "The conversation is too long for this model. Shorten it, or start a new one.";
  }
}

/** The model has no chat template, or the template refuses the messages. */
export class ChatTemplateError extends WebweftError {
  static override get defaultCode(): string {
    return "chat_template";
  }
  override get userMessage(): string {
    return "This model cannot continue this conversation. Choose a model that is made for chats.";
  }
}

/** The caller's signal was aborted. `cause` is the signal's reason. */
export class AbortError extends WebweftError {
  static override get defaultCode(): string {
    return "aborted";
  }
  override get userMessage(): string {
    return "Stopped.";
  }
}

/** The engine was disposed of. */
export class DisposedError extends WebweftError {
  static override get defaultCode(): string {
    return "disposed";
  }
  override get userMessage(): string {
    return "The model was closed. Open it again.";
  }
}

/** The worker's script did not load or start. */
export class WorkerError extends WebweftError {
  static override get defaultCode(): string {
    return "worker";
  }
  override get userMessage(): string {
    return "A part of this page could not be loaded. Check the connection and reload the page.";
  }
}

/** Two generations at once on one model; the worker's queue prevents it. */
export class BusyError extends WebweftError {
  static override get defaultCode(): string {
    return "busy";
  }
  override get userMessage(): string {
    return "The model is still busy. Wait a moment and try again.";
  }
}

/** A mistake of this package. */
export class InternalError extends WebweftError {}

const classes = {
  WebGPUUnavailableError,
  OutOfMemoryError,
  DeviceLostError,
  UnsupportedModelError,
  CheckpointError,
  ChecksumError,
  StorageError,
  SavedCacheError,
  NetworkError,
  ModelNotFoundError,
  AccessDeniedError,
  RateLimitedError,
  InvalidRequestError,
  UnsupportedParameterError,
  ContextLengthError,
  ChatTemplateError,
  AbortError,
  DisposedError,
  WorkerError,
  BusyError,
  InternalError,
};

// Minifiers rename classes; the names are part of the API.
for (const [name, type] of Object.entries(classes)) Object.defineProperty(type, "name", { value: name });

/** An error as it crosses from the worker. */
export interface PlainError {
  name: string;
  message: string;
  code?: string | undefined;
  status?: number | undefined;
  url?: string | undefined;
  param?: string | undefined;
  retryAfter?: number | undefined;
  stack?: string | undefined;
  cause?: PlainError | undefined;
}

/** The fields of `error` that a structured clone keeps; also for errors of the wasm and of the browser. */
export function toPlain(error: unknown, depth = 0): PlainError {
  if (!(error instanceof Error)) return { name: "InternalError", message: String(error) };
  const from = error as Error & Record<string, unknown>;
  const number = (value: unknown) => (typeof value === "number" ? value : undefined);
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  return {
    name: from.name,
    message: from.message,
    // a DOMException's code is a number that says less than its name
    code: text(from["code"]),
    status: number(from["status"]),
    url: text(from["url"]),
    param: text(from["param"]),
    retryAfter: number(from["retryAfter"] ?? from["retry_after"]),
    stack: from.stack,
    cause: from.cause === undefined || depth > 3 ? undefined : toPlain(from.cause, depth + 1),
  };
}

/** The typed error that `plain` tells of; what has no class here becomes an `InternalError` with the original as `cause`. */
export function fromPlain(plain: PlainError): WebweftError {
  const type = Object.hasOwn(classes, plain.name) ? classes[plain.name as keyof typeof classes] : undefined;
  if (!type) {
    const { name, message } = plain;
    const original = new Error(message);
    original.name = name;
    if (plain.stack !== undefined) original.stack = plain.stack;
    return new InternalError(`${name}: ${message}`, { cause: original });
  }
  const cause = plain.cause && fromPlain(plain.cause);
  const error = new type(plain.message, { ...plain, cause });
  if (plain.stack !== undefined) error.stack = plain.stack;
  return error;
}

/** Any thrown value as one of this package's errors. */
export function toTyped(error: unknown): WebweftError {
  return error instanceof WebweftError ? error : fromPlain(toPlain(error));
}

/** The error of an aborted `signal`. */
export function abortError(signal: AbortSignal): AbortError {
  return new AbortError("aborted", { cause: signal.reason });
}
