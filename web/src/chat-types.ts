/** The objects of OpenAI's chat completions, as far as they are supported. */
/** A part of a message's content; parts of other types than `text` are refused. */
export interface ChatContentPart {
  type: "text" | (string & {});
  text?: string;
}

/** A message. All its fields, also those that are not named here, reach the model's template. */
export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant" | "tool" | (string & {});
  content?: string | readonly ChatContentPart[] | null;
  name?: string;
  /** Of an earlier answer. */
  tool_calls?: readonly object[];
  tool_call_id?: string;
  reasoning_content?: string | null;
}

/** What a request may say; `null` is as good as absent. */
export interface ChatCompletionRequest {
  messages: readonly ChatMessage[];
  /** Given back in the answer; there is one model. */
  model?: string | null | undefined;
  stream?: boolean | null | undefined;
  stream_options?: { include_usage?: boolean | undefined } | null | undefined;
  /** The most tokens of the answer; without it, what the context holds. */
  max_completion_tokens?: number | null | undefined;
  /** The older name of `max_completion_tokens`. */
  max_tokens?: number | null | undefined;
  /** 0 to 2; 0 takes the most likely token. Without it and `top_p`, the model's own setting. */
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  stop?: string | readonly string[] | null | undefined;
  seed?: number | null | undefined;
  logprobs?: boolean | null | undefined;
  /** 0 to 20; with `logprobs`. */
  top_logprobs?: number | null | undefined;
  /** -2 to 2. */
  presence_penalty?: number | null | undefined;
  /** -2 to 2. */
  frequency_penalty?: number | null | undefined;
  /** Token id to -100 ... 100. */
  logit_bias?: Record<string, number> | null | undefined;
  /** Taken and not used: nobody else sees it. */
  user?: string | null | undefined;
  /** How many answers, 1 to 128. They are generated side by side; a `seed` is that of the first, and counts up. */
  n?: number | null | undefined;
  /** Only `{type: "text"}`. */
  response_format?: { type: "text" } | null | undefined;
  /** Not OpenAI's: only the so many most likely tokens. */
  top_k?: number | null | undefined;
  /** Not OpenAI's: only tokens at least this times as likely as the most likely one. */
  min_p?: number | null | undefined;
  /** Not OpenAI's: as in Hugging Face's settings; 1 is off. */
  repetition_penalty?: number | null | undefined;
  /** Not OpenAI's: up to so many tokens are guessed from the text so far at each step; the answer is the same. 0 is off; not with `logprobs`. */
  prompt_lookup_num_tokens?: number | null | undefined;
  /** Not OpenAI's: variables for the model's template, such as `{enable_thinking: false}`. */
  chat_template_kwargs?: Record<string, unknown> | null | undefined;
}

/** A request whose answer comes as a stream. */
export interface StreamingChatCompletionRequest extends ChatCompletionRequest {
  stream: true;
}

/** A request whose answer comes at once. */
export interface PlainChatCompletionRequest extends ChatCompletionRequest {
  stream?: false | null | undefined;
}

/** How likely a token was, and what else was. */
export interface TokenLogprob {
  token: string;
  bytes: number[] | null;
  logprob: number;
  top_logprobs: { token: string; bytes: number[] | null; logprob: number }[];
}

/** Log-probabilities of an answer, the token that ended it included. */
export interface ChoiceLogprobs {
  content: TokenLogprob[] | null;
  refusal: null;
}

/** Counts of tokens: of the prompt once, of all answers together. */
export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Not OpenAI's: speed, as in WebLLM. */
  extra: { prefill_tokens_per_s: number; decode_tokens_per_s: number; prefill_ms: number; decode_ms: number };
}

/** Why an answer ended. */
export type ChatFinishReason = "stop" | "length";

/** An answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  system_fingerprint: string;
  choices: {
    index: number;
    message: { role: "assistant"; content: string; refusal: null };
    logprobs: ChoiceLogprobs | null;
    finish_reason: ChatFinishReason;
  }[];
  usage: CompletionUsage;
}

/** A part of an answer. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since 1970; the same in all chunks of an answer. */
  created: number;
  model: string;
  system_fingerprint: string;
  /** A part of one answer, which `index` tells; empty in the chunk with the usage. */
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string };
    logprobs: ChoiceLogprobs | null;
    finish_reason: ChatFinishReason | null;
  }[];
  /** With `stream_options.include_usage`: `null`, and the counts in the last chunk. */
  usage?: CompletionUsage | null;
}
