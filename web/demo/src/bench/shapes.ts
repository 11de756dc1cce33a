// Models of random weights, made in memory, bit for bit as native-runner/src/bench/shapes.rs makes them: speed and memory go by shapes, not by
// what a model knows.

/** The most positions that Llamas say to have been trained for: more than is measured. */
export const CONTEXT = 1 << 15;
/** Those of the encoder, and of the built-in model. */
export const SHORT_CONTEXT = 512;
/** Bytes that are made before others have their turn. */
const PIECE = 1 << 22;

/** The sizes of a model: a Llama by a name that tells its parameters, or an encoder. */
export interface Shape {
  name: string;
  layers: number;
  hidden: number;
  heads: number;
  kvHeads: number;
  intermediate: number;
  vocab: number;
  /** Whether the embedding is the output head, too. */
  isTied: boolean;
  /** A BERT: it makes vectors, and decodes nothing. */
  isEncoder: boolean;
}

const shape = (name: string, layers: number, hidden: number, heads: number, kvHeads: number, intermediate: number, vocab: number, more: Partial<Shape> = {}): Shape =>
  ({ name, layers, hidden, heads, kvHeads, intermediate, vocab, isTied: true, isEncoder: false, ...more });

export const SHAPES: readonly Shape[] = [
  shape("tiny", 2, 64, 2, 2, 128, 512),
  shape("26M", 8, 384, 6, 6, 1024, 32_000),
  shape("110M", 12, 768, 12, 12, 2048, 32_000),
  // of Qwen2.5 0.5B, Llama 3.2 1B and Llama 2 7B
  shape("0.5B", 24, 896, 14, 2, 4864, 151_936),
  shape("1B", 16, 2048, 32, 8, 8192, 128_256),
  shape("7B", 32, 4096, 32, 32, 11_008, 32_000, { isTied: false }),
  // of all-MiniLM-L6-v2
  shape("MiniLM", 6, 384, 12, 12, 1536, 30_522, { isEncoder: true }),
];

type Tensor = [name: string, shape: number[]];

const tensors = (shape: Shape): Tensor[] => (shape.isEncoder ? bert(shape) : llama(shape));

/** Names and shapes, in the order that transformers writes them. */
function bert({ layers, hidden, intermediate, vocab }: Shape): Tensor[] {
  const all: Tensor[] = [
    ["embeddings.word_embeddings.weight", [vocab, hidden]],
    ["embeddings.position_embeddings.weight", [SHORT_CONTEXT, hidden]],
    ["embeddings.token_type_embeddings.weight", [2, hidden]],
  ];
  const biased = (name: string, shape: number[]) => void all.push([`${name}.weight`, shape], [`${name}.bias`, [shape[0]!]]);
  biased("embeddings.LayerNorm", [hidden]);
  for (let layer = 0; layer < layers; layer++) {
    const of: Tensor[] = [
      ["attention.self.query", [hidden, hidden]],
      ["attention.self.key", [hidden, hidden]],
      ["attention.self.value", [hidden, hidden]],
      ["attention.output.dense", [hidden, hidden]],
      ["attention.output.LayerNorm", [hidden]],
      ["intermediate.dense", [intermediate, hidden]],
      ["output.dense", [hidden, intermediate]],
      ["output.LayerNorm", [hidden]],
    ];
    for (const [name, shape] of of) biased(`encoder.layer.${layer}.${name}`, shape);
  }
  return all;
}

/** The same. */
function llama({ layers, hidden, heads, kvHeads, intermediate, vocab, isTied }: Shape): Tensor[] {
  const kv = (kvHeads * hidden) / heads;
  const all: Tensor[] = [["model.embed_tokens.weight", [vocab, hidden]]];
  for (let layer = 0; layer < layers; layer++) {
    const of: Tensor[] = [
      ["input_layernorm", [hidden]],
      ["post_attention_layernorm", [hidden]],
      ["self_attn.q_proj", [hidden, hidden]],
      ["self_attn.k_proj", [kv, hidden]],
      ["self_attn.v_proj", [kv, hidden]],
      ["self_attn.o_proj", [hidden, hidden]],
      ["mlp.gate_proj", [intermediate, hidden]],
      ["mlp.up_proj", [intermediate, hidden]],
      ["mlp.down_proj", [hidden, intermediate]],
    ];
    all.push(...of.map(([name, shape]): Tensor => [`model.layers.${layer}.${name}.weight`, shape]));
  }
  all.push(["model.norm.weight", [hidden]]);
  if (!isTied) all.push(["lm_head.weight", [vocab, hidden]]);
  return all;
}

const elements = (shape: number[]) => shape.reduce((product, size) => product * size, 1);

/** Number of weights. */
export const parameters = (shape: Shape) => tensors(shape).reduce((sum, [, sizes]) => sum + elements(sizes), 0);

/** Multiplications and additions of an encoder's layers for a token, attention apart. */
export const operations = ({ layers, hidden, intermediate }: Shape) => 2 * layers * (4 * hidden * hidden + 2 * hidden * intermediate);

