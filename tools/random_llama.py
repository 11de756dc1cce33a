#!/usr/bin/env python3
"""Makes a Llama of random weights: config.json and model.safetensors in bf16, to measure memory and speed on.

    python tools/random_llama.py FOLDER [--layers 12] [--hidden 768] [--heads 12] [--kv-heads 12] [--intermediate 2048]
                                        [--vocab 32000] [--context 2048] [--untied] [--seed 0]

The defaults are 110M parameters: 85M in the layers, 25M in the embedding, which is the output head as well unless --untied makes one
of its own. Needs nothing but Python. No part of set-up or of the tests: `tests/models/recommend.rs` makes the same shape.
"""

import argparse
import json
import math
import random
import struct
from pathlib import Path

BLOCK = 1 << 12


def shapes(a):
    """Names and shapes, in the order that transformers writes them."""
    head = a.hidden // a.heads
    yield "model.embed_tokens.weight", (a.vocab, a.hidden)
    for i in range(a.layers):
        for name, shape in {
            "input_layernorm": (a.hidden,),
            "post_attention_layernorm": (a.hidden,),
            "self_attn.q_proj": (a.hidden, a.hidden),
            "self_attn.k_proj": (a.kv_heads * head, a.hidden),
            "self_attn.v_proj": (a.kv_heads * head, a.hidden),
            "self_attn.o_proj": (a.hidden, a.hidden),
            "mlp.gate_proj": (a.intermediate, a.hidden),
            "mlp.up_proj": (a.intermediate, a.hidden),
            "mlp.down_proj": (a.hidden, a.intermediate),
        }.items():
            yield f"model.layers.{i}.{name}.weight", shape
    yield "model.norm.weight", (a.hidden,)
    if a.untied:
        yield "lm_head.weight", (a.vocab, a.hidden)


def noise(random, count, rms):
    """`count` numbers in bf16: random signs and mantissas, all with the exponent that comes nearest to `rms`."""
    exponent = 127 + round(math.log2(rms / 1.53))
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        # a block is one long integer: Python has no arrays that it could mask
        bits = int.from_bytes(random.randbytes(2 * size), "little")
        repeat = ((1 << 16 * size) - 1) // 0xFFFF
        yield (bits & 0x807F * repeat | (exponent << 7) * repeat).to_bytes(2 * size, "little")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    defaults = dict(layers=12, hidden=768, heads=12, intermediate=2048, vocab=32_000, context=2048, seed=0)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--kv-heads", type=int)
    parser.add_argument("--untied", action="store_true")
    a = parser.parse_args()
    a.kv_heads = a.kv_heads or a.heads
    if a.hidden % a.heads or a.heads % a.kv_heads:
        parser.error("hidden must be a multiple of heads, and heads of kv-heads")

    a.folder.mkdir(parents=True, exist_ok=True)
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", torch_dtype="bfloat16", hidden_act="silu",
        hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads,
        intermediate_size=a.intermediate, vocab_size=a.vocab, max_position_embeddings=a.context, rms_norm_eps=1e-5,
        rope_theta=10000.0, tie_word_embeddings=not a.untied, bos_token_id=1, eos_token_id=2,
    )
    (a.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    tensors, end = list(shapes(a)), 0
    header = {"__metadata__": {"format": "pt"}}
    for name, shape in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = dict(dtype="BF16", shape=shape, data_offsets=[begin, end])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    source = random.Random(a.seed)
    with open(a.folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            if "norm" in name:
                file.write(b"\x80\x3f" * math.prod(shape))  # ones
                continue
            for block in noise(source, math.prod(shape), shape[-1] ** -0.5):
                file.write(block)
    print(f"{a.folder}: {end // 2:,} parameters, {end:,} bytes")


if __name__ == "__main__":
    main()
