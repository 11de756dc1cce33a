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
from references import outputs, randomize
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


LLAMA = dict(
    model_type="llama", hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=64, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
TIED = LLAMA | dict(tie_word_embeddings=True)
NARROW = LLAMA | dict(hidden_size=32, head_dim=16)
TINY = TIED | dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1)
# Heads of 64 and rows of 256 values for the types with blocks of 256. Rows of other widths fall back, as in llama.cpp's quantizer.
WIDE = TIED | dict(hidden_size=256, intermediate_size=64, num_hidden_layers=1, num_key_value_heads=1)
GEMMA = NARROW | dict(tie_word_embeddings=True, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6)
WINDOWED = GEMMA | dict(query_pre_attn_scalar=16, sliding_window=7, num_key_value_heads=2)
PHI3 = LLAMA | dict(model_type="phi3", hidden_size=32, num_attention_heads=2, num_key_value_heads=1, sliding_window=64)
LONGROPE = dict(
    type="longrope", short_factor=[1.0, 1.1, 1.3, 1.2, 1.1, 1.4, 1.6, 1.5], long_factor=[1.0, 1.5, 2.5, 4.0, 7.0, 9.0, 9.5, 12.0],
)
FALLBACK = {Type.Q2_K: Type.IQ4_NL, Type.Q3_K: Type.IQ4_NL, Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
FILE_TYPES = {
    Type[name]: gguf.LlamaFileType[f"MOSTLY_{name}" + ("_M" if name in ("Q3_K", "Q4_K", "Q5_K") else "")]
    for name in ("F16", "Q4_0", "Q5_0", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K")
} | {Type.F32: gguf.LlamaFileType.ALL_F32}

# Types by a part of the tensor's name, the first that fits; "" fits all. One-dimensional tensors are f32 always.
SMALL = {"attn_v": Type.Q8_0, "blk.1.ffn_down": Type.Q5_1, "token_embd": Type.F16, "": Type.Q4_0}
FAINT = {"embedding": 0.15}  # a tied head of many values would only repeat the token

# name: (model, tensors' types, what else)
CASES = {
    "llama_q2_k": (
        WIDE | dict(intermediate_size=256, num_attention_heads=2, head_dim=64),
        {"token_embd": Type.Q6_K, "attn_v": Type.Q4_K, "": Type.Q2_K}, FAINT,
    ),
    "llama_q3_k": (WIDE, {"token_embd": Type.Q6_K, "attn_output": Type.Q4_K, "": Type.Q3_K}, FAINT),
    "llama_q4_k_m": (WIDE, {"attn_v": Type.Q6_K, "ffn_down": Type.Q6_K, "token_embd": Type.Q6_K, "": Type.Q4_K}, FAINT),
    "llama_q5_k": (WIDE | dict(tie_word_embeddings=False, head_dim=32), {"output.weight": Type.Q6_K, "": Type.Q5_K}, FAINT),
    "llama_iq4_nl": (LLAMA | dict(hidden_size=96), {"output.weight": Type.Q8_0, "": Type.IQ4_NL}, {}),
    "llama_odd": (
        LLAMA | dict(hidden_size=96, intermediate_size=72),  # heads of 24
        {
            "attn_q": Type.Q4_0, "attn_k": Type.Q4_1, "attn_v": Type.Q5_0, "attn_output": Type.Q5_1, "ffn_gate": Type.Q8_0,
            "ffn_up": Type.IQ4_NL, "blk.0.ffn_down": Type.F16, "ffn_down": Type.BF16, "token_embd": Type.F32, "": Type.Q5_0,
        },
        {},
    ),
    "llama_f16": (TIED | dict(hidden_size=48, intermediate_size=64), {"": Type.F16}, {"twin": True}),
    "llama_rope_llama3": (
        TIED | dict(
            original_max_position_embeddings=32,
            rope_scaling=dict(
                rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32,
            ),
        ),
        SMALL, {},
    ),
    "llama_rope_linear": (TIED | dict(rope_scaling=dict(rope_type="linear", factor=4.0)), SMALL, {}),
    "llama_rope_yarn": (
        TIED | dict(rope_theta=500.0, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)), SMALL, {},
    ),
    "llama_biases": (LLAMA | dict(attention_bias=True, mlp_bias=True), SMALL, {}),
    "llama_spm": (TIED | dict(vocab_size=320), SMALL | {"token_embd": Type.Q8_0}, {"spm": True}),
    "llama_split": (LLAMA, SMALL, {"split": 7}),
    "llama_align64": (TINY, SMALL, {"alignment": 64}),
    "llama_v2": (TINY, SMALL, {"version": 2}),
    "llama_big_endian": (
        TINY | dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_key_value_heads=1), {"": Type.F32}, {"big": True},
    ),
    "mistral": (NARROW | dict(model_type="mistral", sliding_window=None, head_dim=24), SMALL, {}),
    "qwen2": (TIED | dict(model_type="qwen2", hidden_size=32, num_attention_heads=2, num_key_value_heads=1), SMALL, {}),
    "qwen3": (NARROW | dict(model_type="qwen3", head_dim=24, tie_word_embeddings=True), SMALL, {}),
    "phi3": (PHI3, SMALL, {}),
    "phi3_longrope": (PHI3 | dict(original_max_position_embeddings=8, rope_scaling=LONGROPE), SMALL, {}),
    "phi2": (NARROW | dict(model_type="phi", intermediate_size=128, num_attention_heads=2, partial_rotary_factor=0.5), SMALL, {}),
    "gemma": (GEMMA | dict(model_type="gemma"), SMALL, {}),
    "gemma2": (
        WINDOWED | dict(model_type="gemma2", num_hidden_layers=3, attn_logit_softcapping=5.0, final_logit_softcapping=1.0), SMALL,
        {"embedding": 0.4},
    ),
    "gemma3": (
        WINDOWED | dict(
            model_type="gemma3_text", num_hidden_layers=7,
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            ),
        ),
        SMALL, {},
    ),
    "gpt2": (
        dict(
            model_type="gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=48, n_ctx=48, vocab_size=64, bos_token_id=1, eos_token_id=2,
        ),
        SMALL, {},
    ),
    "smollm3": (NARROW | dict(model_type="smollm3", num_hidden_layers=5, tie_word_embeddings=True), SMALL, {}),
}