/** The files of a checkpoint, in bf16; `onProgress` hears which share of it there is. */
export async function checkpoint(of: Shape, signal?: AbortSignal, onProgress: (share: number) => void = () => {}): Promise<Record<string, Blob>> {
  const config = of.isEncoder ? bertConfig(of) : {
    architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", hidden_size: of.hidden,
    num_hidden_layers: of.layers, num_attention_heads: of.heads, num_key_value_heads: of.kvHeads,
    intermediate_size: of.intermediate, vocab_size: of.vocab, max_position_embeddings: CONTEXT,
    rms_norm_eps: 1e-5, rope_theta: 10000, tie_word_embeddings: of.isTied, bos_token_id: 1, eos_token_id: 2,
  };
  const all = tensors(of);
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, sizes] of all) {
    const begin = end;
    end += 2 * elements(sizes);
    header[name] = { dtype: "BF16", shape: sizes, data_offsets: [begin, end] };
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setUint32(0, text.length, true);
  const parts: BlobPart[] = [length, text];
  const noise = new Noise();
  let [made, told] = [0, 0];
  for (const [name, sizes] of all) {
    // a tensor is filled in pieces, so that the page answers and the memory of a piece can go to the browser's store of blobs
    for (let left = 2 * elements(sizes); left > 0; ) {
      const bytes = new Uint8Array(Math.min(left, PIECE));
      // gains are one, biases zero
      if (sizes.length === 1 && !name.endsWith("bias")) new Uint16Array(bytes.buffer).fill(0x3f80);
      else if (sizes.length > 1) noise.fill(bytes, sizes[1]!);
      // a blob of its own: a list of arrays would be copied once more, all at once, at the end
      parts.push(new Blob([bytes]));
      left -= bytes.length;
      made += bytes.length;
      if (made - told >= PIECE) {
        told = made;
        onProgress(made / end);
        await new Promise((turn) => setTimeout(turn));
        signal?.throwIfAborted();
      }
    }
  }
  const files: Record<string, Blob> = { "config.json": new Blob([JSON.stringify(config)]), "model.safetensors": new Blob(parts) };
  if (of.isEncoder) files["tokenizer.json"] = new Blob([JSON.stringify(tokenizer(of.vocab))]);
  return files;
}

const bertConfig = (of: Shape) => ({
  architectures: ["BertModel"], model_type: "bert", hidden_act: "gelu", hidden_size: of.hidden,
  num_hidden_layers: of.layers, num_attention_heads: of.heads, intermediate_size: of.intermediate,
  vocab_size: of.vocab, max_position_embeddings: SHORT_CONTEXT, type_vocab_size: 2, layer_norm_eps: 1e-12,
});

/** One whose words are the ids themselves, with spaces between them: the package takes texts of encoders. */
const tokenizer = (vocab: number) => ({
  version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: { type: "WhitespaceSplit" },
  post_processor: null, decoder: null,
  model: { type: "WordLevel", unk_token: "0", vocab: Object.fromEntries(Array.from({ length: vocab }, (_, id) => [String(id), id])) },
});

/**
 * Numbers in bf16 of which rows of `dim` keep the size of what they are multiplied by: random signs and mantissas, all with the exponent for
 * which the root of the mean square comes nearest to `1 / sqrt(dim)`. SplitMix64 (Steele, Lea & Flood 2014), four numbers at once, in halves of
 * 32 bits, since 64-bit integers are fifty times slower here.
 */
class Noise {
  #high = 0;
  #low = 1;

  /** Fills bytes, a multiple of 4 of them. A tensor begins with a fresh group of four; a piece of one ends with a whole one. */
  fill(bytes: Uint8Array<ArrayBuffer>, dim: number): void {
    // mantissas from 1 to 2 have a mean square of 1.53 squared
    const exponent = 127 - Math.round(Math.log2(1.53 * Math.sqrt(dim)));
    const or = (exponent << 7) * 0x0001_0001;
    const words = new Uint32Array(bytes.buffer);
    let [high, low] = [this.#high, this.#low];
    for (let i = 0; i < words.length; i += 2) {
      // state += 0x9e3779b97f4a7c15
      const sum = low + 0x7f4a_7c15;
      low = sum >>> 0;
      high = (high + 0x9e37_79b9 + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
      // z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9
      let zl = (low ^ ((low >>> 30) | (high << 2))) >>> 0;
      let zh = (high ^ (high >>> 30)) >>> 0;
      zh = (Math.imul(zh, 0x1ce4_e5b9) + Math.imul(zl, 0xbf58_476d) + multiplyHigh(zl, 0x1ce4_e5b9)) >>> 0;
      zl = Math.imul(zl, 0x1ce4_e5b9) >>> 0;
      // z = (z ^ z >> 27) * 0x94d049bb133111eb
      zl = (zl ^ ((zl >>> 27) | (zh << 5))) >>> 0;
      zh = (zh ^ (zh >>> 27)) >>> 0;
      zh = (Math.imul(zh, 0x1331_11eb) + Math.imul(zl, 0x94d0_49bb) + multiplyHigh(zl, 0x1331_11eb)) >>> 0;
      zl = Math.imul(zl, 0x1331_11eb) >>> 0;
      // z ^= z >> 31
      zl ^= (zl >>> 31) | (zh << 1);
      zh ^= zh >>> 31;
      words[i] = (zl & 0x807f_807f) | or;
      if (i + 1 < words.length) words[i + 1] = (zh & 0x807f_807f) | or;
    }
    [this.#high, this.#low] = [high, low];
  }
}

/** The upper 32 bits of a product of two 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = ah * bl + ((al * bl) >>> 16);
  const other = al * bh + (middle & 0xffff);
  return ah * bh + (middle >>> 16) + (other >>> 16);
}
