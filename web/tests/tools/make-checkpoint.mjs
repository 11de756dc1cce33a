// Writes a Llama of random weights in bf16, in shards, to load and to measure with. It is never committed.
//
//   node web/tests/tools/make-checkpoint.mjs FOLDER [--mib 1024] [--shards 4] [--dtype bf16|f32]
//
// The vocabulary and the tokenizer are those of assets/stories, so that host memory beside the weights stays small.

import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const STORIES = fileURLToPath(new URL("../../../assets/stories/", import.meta.url));

/** Sizes of a Llama of about so many bytes. Widths are multiples of 256, so q4's blocks fit. */
function sizes(bytes, width) {
  const hidden = bytes > 600 << 20 ? 2048 : bytes > 60 << 20 ? 1024 : 256;
  const shape = { hidden, ff: hidden * 3, heads: hidden / 64, kvHeads: hidden / 256, headDim: 64, vocab: 1024 };
  const layer = hidden * (shape.heads * 64 * 2 + shape.kvHeads * 64 * 2 + shape.ff * 3) * width;
  return { ...shape, layers: Math.max(1, Math.round((bytes - shape.vocab * hidden * width) / layer)) };
}

function tensors({ hidden, ff, layers, heads, kvHeads, headDim, vocab }) {
  const list = [["model.embed_tokens.weight", [vocab, hidden]]];
  for (let layer = 0; layer < layers; layer++) {
    for (const [name, shape] of [
      ["input_layernorm", [hidden]],
      ["self_attn.q_proj", [heads * headDim, hidden]],
      ["self_attn.k_proj", [kvHeads * headDim, hidden]],
      ["self_attn.v_proj", [kvHeads * headDim, hidden]],
      ["self_attn.o_proj", [hidden, heads * headDim]],
      ["post_attention_layernorm", [hidden]],
      ["mlp.gate_proj", [ff, hidden]],
      ["mlp.up_proj", [ff, hidden]],
      ["mlp.down_proj", [hidden, ff]],
    ]) {
      list.push([`model.layers.${layer}.${name}.weight`, shape]);
    }
  }
  list.push(["model.norm.weight", [hidden]]);
  return list;
}

/** Random values, once, in the given type: tensors take pieces of it at changing places, which is random enough and fast. */
function pool(dtype, count) {
  const values = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    // xorshift32 (Marsaglia 2003)
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    values[i] = (state >>> 0) / 2147483648 - 1;
  }
  return (scale, offset) => {
    const scaled = values.map((value) => offset + scale * value);
    if (dtype === "f32") return Buffer.from(scaled.buffer);
    const bits = new Uint32Array(scaled.buffer);
    const short = new Uint16Array(count);
    for (let i = 0; i < count; i++) short[i] = bits[i] >>> 16;
    return Buffer.from(short.buffer);
  };
}

/** Writes the checkpoint; gives its weights' bytes. */
export function makeCheckpoint(folder, { bytes = 1 << 30, shards = 4, dtype = "bf16" } = {}) {
  const width = dtype === "f32" ? 4 : 2;
  const shape = sizes(bytes, width);
  const list = tensors(shape);
  const size = ([, dims]) => dims.reduce((a, b) => a * b) * width;
  const total = list.reduce((sum, tensor) => sum + size(tensor), 0);
  mkdirSync(folder, { recursive: true });

  const random = pool(dtype, 1_000_003); // a prime: pieces of tensors begin at ever other places of it
  const made = new Map();
  const source = (dims) => {
    const key = dims.length === 1 ? "gain" : dims[1];
    // gains around 1, weights so that activations keep their size
    if (!made.has(key)) made.set(key, dims.length === 1 ? random(0.1, 1) : random(Math.sqrt(3 / dims[1]), 0));
    return made.get(key);
  };
  const groups = Array.from({ length: shards }, () => []);
  let sum = 0;
  for (const tensor of list) {
    groups[Math.min(shards - 1, Math.floor((sum / total) * shards))].push(tensor);
    sum += size(tensor);
  }
  const index = { metadata: { total_size: total }, weight_map: {} };
  let at = 0;
  for (const [number, group] of groups.entries()) {
    const pad = (n) => String(n).padStart(5, "0");
    const name = shards === 1 ? "model.safetensors" : `model-${pad(number + 1)}-of-${pad(shards)}.safetensors`;
    const header = {};
    let offset = 0;
    for (const tensor of group) {
      header[tensor[0]] = { dtype: dtype.toUpperCase(), shape: tensor[1], data_offsets: [offset, offset + size(tensor)] };
      offset += size(tensor);
      index.weight_map[tensor[0]] = name;
    }
    let text = JSON.stringify(header);
    text += " ".repeat(-text.length & 7);
    const out = openSync(join(folder, name), "w");
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    writeSync(out, length);
    writeSync(out, text);
    for (const tensor of group) {
      const from = source(tensor[1]);
      for (let left = size(tensor); left > 0; ) {
        const piece = Math.min(left, from.length - at);
        for (let done = 0; done < piece; ) done += writeSync(out, from, at + done, piece - done);
        left -= piece;
        at = (at + piece) % from.length;
      }
    }
    closeSync(out);
  }
  if (shards > 1) writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
  const config = {
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    hidden_act: "silu",
    hidden_size: shape.hidden,
    intermediate_size: shape.ff,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    head_dim: shape.headDim,
    vocab_size: shape.vocab,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config, null, 1));
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(STORIES, name), join(folder, name));
  return { bytes: total, files: groups.length, ...shape };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { mib: { type: "string", default: "1024" }, shards: { type: "string", default: "4" }, dtype: { type: "string", default: "bf16" } },
  });
  if (positionals.length !== 1) throw new Error("usage: make-checkpoint.mjs FOLDER [--mib 1024] [--shards 4] [--dtype bf16|f32]");
  console.log(makeCheckpoint(positionals[0], { bytes: Number(values.mib) << 20, shards: Number(values.shards), dtype: values.dtype }));
}