def vocabulary(writer: gguf.GGUFWriter, size: int, spm: bool) -> None:
    """A tokenizer of as many tokens as the model has, with the keys that llama.cpp's converter writes.

    A sentencepiece one (`spm`) has a token for each byte, and scores; the other has merges.
    """
    of = gguf.TokenType
    space = "\u2581" if spm else "\u0120"
    pairs = ["h e", "i n", "t h", "th e", "e r", "a n", "an d", f"{space} a", f"{space} t", f"{space}t he", f"{space}a nd"]
    typed = [("<unk>", of.UNKNOWN if spm else of.CONTROL), ("<s>", of.CONTROL), ("</s>", of.CONTROL)]
    typed += [(f"<0x{byte:02X}>", of.BYTE) for byte in range(256)] if spm else [("\u010a", of.NORMAL)]
    normal = [space, *"abcdefghijklmnopqrstuvwxyz", *"ABCDEFGHI", *"0123", *".,!'", *(pair.replace(" ", "") for pair in pairs)]
    typed += [(token, of.NORMAL) for token in normal] + ([] if spm else [("<|endoftext|>", of.CONTROL)])  # Phi-3's name asks for this one
    typed += [(f"<extra_{i}>", of.UNUSED if spm else of.USER_DEFINED) for i in range(len(typed), size)]
    assert len(typed) == size, len(typed)
    tokens, types = zip(*typed)
    writer.add_tokenizer_model("llama" if spm else "gpt2")
    writer.add_tokenizer_pre("default" if spm else "gpt-2")
    writer.add_token_list(tokens)
    if spm:  # the longer the likelier, as trained ones mostly are
        writer.add_token_scores([-10.0 / len(token) - i / 1000 if kind == of.NORMAL else 0.0 for i, (token, kind) in enumerate(typed)])
    writer.add_token_types(types)
    if not spm:
        writer.add_token_merges(pairs)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if spm:
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(False)
        writer.add_add_space_prefix(True)
        message = "{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
        writer.add_chat_template("{% for message in messages %}{{ bos_token }}" + message + "{% endfor %}")
    else:
        writer.add_pad_token_id(0)
        if "tokenizer.ggml.add_bos_token" not in writer.kv_data[0]:  # which Phi's converter writes itself
            writer.add_add_bos_token(False)


