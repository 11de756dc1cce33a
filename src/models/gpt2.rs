//! GPT-2 (Radford et al. 2019): layer norm, learned positions, matrices stored transposed.

use serde_json::Value;

use super::config::{HeadDefaults, activation, flag, heads, inverse_sqrt, number, only, size, token_ids};
use super::decoder::{Block, DecoderConfig, EmbeddingConfig, LayerConfig, Names};
use crate::error::ConfigError;
use crate::nn::{AttentionNames, MlpNames};
use crate::ops::{Act, Heads, NormConfig, NormKind};

/// What its tensors are called.
const NAMES: Names = Names {
    base: &["transformer", ""],
    embed: "wte",
    positions: "wpe",
    layers: "h",
    attention: ("attn", AttentionNames { qkv: &["c_attn"], o: "c_proj", qk_norm: ["", ""], sub_norm: "" }),
    mlp: ("mlp", MlpNames { up: &["c_fc"], down: "c_proj", sub_norm: "" }),
    attention_norms: ["ln_1", ""],
    mlp_norms: ["ln_2", ""],
    norm: "ln_f",
    head: "lm_head",
};

/// Reads the config.
pub(super) fn config(json: &Value) -> Result<DecoderConfig, ConfigError> {
    only(json, "add_cross_attention", &Value::Bool(false))?;
    // the names of other families stand for these, too
    let field = |own: &'static str, common: &'static str| if json[own].is_null() { common } else { own };
    let hidden_size = size(json, field("n_embd", "hidden_size"), Some(768), 1 << 20)?;
    let count = size(json, field("n_layer", "num_hidden_layers"), Some(12), 1 << 12)?;
    let default = HeadDefaults { heads: 12, kv_heads: None, head_dim: None, partial_rotary_factor: 0.0 };
    let heads = heads(json, field("n_head", "num_attention_heads"), hidden_size, default)?;
    // multi-head always, whatever else the file says
    let heads = Heads { kv_heads: heads.heads, rotary: 0, ..heads };
    let scaled = if flag(json, "scale_attn_weights", true)? { inverse_sqrt(f64::from(heads.head_dim)) } else { 1.0 };
    let by_layer = flag(json, "scale_attn_by_inverse_layer_idx", false)?;
    let scale = |i: u32| if by_layer { scaled / (i + 1) as f32 } else { scaled };
    let eos_token_id = match token_ids(json, "eos_token_id")? {
        ids if ids.is_empty() => vec![50256],
        ids => ids,
    };
    Ok(DecoderConfig {
        hidden_size,
        vocab_size: size(json, "vocab_size", Some(50257), 1 << 24)?,
        max_position_embeddings: size(json, field("n_positions", "max_position_embeddings"), Some(1024), 1 << 28)?,
        heads,
        layers: (0..count).map(|i| LayerConfig { window: 0, rope: None, scale: scale(i) }).collect(),
        ropes: Vec::new(),
        embedding: EmbeddingConfig { size: hidden_size, scale: 1.0, positions: Some(0) },
        norm: NormConfig { kind: NormKind::Layer, eps: number(json, "layer_norm_epsilon", 1e-5, 0.0..=1.0)? as f32 },
        block: Block::Pre,
        qkv_bias: true,
        o_bias: true,
        qk_norm: false,
        sub_norms: false,
        attn_logit_softcapping: 0.0,
        intermediate_size: size(json, "n_inner", Some(4 * hidden_size), 1 << 22)?,
        hidden_act: activation(json, "activation_function", Act::GeluTanh)?,
        gated: false,
        mlp_bias: true,
        tie_word_embeddings: flag(json, "tie_word_embeddings", true)?,
        head_bias: false,
        final_logit_softcapping: 0.0,
        transposed: true,
        names: &NAMES,
        bos_token_id: Some(token_ids(json, "bos_token_id")?.first().copied().unwrap_or(50256)),
        eos_token_id,
    })
}
