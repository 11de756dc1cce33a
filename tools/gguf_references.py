#!/usr/bin/env python3
"""Makes tests/gguf: raw blocks of GGUF's tensor types and what the package `gguf` decodes them to, and small random models in GGUF.

Needs torch, transformers, gguf (0.19) and, for the models, llama.cpp's source on PYTHONPATH (its folder, and gguf-py in it; that of
llama-cpp-python 0.3.36); no part of set-up or of the tests, which only read what is committed:

    PYTHONPATH=llama.cpp:llama.cpp/gguf-py python tools/gguf_references.py [NAME...]

blocks/TYPE.safetensors holds, for rows of several lengths, `blocks.<values per row>` (u8 [rows, bytes per row]) and the same in f32,
`values.<values per row>` [rows, values per row].

Each other folder has model.gguf (or its parts) and expected.safetensors (f32): `input_ids`, `logits`, `last_hidden_state` of one pass
over a long prompt, and `short.input_ids`, `short.greedy_ids`, `short.greedy_logits`: a short prompt and what greedy generation makes
of it, computed in f32 by transformers from the decoded weights. `tolerance.json` says how far f32 may be off. llama.cpp's converter
writes names, metadata and what it changes of the weights; here only the tensors' types are set, as its quantizer would.
"""

import json
import math
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from references import LONG, NEW, SHORT, randomize
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "gguf"

# Where the f16 scales of a block stand. The rest of it may be any bits.
SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.IQ4_NL: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
PLAIN = {Type.F32: np.float32, Type.F16: np.float16, Type.BF16: None}
# None, negative, the least and a middle subnormal of f16, the least and the greatest normal number, and two as models have them.
SPECIAL = [0.0, -0.0117, 6e-8, 3.1e-5, 6.104e-5, 65504.0, 0.0023, 0.31]


def put(blocks: np.ndarray, at: int, scale: np.ndarray) -> None:
    """Writes an f16 scale at a byte of each block [count, bytes]."""
    blocks[:, at : at + 2] = np.asarray(scale, np.float16).reshape(-1, 1).view(np.uint8)


def plain_rows(kind: Type, rows: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Raw rows of an unpacked type: both signs, both zeros, the greatest and some subnormal numbers."""
    values = random.standard_normal((rows, width)).astype(np.float32) * 10.0 ** random.integers(-3, 3, (rows, 1))
    least, most = {Type.F32: (1e-40, 3e38), Type.F16: (6e-8, 65504.0), Type.BF16: (1e-40, 3e38)}[kind]
    flat = values.reshape(-1)
    flat[:: 11] = np.resize(np.array([0.0, -0.0, least, -3 * least, most, -most], np.float32), flat[:: 11].shape)
    return quantize(values.astype(np.float32), kind).view(np.uint8).reshape(rows, -1)


def block_rows(kind: Type, rows: int, across: int, random: np.random.Generator) -> np.ndarray:
    """Raw rows of blocks with random bits and scales of all kinds; some blocks have all bits set, some none."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = random.integers(0, 256, (rows * across, size), np.uint8)
    blocks[1::7] = 0xFF
    blocks[4::7] = 0
    for i, at in enumerate(SCALES[kind]):
        scale = random.standard_normal(len(blocks)) * 0.05
        scale[::2] = np.resize(SPECIAL[3 * i :] + SPECIAL[: 3 * i], scale[::2].shape)
        put(blocks, at, scale)
    return blocks.reshape(rows, -1)


def write_blocks() -> None:
    """tests/gguf/blocks: one file per type."""
    folder = OUT / "blocks"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in [*PLAIN, *SCALES]:
        random = np.random.default_rng(zlib.crc32(kind.name.encode()))
        per_block = gguf.GGML_QUANT_SIZES[kind][0]
        tensors = {}
        for across in {1: [1, 33, 100], 32: [1, 3, 5], 256: [1, 3]}[per_block]:
            rows = 9 if per_block < 256 else 12 if across == 1 else 5
            raw = plain_rows(kind, rows, across, random) if kind in PLAIN else block_rows(kind, rows, across, random)
            values = dequantize(raw if kind != Type.F32 and kind != Type.F16 else raw.view(PLAIN[kind]), kind)
            assert values.shape == (rows, across * per_block) and values.dtype == np.float32, kind
            assert np.isfinite(values).all(), kind
            tensors |= {f"blocks.{across * per_block}": raw, f"values.{across * per_block}": np.ascontiguousarray(values)}
        save_arrays(tensors, folder / f"{kind.name.lower()}.safetensors", {"made_by": "gguf 0.19.0"})
        print(f"blocks/{kind.name.lower()}: {(folder / f'{kind.name.lower()}.safetensors').stat().st_size // 1024} KiB")


if __name__ == "__main__":
    write_blocks()