def drawn(kind: Type, rows: int, width: int, deviation: float, random: np.random.Generator) -> np.ndarray:
    """Random raw rows of a type that `gguf` cannot quantize, which decode to about this deviation and a mean near 0."""
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * width // per_block, size), np.uint8)
    count = len(blocks)
    if kind in (Type.Q2_K, Type.Q4_K, Type.Q5_K):  # minimums near the steps, so that codes lie around 0
        most, parts = (15, 16) if kind == Type.Q2_K else (63, 8)
        steps = random.integers(most // 4, most + 1, (count, parts))
        least = (steps + random.integers(-most // 16, most // 16 + 1, steps.shape)).clip(0, most)
        if kind == Type.Q2_K:
            blocks[:, :16] = steps | least << 4
        else:
            blocks[:, 4:8] = steps[:, :4] | steps[:, 4:] >> 4 << 6
            blocks[:, 8:12] = least[:, :4] | least[:, 4:] >> 4 << 6
            blocks[:, 12:16] = steps[:, 4:] & 15 | (least[:, 4:] & 15) << 4
    scale = random.uniform(0.5, 1.5, count)
    if len(SCALES[kind]) == 1:
        scale *= random.choice([-1.0, 1.0], count)
    ratio = {Type.Q2_K: 1.5, Type.Q4_K: 7.5, Type.Q5_K: 15.5}.get(kind, 1.0)  # of the minimums' scale: half of the greatest code
    for at, part in zip(SCALES[kind], (1.0, ratio)):
        put(blocks, at, scale * part)
    scale *= deviation / float(dequantize(blocks, kind).std())
    for at, part in zip(SCALES[kind], (1.0, ratio)):
        put(blocks, at, scale * part)
    return blocks.reshape(rows, -1)


class Encoder:
    """Sets a model's weights to what its GGUF file will say, and knows the raw row of each decoded one."""

    def __init__(self, types: dict[str, Type], seed: int):
        self.types, self.random, self.rows = types, np.random.default_rng(seed), {}

    def kind(self, name: str, width: int) -> Type:
        if "position_embd" in name:
            return Type.F32
        kind = next(kind for part, kind in self.types.items() if part in name)
        if width % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = FALLBACK.get(kind, Type.F16)
        return kind if width % gguf.GGML_QUANT_SIZES[kind][0] == 0 else Type.F16

    def encode(self, name: str, weight: np.ndarray) -> np.ndarray:
        """The decoded weight [rows, width] of the tensor that GGUF calls by this name."""
        kind = self.kind(name, weight.shape[1])
        if kind in FALLBACK or kind == Type.IQ4_NL:
            raw, most = drawn(kind, *weight.shape, float(weight.std()), self.random), math.inf
        else:
            raw, most = quantize(np.ascontiguousarray(weight), kind), 0.15
        decoded = np.ascontiguousarray(dequantize(raw, kind), np.float32)
        assert float((decoded - weight).std() / weight.std()) < most, f"{name}: {kind.name} decodes to something else"
        assert 0.9 < float(decoded.std() / weight.std()) < 1.1, f"{name}: {kind.name} decodes to another deviation"
        self.rows[name] = kind, {row.tobytes(): code for row, code in zip(decoded, raw)}
        return decoded

    def raw(self, name: str, values: np.ndarray) -> tuple[np.ndarray, Type]:
        """The tensor [rows, width] as it was encoded, its rows in another order perhaps."""
        kind, rows = self.rows[name]
        return np.stack([rows[row.tobytes()] for row in np.ascontiguousarray(values)]), kind


def encode_model(model: torch.nn.Module, encoder: Encoder) -> None:
    """Every weight of two dimensions becomes what its encoding says."""
    from conversion import get_model_class

    arch = get_model_class(type(model).__name__).model_arch
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    turned = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, transformers.pytorch_utils.Conv1D)}
    for key, parameter in model.named_parameters():
        if parameter.dim() == 2:
            weight = parameter.data.T if key in turned else parameter.data
            decoded = torch.from_numpy(encoder.encode(names.get_name(key, (".weight",)), weight.numpy()))
            parameter.data = (decoded.T if key in turned else decoded).contiguous()
    model.tie_weights()


def convert(source: Path, target: Path, encoder: Encoder, extras: dict, vocab: int) -> None:
    """Has llama.cpp's converter write a folder's model in f32, but each matrix as the encoder has it."""
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    architecture = get_model_architecture(ModelBase.load_hparams(source, False), ModelType.TEXT)
    file = target / "model.gguf"
    model = get_model_class(architecture)(
        source, gguf.LlamaFileType.ALL_F32, file, is_big_endian=extras.get("big", False), eager=True,
        split_max_tensors=extras.get("split", 0),
    )
    writer, add = model.gguf_writer, model.gguf_writer.add_tensor

    def add_encoded(name: str, tensor: np.ndarray, raw_shape=None, raw_dtype=None) -> None:
        if tensor.ndim == 2 and not extras.get("big"):
            tensor, raw_dtype = encoder.raw(name, tensor)
        add(name, tensor, raw_dtype=raw_dtype)

    writer.add_tensor = add_encoded
    model.set_vocab = lambda: vocabulary(writer, vocab, extras.get("spm", False))
    if "alignment" in extras:
        writer.add_custom_alignment(extras["alignment"])
    model.prepare_tensors()
    model.ftype = FILE_TYPES[encoder.types[""]]  # from here on it is only written
    model.prepare_metadata(vocab_only=False)
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if "version" in extras:  # 2 and 3 differ in nothing else, little-endian
        data = bytearray(file.read_bytes())
        data[4:8] = extras["version"].to_bytes(4, "little")
        file.write_bytes(data)


def make(name: str) -> None:
    settings, types, extras = CASES[name]
    target = OUT / name
    target.mkdir(parents=True, exist_ok=True)
    for file in target.iterdir():
        file.unlink()
    settings = json.loads(json.dumps(settings))
    kind, vocab = settings.pop("model_type"), settings["vocab_size"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        for seed in range(1000):
            config = transformers.AutoConfig.for_model(kind, **json.loads(json.dumps(settings)))
            model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
            randomize(model, seed)
            model.get_input_embeddings().weight.data *= extras.get("embedding", 1.0)
            encoder = Encoder(types, seed)
            encode_model(model, encoder)
            model.save_pretrained(folder)
            # the converter counts its tokens
            (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": list(range(vocab))}, "added_tokens": []}))
            expected, margin = outputs(folder, vocab, seed)
            # near ties would test rounding, and a repeated token nothing
            if extras.get("big") or margin > 0.02 and expected["short.greedy_ids"].unique().numel() >= 8:
                break
        else:
            raise SystemExit(f"{name}: no seed gives clear tokens")
        convert(folder, target, encoder, extras, vocab)
        if extras.get("twin"):
            state = {key: tensor.half() for key, tensor in model.state_dict().items() if key != "lm_head.weight"}
            assert all((state[key].float() == tensor).all() for key, tensor in model.state_dict().items() if key in state)
            save_file(state, target / "model.safetensors", {"format": "pt"})
            shutil.copy(folder / "config.json", target)
    if not extras.get("big"):  # only refused
        made_by = f"transformers {transformers.__version__}, torch {torch.__version__}, seed {seed}"
        save_file(expected, target / "expected.safetensors", {"made_by": made_by})
        tolerance = 2e-4 * float(expected["logits"].std())
        (target / "tolerance.json").write_text(json.dumps({"f32_abs": round(tolerance, 7)}) + "\n")
    sizes = [f"{file.name} {-(-file.stat().st_size // 1024)}" for file in sorted(target.iterdir())]
    print(f"{name}: seed {seed}, deviation {float(expected['logits'].std()):.2f}, margin {margin:.3f}, KiB: {', '.join(sizes)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or ["blocks", *CASES]:
        write_blocks() if name == "blocks" else make(name)
