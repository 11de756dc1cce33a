/** Settings of a generation, by their names in Hugging Face's `GenerationConfig`. What is absent, the model decides. */
import { InvalidRequestError, UnsupportedParameterError } from "./errors.js";

/** Settings of a generation. */
export interface GenerationOptions {
  /** The most tokens to generate. */
  max_new_tokens?: number | undefined;
  /** The most tokens, prompt included. */
  max_length?: number | undefined;
  /** End tokens are not chosen before so many new ones. */
  min_new_tokens?: number | undefined;
  /** The same, prompt included. */
  min_length?: number | undefined;
  /** `false`: always the most likely token. */
  do_sample?: boolean | undefined;
  temperature?: number | undefined;
  /** Only the so many most likely tokens; 0: all. */
  top_k?: number | undefined;
  /** Only the most likely tokens that together have this probability. */
  top_p?: number | undefined;
  /** Only tokens at least this times as likely as the most likely one. */
  min_p?: number | undefined;
  typical_p?: number | undefined;
  epsilon_cutoff?: number | undefined;
  eta_cutoff?: number | undefined;
  repetition_penalty?: number | undefined;
  /** As in OpenAI's API. */
  presence_penalty?: number | undefined;
  /** As in OpenAI's API. */
  frequency_penalty?: number | undefined;
  no_repeat_ngram_size?: number | undefined;
  /**
   * Up to so many of the next tokens are guessed from what followed earlier in prompt and text, and looked at in one step. The tokens
   * stay the same, and come faster where the text repeats what was there before. 0: off; at most 31.
   */
  prompt_lookup_num_tokens?: number | undefined;
  /** Guesses come from behind up to so many tokens like the last ones: 1 to 32, 2 where nothing is said. */
  max_matching_ngram_size?: number | undefined;
  /** Added to the logit of a sequence's last token where the others stand before it. */
  sequence_bias?: [ids: number[], bias: number][] | undefined;
  bad_words_ids?: number[][] | undefined;
  suppress_tokens?: number[] | undefined;
  /** Texts that end the answer, and are not part of it. */
  stop_strings?: string | string[] | undefined;
  /** Equal seeds give equal texts. Without one, each call draws its own. */
  seed?: number | undefined;
  /** Every token comes with its log-probability and with those of so many likely ones. */
  logprobs?: number | undefined;
  bos_token_id?: number | undefined;
  eos_token_id?: number | number[] | undefined;
  pad_token_id?: number | undefined;
}

const known = new Set<string>([
  "max_new_tokens", "max_length", "min_new_tokens", "min_length", "do_sample", "temperature", "top_k", "top_p", "min_p",
  "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "presence_penalty", "frequency_penalty",
  "no_repeat_ngram_size", "prompt_lookup_num_tokens", "max_matching_ngram_size", "sequence_bias", "bad_words_ids",
  "suppress_tokens", "stop_strings", "seed", "logprobs", "bos_token_id", "eos_token_id", "pad_token_id",
] satisfies (keyof GenerationOptions)[]);

/** What `GenerationConfig` has besides, with the values that mean the same as nothing. */
const unsupported = new Map<string, unknown[]>([
  ["num_beams", [1]],
  ["num_beam_groups", [1]],
  ["num_return_sequences", [1]],
  ["early_stopping", [false]],
  ["use_cache", [true]],
  ["max_time", []],
  ["penalty_alpha", [0]],
  ["diversity_penalty", [0]],
  ["length_penalty", [1]],
  ["encoder_repetition_penalty", [1]],
  ["encoder_no_repeat_ngram_size", [0]],
  ["force_words_ids", []],
  ["constraints", []],
  ["renormalize_logits", [false]],
  ["forced_bos_token_id", []],
  ["forced_eos_token_id", []],
  ["remove_invalid_values", [false]],
  ["exponential_decay_length_penalty", []],
  ["begin_suppress_tokens", []],
  ["forced_decoder_ids", []],
  ["guidance_scale", [1]],
  ["top_h", []],
  ["output_attentions", [false]],
  ["output_hidden_states", [false]],
  ["output_scores", [false]],
  ["output_logits", [false]],
  ["return_dict_in_generate", [false]],
  ["decoder_start_token_id", []],
  ["generation_config", []],
  ["logits_processor", []],
  ["stopping_criteria", []],
  ["past_key_values", []],
]);

/**
 * The settings among `options`, without those that are absent. A `seed` is drawn where neither they nor the model's `defaults` have
 * one: what goes on after a lost device must go on with the same numbers.
 */
export function toGenerationOptions(options: object, defaults: object = {}): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const [param, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    const neutral = unsupported.get(param);
    if (neutral) {
      if (neutral.includes(value)) continue;
      throw new UnsupportedParameterError(`${param} is not supported`, { param });
    }
    if (!known.has(param)) throw new InvalidRequestError(`there is no setting ${param}`, { param });
    given[param] = value;
  }
  if (!("seed" in defaults)) given["seed"] ??= crypto.getRandomValues(new Uint32Array(1))[0];
  return given;
}
