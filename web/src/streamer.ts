/** Streamers as in Transformers.js: what `generator(..., {streamer})` tells while it generates. */
import { UnsupportedParameterError } from "./errors.js";
import type { Tokenizer } from "./tokenizer.js";

/** Hears of tokens. To be extended. */
export abstract class BaseStreamer {
  /** Called with the prompt's ids, then with each new token's, as `[[id]]`. */
  abstract put(value: bigint[][]): void;
  /** Called at the end. */
  abstract end(): void;
  /** Called instead of `end` where the generation failed or was aborted. */
  abort(_reason: unknown): void {}
}

/** How a {@link TextStreamer} tells. */
export interface TextStreamerOptions {
  /** Whether to leave the prompt out. */
  skip_prompt?: boolean | undefined;
  /** Only `true`: special tokens are no text here. */
  skip_special_tokens?: true | undefined;
  /** Hears of every piece of text; `console.log` by default. */
  callback_function?: ((text: string) => void) | null | undefined;
  /** Hears of every token. */
  token_callback_function?: ((ids: bigint[]) => void) | null | undefined;
}

/** Hears of text, as soon as it is certain: not by words as in Transformers.js, but without incomplete characters. */
export class TextStreamer extends BaseStreamer {
  readonly tokenizer: Tokenizer;
  readonly skip_prompt: boolean;
  readonly callback_function: (text: string) => void;
  readonly token_callback_function: ((ids: bigint[]) => void) | undefined;
  #prompt_is_next = true;

  constructor(tokenizer: Tokenizer, options: TextStreamerOptions = {}) {
    super();
    if (options.skip_special_tokens === (false as boolean)) {
      const param = "skip_special_tokens";
      throw new UnsupportedParameterError(`${param}: false is not supported`, { param });
    }
    this.tokenizer = tokenizer;
    this.skip_prompt = options.skip_prompt ?? false;
    this.callback_function = options.callback_function ?? ((text) => console.log(text));
    this.token_callback_function = options.token_callback_function ?? undefined;
  }

  override put(value: bigint[][]): void {
    const is_prompt = this.#prompt_is_next;
    this.#prompt_is_next = false;
    if (is_prompt && this.skip_prompt) return;
    for (const ids of value) this.token_callback_function?.(ids);
  }

  /** Called with the text of what was put. */
  put_text(text: string): void {
    this.on_finalized_text(text, false);
  }

  override end(): void {
    this.#prompt_is_next = true;
    this.on_finalized_text("", true);
  }

  override abort(_reason: unknown): void {
    this.#prompt_is_next = true;
  }

  /** Called with every piece of text; at the end with an empty one and `true`. */
  on_finalized_text(text: string, _stream_end: boolean): void {
    if (text !== "") this.callback_function(text);
  }
}
