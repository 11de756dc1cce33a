"""Writes a Llama of random weights in Q4_0 as GGUF: the shapes 26M and 110M of `native-runner bench matrix`, for llama.cpp.

    pip install gguf numpy
    python3 tools/llama_cpp/random_gguf.py 26M /tmp/26M.gguf
"""

import sys

import gguf
import numpy as np

Q4_0 = gguf.GGMLQuantizationType.Q4_0
VOCAB = 32_000
# layers, hidden, heads, intermediate: as in native-runner/src/bench/shapes.rs
SHAPES = {"26M": (8, 384, 6, 1024), "110M": (12, 768, 12, 2048)}


def main(name: str, path: str) -> None:
    layers, hidden, heads, intermediate = SHAPES[name]
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(32_768)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(intermediate)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(2)

    # a vocabulary that nobody uses: prompts are ids
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    tokens += [f"\u2581t{number}".encode() for number in range(VOCAB - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(VOCAB)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (VOCAB - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def matrix(tensor: str, rows: int, columns: int) -> None:
        values = (random.standard_normal((rows, columns)) * 0.02).astype(np.float32)
        writer.add_tensor(tensor, gguf.quants.quantize(values, Q4_0), raw_dtype=Q4_0)

    def gains(tensor: str) -> None:
        writer.add_tensor(tensor, np.ones(hidden, np.float32))

    matrix("token_embd.weight", VOCAB, hidden)
    gains("output_norm.weight")
    for layer in range(layers):
        for tensor in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{tensor}.weight", hidden, hidden)
        matrix(f"blk.{layer}.ffn_gate.weight", intermediate, hidden)
        matrix(f"blk.{layer}.ffn_up.weight", intermediate, hidden)
        matrix(f"blk.{layer}.ffn_down.weight", hidden, intermediate)
        gains(f"blk.{layer}.attn_norm.weight")
        gains(f"blk.{layer}.ffn_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
