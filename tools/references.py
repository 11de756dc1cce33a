#!/usr/bin/env python3
"""Makes tests/references: small random checkpoints, and what Hugging Face transformers computes from them.

They cover settings that the models' authors use and no other test material has: rope scalings that follow the length, post-norm
and a narrow embedding (OPT-350m), normalized heads in Phi, nested rope parameters, and so on. Needs torch and transformers; no part
of set-up or of the tests, which only read what is committed:

    python tools/references.py [NAME...]

Each folder has config.json, model.safetensors (bf16) and expected.safetensors (f32, computed in f32 from the bf16 weights):
`input_ids`, `logits`, `last_hidden_state` of one pass over a long prompt, and `short.input_ids`, `short.greedy_ids`,
`short.greedy_logits`: a short prompt and what greedy generation with a cache makes of it. `tolerance.json` says how far f32 may be off.
"""

import json
import math
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "references"
LONG, SHORT, NEW = 40, 14, 26

LLAMA = dict(
    model_type="llama", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=64, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
PHI3 = LLAMA | dict(model_type="phi3")
GEMMA = LLAMA | dict(head_dim=8)
WINDOWED = GEMMA | dict(query_pre_attn_scalar=9, sliding_window=7)

CASES = {
    "rope_dynamic": LLAMA | dict(max_position_embeddings=20, rope_scaling=dict(rope_type="dynamic", factor=4.0)),
    "rope_dynamic_inside": LLAMA | dict(rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    "rope_yarn": LLAMA | dict(
        rope_theta=100.0,
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=0.5),
    ),
    "rope_yarn_mscale": LLAMA | dict(
        head_dim=16,
        rope_parameters=dict(
            rope_theta=10000.0, rope_type="yarn", factor=8.0, original_max_position_embeddings=8, mscale=1.0,
            mscale_all_dim=0.5, truncate=False,
        ),
    ),
    "rope_longrope": PHI3 | dict(
        original_max_position_embeddings=24, sliding_window=None,
        rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.3, 1.2], long_factor=[1.5, 2.5, 4.0, 7.0]),
    ),
    "rope_longrope_partial": PHI3 | dict(
        hidden_size=64, partial_rotary_factor=0.5, original_max_position_embeddings=24, sliding_window=None,
        rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.3, 1.2], long_factor=[1.5, 2.5, 4.0, 7.0]),
    ),
    "bitnet_master": LLAMA | dict(
        model_type="bitnet", hidden_size=36, num_attention_heads=6, num_key_value_heads=1, intermediate_size=50, attention_bias=True,
    ),
    "gemma": GEMMA | dict(model_type="gemma", hidden_act="gelu", head_dim=12),
    "gemma2_uncapped": WINDOWED | dict(
        model_type="gemma2", attn_logit_softcapping=None, final_logit_softcapping=None, num_key_value_heads=1, head_dim=10
    ),
    "gemma3_nested": WINDOWED | dict(
        model_type="gemma3_text", num_hidden_layers=3, layer_types=["full_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=20000.0),
            sliding_attention=dict(rope_type="default", rope_theta=500.0),
        ),
        final_logit_softcapping=4.0,
    ),
    "gpt2_scaled": dict(
        model_type="gpt2", n_embd=30, n_layer=3, n_head=5, n_inner=44, n_positions=48, vocab_size=70, bos_token_id=1,
        eos_token_id=2, scale_attn_by_inverse_layer_idx=True, activation_function="gelu",
    ),
    "opt_post_norm": dict(
        model_type="opt", hidden_size=32, ffn_dim=60, num_hidden_layers=2, num_attention_heads=2, vocab_size=66,
        max_position_embeddings=44, word_embed_proj_dim=20, do_layer_norm_before=False, bos_token_id=2, eos_token_id=2,
        pad_token_id=1,
    ),
    "opt_no_bias": dict(
        model_type="opt", hidden_size=32, ffn_dim=60, num_hidden_layers=2, num_attention_heads=4, vocab_size=66,
        max_position_embeddings=48, enable_bias=False, activation_function="gelu", bos_token_id=2, eos_token_id=2, pad_token_id=1,
        tie_word_embeddings=False,
    ),
    "phi_qk_layernorm": dict(
        model_type="phi", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, vocab_size=65, max_position_embeddings=64, qk_layernorm=True, partial_rotary_factor=0.25,
        bos_token_id=1, eos_token_id=2,
    ),
    "qwen3_bias": LLAMA | dict(model_type="qwen3", head_dim=12, attention_bias=True, use_sliding_window=True,
                               sliding_window=9, max_window_layers=1),
    "llama_odd": LLAMA | dict(hidden_size=42, num_attention_heads=3, num_key_value_heads=3, intermediate_size=50, mlp_bias=True,
                              attention_bias=True, hidden_act="gelu_pytorch_tanh"),
}


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Weights that make outputs differ: fans of unit variance, gains around 1, small biases."""
    generator = torch.Generator().manual_seed(seed)
    gemma = "gemma" in model.config.model_type
    shift = 0.0 if gemma else 1.0  # its gains are stored less one
    embedding = 0.1 if gemma else 0.6  # a tied head would only repeat what a large embedding says
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2:
            value = noise * 1.6 / math.sqrt(parameter.shape[1])
            value = noise * embedding if "emb" in name or "wte" in name or "wpe" in name else value
        elif "norm" in name.lower() or ".ln_" in name:
            value = noise * 0.3 + (0.0 if name.endswith("bias") else shift)
        else:
            value = noise * 0.2
        parameter.data = value.to(torch.bfloat16).float()
    model.tie_weights()


def load(folder: Path) -> torch.nn.Module:
    """A fresh model: some ropes remember the longest sequence that they saw."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


