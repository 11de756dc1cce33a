import type { CallOptions } from "./engine.js";
import type { Client } from "./client.js";

/** The model's tokenizer. It lives in the worker, so its answers are promises. */
export class Tokenizer {
  readonly #client: Client;

  /** @internal */
  constructor(client: Client) {
    this.#client = client;
  }

  /** Token ids of `text`; with what the tokenizer adds of its own, unless `add_special_tokens` is `false`. */
  encode(text: string, options: CallOptions & { add_special_tokens?: boolean | undefined } = {}): Promise<number[]> {
    return this.#client.call("encode", { text, special: options.add_special_tokens ?? true }, { signal: options.signal });
  }

  /** The text of `ids`; without special tokens, if `skip_special_tokens` is `true`. */
  decode(
    ids: readonly (number | bigint)[],
    options: CallOptions & { skip_special_tokens?: boolean | undefined } = {},
  ): Promise<string> {
    const skip = options.skip_special_tokens ?? false;
    return this.#client.call("decode", { ids: ids.map(Number), skip }, { signal: options.signal });
  }

  /** The prompt that the model's chat template writes; `options` go to the template. */
  apply_chat_template(
    messages: readonly object[],
    options: CallOptions & { add_generation_prompt?: boolean | undefined; [extra: string]: unknown } = {},
  ): Promise<string> {
    const { signal, ...template } = options;
    return this.#client.call("chatPrompt", { messages, options: template }, { signal });
  }
}
