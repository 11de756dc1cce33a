#!/usr/bin/env python3
"""Makes tests/quantized: small random checkpoints in other tools' quantized formats, and what those tools' own code decodes them to.

Needs torch, transformers, bitsandbytes, compressed-tensors and gptqmodel (its torch code alone: an unpacked source package on
PYTHONPATH does); no part of set-up or of the tests, which only read what is committed:

    python tools/quantized.py [NAME...]

Each folder has config.json with the `quantization_config` and model.safetensors with the names, types and shapes that the format's
tool writes, and expected.safetensors (f32): `input_ids`, `logits`, `last_hidden_state` of one pass over a long prompt,
`short.input_ids`, `short.greedy_ids`, `short.greedy_logits`: a short prompt and what greedy generation makes of it, and
`dequant.<tensor>`: some weights [out, in] as the format's library decodes them. The library decodes with its scales widened to f32,
and transformers then computes in f32 from those weights. Activations are not quantized, but for ct_w8a8 and BitNet: there each
quantized Linear's input is, to int8 per token. `tolerance.json` says how far f32 may be off.
"""

import copy
import json
import math
import sys
import zlib
from pathlib import Path

import torch
import transformers
from references import LONG, NEW, SHORT, randomize
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "quantized"

LLAMA = dict(
    model_type="llama", hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=64, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
WIDE = LLAMA | dict(hidden_size=96, intermediate_size=80, tie_word_embeddings=True)  # heads of 24
TIED = LLAMA | dict(tie_word_embeddings=True)
# one layer: few enough inputs that a seed puts none near a border
BITNET = LLAMA | dict(model_type="bitnet", num_hidden_layers=1, hidden_size=36, num_attention_heads=3, num_key_value_heads=1)  # heads of 12, or 6
BYTES = TIED | dict(intermediate_size=112)  # for weights of 8 bits
QWEN2 = LLAMA | dict(model_type="qwen2", hidden_size=96, intermediate_size=64, tie_word_embeddings=True)
LAST_DOWN = "model.layers.1.mlp.down_proj"


def skewed(weight: torch.Tensor) -> torch.Tensor:
    """Some rows all of one sign, so that zero points also lie at both ends of their range."""
    weight = weight.clone()
    weight[3::7] = weight[3::7].abs()
    weight[5::7] = -weight[5::7].abs()
    return weight


def words(codes: torch.Tensor, bits: int, axis: int) -> torch.Tensor:
    """Unsigned codes in int32 words along an axis, the first in the lowest bits."""
    codes = codes.to(torch.int64).movedim(axis, -1)
    lanes = codes.unflatten(-1, (-1, 32 // bits)) << (torch.arange(32 // bits) * bits)
    packed = lanes.sum(-1)
    packed = torch.where(packed >= 2**31, packed - 2**32, packed)
    return packed.to(torch.int32).movedim(-1, axis).contiguous()


class Bnb4:
    """bitsandbytes, 4 bits: its functions quantize, its state's own dictionary is stored beside the weight."""

    def __init__(self, kind: str, block: int = 64, nested: bool = False):
        self.kind, self.block, self.nested = kind, block, nested

    def config(self, dtype: str, skip: list) -> dict:
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=self.kind, bnb_4bit_use_double_quant=self.nested, bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skip or None,
        )
        return config.to_dict()

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        import bitsandbytes.functional as bnb

        packed, state = bnb.quantize_4bit(weight.to(dtype), blocksize=self.block, compress_statistics=self.nested, quant_type=self.kind)
        stored = {"weight": packed} | {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
        # It decodes to the weight's own type otherwise, rounding. All as one row: the CPU kernel (0.50.2, AVX-512) takes a wrong block
        # after each row whose width is a multiple of 16 but not of the block; blocks run on over rows, as they were quantized.
        state.dtype, state.shape = torch.float32, torch.Size([1, weight.numel()])
        return stored, bnb.dequantize_4bit(packed, state).reshape(weight.shape)


class Bnb8:
    """bitsandbytes, LLM.int8: rows of int8 with their largest magnitude."""

    def config(self, dtype: str, skip: list) -> dict:
        return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip or None).to_dict()

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        import bitsandbytes as bnb

        module = bnb.nn.Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False)
        module.weight = bnb.nn.Int8Params(weight.half(), has_fp16_weights=False, requires_grad=False).to("cpu")
        stored = {k: v.clone() for k, v in module.state_dict().items()}
        return stored, bnb.functional.int8_vectorwise_dequant(stored["weight"], stored["SCB"])


class Gptq:
    """GPTQ as AutoGPTQ and GPTQModel store it, decoded by GPTQModel's torch layer.

    `order` shuffles the columns over the groups (desc_act): "own" for each layer, "shared" for layers of one input, which is what
    the tools' calibration comes to. Version 1 stores zero points less one. A zero point of 0 then borrows from the next lane, since
    GPTQModel subtracts from and adds to whole words; others read lane by lane, so that only `borrow` makes zero points of 0.
    """

    def __init__(self, bits: int = 4, group: int = 32, sym: bool = False, order: str = "", version: int = 1, scale=torch.float16, auto=False,
                 borrow=False):
        self.bits, self.group, self.sym, self.order, self.version, self.scale = bits, group, sym, order, version, scale
        self.auto, self.lowest = auto, 0 if borrow or version == 2 else 1

    def config(self, dtype: str, skip: list) -> dict:
        config = {"bits": self.bits, "group_size": self.group, "desc_act": bool(self.order), "sym": self.sym, "quant_method": "gptq"}
        if self.auto:  # AutoGPTQ says nothing of its version
            return config | {
                "damp_percent": 0.01, "static_groups": False, "true_sequential": True, "model_name_or_path": None,
                "model_file_base_name": "model",
            }
        kind = "gptq_v2" if self.version == 2 else "gptq"
        dynamic = {"dynamic": {f"-:^{name}$": {} for name in skip}} if skip else {}
        return config | dynamic | {
            "checkpoint_format": kind, "lm_head": False, "pack_dtype": "int32",
            "meta": {"quantizer": ["gptqmodel:7.7.0"], "damp_percent": 0.05, "static_groups": False, "true_sequential": True},
        }

    def groups(self, name: str, width: int) -> torch.Tensor:
        group = width if self.group < 0 else self.group
        index = torch.arange(width, dtype=torch.int32) // group
        if not self.order:
            return index
        if self.order == "shared":
            for part, shared in [("q_proj", "qkv"), ("k_proj", "qkv"), ("v_proj", "qkv"), ("gate_proj", "gate_up"), ("up_proj", "gate_up")]:
                name = name.replace(part, shared)
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        shuffled = torch.empty_like(index)
        shuffled[torch.randperm(width, generator=generator)] = index
        return shuffled

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        from gptqmodel.nn_modules.qlinear.torch import TorchLinear
        from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

        rows, width = weight.shape
        most = 2**self.bits - 1
        g_idx = self.groups(name, width)
        scales, zeros = [], []
        for group in range(int(g_idx.max()) + 1):
            part = weight[:, g_idx == group]
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            if self.sym:
                high = torch.maximum(-low, high)
                low = -high
            scale = ((high - low) / most).clamp(min=1e-5).to(self.scale)
            zero = torch.full([rows], (most + 1) // 2) if self.sym else (-low / scale.float()).round().clamp(self.lowest, most)
            scales.append(scale)
            zeros.append(zero)
        scales, zeros = torch.stack(scales), torch.stack(zeros)  # [groups, out]
        wide = g_idx.long()
        codes = ((weight.T / scales.float()[wide]).round() + zeros[wide]).clamp(0, most)
        qzeros = words(zeros, self.bits, 1)
        if self.version == 1:
            qzeros -= sum(1 << lane for lane in range(0, 32, self.bits))
        stored = {"qweight": words(codes, self.bits, 0), "qzeros": qzeros, "scales": scales, "g_idx": g_idx}
        layer = TorchLinear(
            bits=self.bits, group_size=self.group, sym=self.sym, desc_act=bool(self.order), in_features=width, out_features=rows,
        ).eval()
        layer.scales = scales.float()
        for part in ["qweight", "qzeros", "g_idx"]:
            assert getattr(layer, part).shape == stored[part].shape, f"{name}: {part} {stored[part].shape}"
            setattr(layer, part, stored[part].clone())
        if self.version == 1:
            convert_gptq_v1_to_v2_format_module(layer, self.bits, torch.int32)
        return stored, layer.dequantize_weight().T.contiguous()


class Awq:
    """AWQ's GEMM layout, packed and decoded by GPTQModel, to which AutoAWQ's code has gone."""

    def __init__(self, group: int):
        self.group = group

    def config(self, dtype: str, skip: list) -> dict:
        return {
            "bits": 4, "group_size": self.group, "modules_to_not_convert": skip or None, "quant_method": "awq", "version": "gemm",
            "zero_point": True,
        }

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm, pack_awq

        groups = weight.unflatten(1, (-1, self.group))  # [out, groups, group]
        low, high = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
        scales = ((high - low) / 15).clamp(min=1e-5).half()
        zeros = (-low / scales.float()).round().clamp(0, 15)
        codes = ((groups / scales.float()[..., None]).round() + zeros[..., None]).clamp(0, 15).flatten(1)
        qweight, qzeros = pack_awq(codes.T.to(torch.int32).contiguous(), zeros.T.to(torch.int32).contiguous(), 4)
        stored = {"qweight": qweight, "qzeros": qzeros, "scales": scales.T.contiguous()}
        decoded = dequantize_gemm(qweight, qzeros, stored["scales"].float(), 4, self.group)
        return stored, decoded.T.contiguous()


class Ct:
    """compressed-tensors: its arguments, its scales (least and greatest, widened to hold 0), its compressors.

    `groups` gives one scheme per entry: targets, format, weights' arguments, and inputs' where there are any.
    """

    def __init__(self, *groups: dict, ordered: bool = False):
        self.groups, self.ordered = groups, ordered

    def schemes(self) -> list:
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

        return [
            QuantizationScheme(
                targets=group.get("targets", ["Linear"]), format=group["format"], weights=QuantizationArgs(**group["weights"]),
                input_activations=QuantizationArgs(**group["inputs"]) if "inputs" in group else None,
            )
            for group in self.groups
        ]

    def config(self, dtype: str, skip: list) -> dict:
        import compressed_tensors
        from compressed_tensors.quantization import QuantizationConfig

        formats = {group["format"] for group in self.groups}
        config = QuantizationConfig(
            config_groups={f"group_{i}": scheme for i, scheme in enumerate(self.schemes())}, ignore=["lm_head", *skip],
            format=formats.pop() if len(formats) == 1 else "mixed-precision", quantization_status="compressed",
        )
        written = config.model_dump(mode="json", exclude=["quant_method"])
        if self.ordered:
            written["config_groups"]["group_0"]["weights"]["actorder"] = "group"
        return {
            "version": compressed_tensors.__version__, "quant_method": "compressed-tensors", "sparsity_config": {}, "transform_config": {},
        } | written

    def scheme(self, name: str):
        """The scheme that compressed-tensors gives a Linear of this name: names and patterns go before classes."""
        from compressed_tensors.utils import match_targets

        module = torch.nn.Linear(1, 1)
        found = {target: scheme for scheme in self.schemes() for target in scheme.targets}
        return found[match_targets(name, module, list(found))[0]]

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.quantization.utils import calculate_qparams

        scheme = self.scheme(name)
        args = scheme.weights
        compressor = BaseCompressor.get_value_from_registry(scheme.format)
        # Columns of one group side by side. The library has dropped ordered columns (0.20); what it did with weight_g_idx (0.12) is
        # this: sort the columns by it (stably), take groups of the sorted, and put the columns back.
        index = torch.arange(weight.shape[1], dtype=torch.int32)
        if self.ordered:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            index[torch.randperm(weight.shape[1], generator=generator)] = index.clone() // args.group_size
        order = torch.argsort(index, stable=True)
        weight = weight[:, order].to(dtype)
        parts = weight.unflatten(1, (-1, args.group_size)) if args.strategy == "group" else weight[:, None]
        least, most = (parts.amin(), parts.amax()) if args.strategy == "tensor" else (parts.amin(2), parts.amax(2))
        scale, zero = calculate_qparams(least, most, args)
        stored = compressor.compress({"weight": weight, "weight_scale": scale, "weight_zero_point": zero}, scheme)
        decoded = compressor.decompress(stored | {"weight_scale": scale.float()}, scheme)["weight"]
        if self.ordered:
            back = torch.argsort(order)
            packing = sys.modules[compressor.__module__]
            codes = packing.unpack_from_int32(stored["weight_packed"], args.num_bits, weight.shape)
            stored["weight_packed"] = packing.pack_to_int32(codes[:, back].contiguous(), args.num_bits)
            stored["weight_g_idx"] = index
            decoded = decoded[:, back].contiguous()
        if scheme.input_activations and not scheme.input_activations.dynamic:
            stored["input_scale"] = torch.tensor([0.0125], dtype=dtype)
        return stored, decoded

    def forward(self, model: torch.nn.Module, names: list) -> None:
        """Has the quantized layers' inputs rounded to int8 per token, from a scale of the largest magnitude / 127.

        compressed-tensors' own forward divides by 127.5, which puts each token's largest input, where negative, exactly on the
        border between -127 and -128: the last bit of a sum would decide. Those who run such checkpoints (vLLM) divide by 127.
        """

        def rounded(value: torch.Tensor) -> torch.Tensor:
            if model.shake:
                noise = torch.randn(value.shape, generator=model.generator)
                value = value + model.shake * value.pow(2).mean(-1, keepdim=True).sqrt() * noise
            scale = value.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
            return (value / scale).round().clamp(-127, 127) * scale

        for name in names:
            args = self.scheme(name).input_activations
            if args and args.type == "int":
                model.rounds = True
                model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: (rounded(inputs[0]),))


class Fp8:
    """transformers' fine-grained fp8: float8_e4m3fn with f32 scales of blocks, or one scale of the whole tensor."""

    def __init__(self, block: tuple | None, static: bool = False):
        self.block, self.static = block, static

    def config(self, dtype: str, skip: list) -> dict:
        return {
            "activation_scheme": "static" if self.static else "dynamic", "modules_to_not_convert": ["lm_head", *skip],
            "quant_method": "fp8", "weight_block_size": list(self.block) if self.block else None,
        } | ({} if self.static else {"fmt": "e4m3"})

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        from transformers.integrations.finegrained_fp8 import FP8Linear, _dequantize_fp8_weight

        down, across = self.block or weight.shape
        rows, width = weight.shape
        padded = torch.zeros(-(-rows // down) * down, -(-width // across) * across)
        padded[:rows, :width] = weight
        tiles = padded.unflatten(1, (-1, across)).unflatten(0, (-1, down))  # [tiles down, down, tiles across, across]
        scale = tiles.abs().amax((1, 3)) / 448
        codes = (tiles / scale[:, None, :, None]).clamp(-448, 448).flatten(2).flatten(0, 1)[:rows, :width].to(torch.float8_e4m3fn)
        stored = {"weight": codes.contiguous(), "weight_scale_inv": scale if self.block else scale.reshape([])}
        if self.static:
            stored["activation_scale"] = torch.tensor(0.0125)
        layer = FP8Linear(width, rows, self.block, "static" if self.static else "dynamic")
        for part, tensor in stored.items():
            expected = getattr(layer, part)
            assert (expected.shape, expected.dtype) == (tensor.shape, tensor.dtype), f"{name}: {part}"
        return stored, _dequantize_fp8_weight(codes, stored["weight_scale_inv"], self.block, torch.float32)


class Fbgemm:
    """FBGEMM's fp8 as transformers stores it: a scale [out, 1] per row. Its kernels need a GPU: rounded and decoded here by hand."""

    def config(self, dtype: str, skip: list) -> dict:
        return {"activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head", *skip], "quant_method": "fbgemm_fp8"}

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        scale = weight.abs().amax(1, keepdim=True) / 448
        codes = (weight / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        return {"weight": codes, "weight_scale": scale}, codes.float() * scale


class BitNet:
    """BitNet b1.58 as transformers packs it, computed by transformers' own layers, which round their inputs.

    `head`: the output head is packed, too.
    """

    worst = 0.7  # of three values

    def __init__(self, kind: str, head: bool = False):
        self.kind, self.head, self.packed = kind, head, {}

    def config(self, dtype: str, skip: list) -> dict:
        named = {"modules_to_not_convert": skip} if self.head else {}
        return {"quant_method": "bitnet", "linear_class": self.kind, "quantization_mode": "offline"} | named

    def encode(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> tuple[dict, torch.Tensor]:
        from transformers.integrations.bitnet import pack_weights

        mean = weight.abs().mean().reshape(1)
        scale = (mean if self.kind == "autobitlinear" else 1 / mean).to(dtype)
        codes = (weight / mean).round().clamp(-1, 1)
        stored = {"weight": pack_weights(codes.clone()), "weight_scale": scale}
        self.packed[name] = (codes, stored)
        return stored, codes * (scale.float() if self.kind == "autobitlinear" else 1 / scale.float())

    def forward(self, model: torch.nn.Module, names: list) -> None:
        from transformers.integrations.bitnet import AutoBitLinear, BitLinear

        def shake(module, inputs):
            value = inputs[0]
            if model.shake:
                noise = torch.randn(value.shape, generator=model.generator)
                value = value + model.shake * value.pow(2).mean(-1, keepdim=True).sqrt() * noise
            return (value,)

        for name in names:
            plain, (codes, stored) = model.get_submodule(name), self.packed[name]
            shape = dict(in_features=plain.in_features, out_features=plain.out_features, bias=plain.bias is not None)
            if self.kind == "autobitlinear":
                layer = AutoBitLinear(**shape)
                layer.weight.data = codes
            else:
                layer = BitLinear(**shape, dtype=torch.float32)
                layer.weight = stored["weight"]
            layer.weight_scale = stored["weight_scale"].float()
            if plain.bias is not None:
                layer.bias = plain.bias.data
            layer.register_forward_pre_hook(shake)
            model.set_submodule(name, layer)
        model.rounds = True


INT4 = dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)
INT8_ROWS = dict(num_bits=8, type="int", symmetric=True, strategy="channel")
FP8_ROWS = dict(num_bits=8, type="float", symmetric=True, strategy="channel")
TOKENS = dict(num_bits=8, symmetric=True, strategy="token", dynamic=True)

# name: (model, format, type of the unquantized tensors, modules left as they are)
CASES = {
    "bitnet_odd": (
        BITNET | dict(num_attention_heads=6, num_key_value_heads=1, intermediate_size=50, tie_word_embeddings=True),
        BitNet("autobitlinear"), "bfloat16", [],
    ),
    "bitnet_head": (BITNET | dict(intermediate_size=44), BitNet("autobitlinear", head=True), "bfloat16", ["model.layers.0.self_attn.o_proj"]),
    "bitnet_divides": (
        BITNET | dict(model_type="llama", hidden_size=40, num_attention_heads=5, intermediate_size=44, attention_bias=True),
        BitNet("bitlinear"), "float16", [],
    ),
    "bnb_fp4": (TIED, Bnb4("fp4"), "bfloat16", []),
    "bnb_fp4_nested": (QWEN2 | dict(hidden_size=64, intermediate_size=264), Bnb4("fp4", nested=True), "float16", []),
    "bnb_nf4_128": (WIDE, Bnb4("nf4", 128), "bfloat16", []),
    "bnb_nf4_odd": (
        LLAMA | dict(hidden_size=100, num_attention_heads=5, num_key_value_heads=1, intermediate_size=86, tie_word_embeddings=True),
        Bnb4("nf4", nested=True), "bfloat16", [],
    ),
    "bnb_int8": (BYTES, Bnb8(), "float16", []),
    "gptq_v2": (LLAMA | dict(num_key_value_heads=4, intermediate_size=96), Gptq(version=2), "float16", []),
    "gptq_g16": (WIDE, Gptq(group=16, sym=True, auto=True), "float16", []),
    "gptq_channel4": (TIED, Gptq(group=-1), "float16", []),
    "gptq_8bit_act": (BYTES | dict(intermediate_size=96), Gptq(8, order="own"), "bfloat16", []),
    "gptq_act_shared": (QWEN2, Gptq(sym=True, order="shared", scale=torch.bfloat16), "bfloat16", []),
    "gptq_tail": (TIED | dict(hidden_size=80, intermediate_size=112), Gptq(), "float16", []),
    "gptq_borrow": (TIED | dict(intermediate_size=160), Gptq(borrow=True), "float16", []),
    "awq_g32": (WIDE | dict(intermediate_size=64), Awq(32), "float16", [LAST_DOWN]),
    "awq_odd_heads": (WIDE | dict(head_dim=6, num_attention_heads=8, num_key_value_heads=4, intermediate_size=112), Awq(16), "float16", []),
    "ct_w4_asym": (QWEN2, Ct(dict(format="pack-quantized", weights=INT4 | dict(symmetric=False))), "bfloat16", []),
    "ct_w4_channel": (
        LLAMA | dict(intermediate_size=172),
        Ct(dict(format="pack-quantized", weights=INT4 | dict(strategy="channel", group_size=None))), "bfloat16", [],
    ),
    "ct_w4_actorder": (WIDE | dict(intermediate_size=64), Ct(dict(format="pack-quantized", weights=INT4), ordered=True), "bfloat16", []),
    "ct_w8_packed": (BYTES | dict(intermediate_size=96), Ct(dict(format="pack-quantized", weights=INT4 | dict(num_bits=8))), "bfloat16", []),
    "ct_w8a8": (
        BYTES | dict(hidden_size=40, intermediate_size=48),  # few enough inputs that a seed puts none near a border
        Ct(dict(format="int-quantized", weights=INT8_ROWS, inputs=TOKENS | dict(type="int"))), "bfloat16", [],
    ),
    "ct_int8": (BYTES, Ct(dict(format="int-quantized", weights=INT8_ROWS)), "bfloat16", [LAST_DOWN]),
    "ct_fp8_channel": (
        BYTES, Ct(dict(format="float-quantized", weights=FP8_ROWS, inputs=TOKENS | dict(type="float"))), "bfloat16", [],
    ),
    "ct_fp8_tensor": (
        BYTES,
        Ct(dict(format="float-quantized", weights=FP8_ROWS | dict(strategy="tensor"), inputs=FP8_ROWS | dict(strategy="tensor"))),
        "bfloat16", [],
    ),
    "ct_mixed_bits": (
        TIED | dict(intermediate_size=160),
        Ct(
            dict(format="pack-quantized", weights=INT4 | dict(num_bits=8), targets=["re:.*self_attn.q_proj$"]),
            dict(format="pack-quantized", weights=INT4, targets=["Linear"]),
        ),
        "bfloat16", [],
    ),
    "ct_mixed_formats": (
        TIED | dict(intermediate_size=160),
        Ct(
            dict(format="float-quantized", weights=FP8_ROWS, inputs=TOKENS | dict(type="float"), targets=["re:.*self_attn.(q|o)_proj$"]),
            dict(
                format="pack-quantized", weights=INT4 | dict(symmetric=False),
                targets=["re:.*self_attn.(k|v)_proj$", "re:.*mlp.(gate|up|down)_proj$"],
            ),
        ),
        "bfloat16", [],
    ),
    "fp8_block_odd": (BYTES | dict(hidden_size=72, intermediate_size=80), Fp8((64, 32)), "bfloat16", [LAST_DOWN]),
    "fp8_tensor": (BYTES, Fp8(None, static=True), "bfloat16", []),
    "fbgemm_fp8": (BYTES, Fbgemm(), "bfloat16", []),
}


@torch.no_grad()
def outputs(model: torch.nn.Module, vocab: int, seed: int) -> tuple[dict[str, torch.Tensor], float]:
    """The expected tensors, and the least margin between the two best tokens of a greedy step."""
    generator = torch.Generator().manual_seed(1000 + seed)
    long = torch.randint(3, vocab, (1, LONG), generator=generator)
    short = long[:, 3 : 3 + SHORT].clone()
    made = model.generate(
        short, max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0, return_dict_in_generate=True,
        output_logits=True, attention_mask=torch.ones_like(short),
    )
    logits = torch.stack(made.logits, 1)[0]
    best = logits.topk(2, -1).values
    expected = {
        "input_ids": long, "logits": model(long).logits, "last_hidden_state": model.base_model(long).last_hidden_state,
        "short.input_ids": short, "short.greedy_ids": made.sequences[:, SHORT:].contiguous(), "short.greedy_logits": logits.contiguous(),
    }
    return expected, float((best[:, 0] - best[:, 1]).min())


@torch.no_grad()
def shaken(model: torch.nn.Module, ids: torch.Tensor, most: float) -> float:
    """How far logits move when the inputs that get rounded are off as f32 sums in another order are: some may fall to the other side."""
    plain = model(ids).logits
    model.shake = 1e-6
    far = 0.0
    for _ in range(40):
        far = max(far, float((model(ids).logits - plain).abs().max()))
        if far > most:
            break
    model.shake = 0.0
    return far


def make(name: str) -> None:
    settings, method, dtype, skip = copy.deepcopy(CASES[name])
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    kind = settings.pop("model_type")
    config = transformers.AutoConfig.for_model(kind, **json.loads(json.dumps(settings)))
    stored_type = getattr(torch, dtype)
    for seed in range(2000):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        randomize(model, seed)
        state, decoded = {}, {}
        linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n not in skip]
        if not getattr(method, "head", False):
            linears.remove("lm_head")
        for linear in linears:
            module = model.get_submodule(linear)
            source = skewed(module.weight.detach())
            stored, weight = method.encode(linear, source, stored_type)
            assert weight.shape == source.shape and weight.dtype == torch.float32, linear
            error = float((weight - source).std() / source.std())
            assert error < getattr(method, "worst", 0.4), f"{linear}: decodes to something else, {error}"
            state |= {f"{linear}.{part}": tensor.contiguous() for part, tensor in stored.items()}
            module.weight.data = weight
            decoded[f"dequant.{linear}.weight"] = weight
        for key, parameter in model.named_parameters():
            if f"dequant.{key}" not in decoded:
                parameter.data = parameter.data.to(stored_type).float()
                state[key] = parameter.data.to(stored_type)
        model.tie_weights()
        model.shake, model.rounds, model.generator = 0.0, False, torch.Generator().manual_seed(seed)
        if isinstance(method, (BitNet, Ct)):
            method.forward(model, linears)
        expected, margin = outputs(model, settings["vocab_size"], seed)
        scale = float(expected["logits"].std())
        tolerance = 2e-4 * scale * (10 if model.rounds else 1)
        # near ties would test rounding, and a repeated token nothing
        if margin <= max(0.02, 2 * tolerance) or expected["short.greedy_ids"].unique().numel() < 8:
            continue
        if model.rounds:  # inputs that all stand clear of the borders between codes, in both passes
            all_of_short = torch.cat([expected["short.input_ids"], expected["short.greedy_ids"]], 1)
            if max(shaken(model, ids, tolerance) for ids in (expected["input_ids"], all_of_short)) > tolerance:
                continue
        break
    else:
        raise SystemExit(f"{name}: no seed gives clear tokens")
    kept = {n: decoded[f"dequant.{n}.weight"] for n in ("model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj")}
    if isinstance(method, Ct) and len(method.groups) > 1:
        kept["model.layers.0.self_attn.q_proj"] = decoded["dequant.model.layers.0.self_attn.q_proj.weight"]
    expected |= {f"dequant.{n}.weight": weight.contiguous() for n, weight in kept.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    written = {"model_type": kind} | settings | {"architectures": [type(model).__name__], "torch_dtype": dtype}
    written.setdefault("tie_word_embeddings", bool(config.tie_word_embeddings))
    written["quantization_config"] = method.config(dtype, skip)
    (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    save_file(expected, folder / "expected.safetensors", {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}, seed {seed}"})
    (folder / "tolerance.json").write_text(json.dumps({"f32_abs": round(tolerance, 7)}) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: seed {seed}, logits' deviation {scale:.2f}, least margin {margin:.3f}, tolerance {tolerance:.2g}, {size // 1024} KiB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.compiler.set_stance("force_eager")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        make(name)