@torch.no_grad()
def outputs(folder: Path, vocab: int, seed: int) -> tuple[dict[str, torch.Tensor], float]:
    """The expected tensors, and the least margin between the two best tokens of a greedy step."""
    generator = torch.Generator().manual_seed(1000 + seed)
    long = torch.randint(3, vocab, (1, LONG), generator=generator)
    short = long[:, 3 : 3 + SHORT].clone()
    result = load(folder)(long, output_hidden_states=True)
    hidden = load(folder).base_model(long).last_hidden_state
    made = load(folder).generate(
        short, max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0, return_dict_in_generate=True,
        output_logits=True, attention_mask=torch.ones_like(short),
    )
    logits = torch.stack(made.logits, 1)[0]
    best = logits.topk(2, -1).values
    expected = {
        "input_ids": long, "logits": result.logits, "last_hidden_state": hidden, "short.input_ids": short,
        "short.greedy_ids": made.sequences[:, SHORT:].contiguous(), "short.greedy_logits": logits.contiguous(),
    }
    return expected, float((best[:, 0] - best[:, 1]).min())


def make(name: str, settings: dict) -> None:
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(settings)
    for seed in range(100):
        kind = settings["model_type"]
        config = transformers.AutoConfig.for_model(kind, **json.loads(json.dumps({k: v for k, v in settings.items() if k != "model_type"})))
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
        randomize(model, seed)
        skip = "lm_head.weight" if config.tie_word_embeddings else ""
        state = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != skip and ".attn.bias" not in k}
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        written = dict(settings) | {"architectures": [type(model).__name__], "torch_dtype": "bfloat16"}
        written.setdefault("tie_word_embeddings", bool(config.tie_word_embeddings))
        (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n")
        expected, margin = outputs(folder, settings["vocab_size"], seed)
        # near ties would test rounding, and a repeated token nothing
        if margin > 0.02 and expected["short.greedy_ids"].unique().numel() >= 8:
            break
    else:
        raise SystemExit(f"{name}: no seed gives clear tokens")
    save_file(expected, folder / "expected.safetensors", {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}, seed {seed}"})
    scale = float(expected["logits"].std())
    (folder / "tolerance.json").write_text(json.dumps({"f32_abs": round(2e-4 * scale, 7)}) + "\n")
    print(f"{name}: seed {seed}, logits' deviation {scale:.2f}, least margin {margin:.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
