//! Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al. 2023; Li et al. 2023): attention and feed-forward layer side by side, half of each head
//! rotated, a bias in the output head.

use serde_json::Value;

use super::config::{HeadDefaults, activation, flag, heads, inverse_sqrt, number, size, token_ids};
use super::decoder::{Block, DecoderConfig, EmbeddingConfig, LayerConfig, Names};
use super::llama;
use super::rope::{RopeConfig, RopeContext};
use crate::error::ConfigError;
use crate::nn::{AttentionNames, MlpNames};
use crate::ops::{Act, NormConfig, NormKind};

/// What its tensors are called.
const NAMES: Names = Names {
    attention: (
        "self_attn",
        AttentionNames { o: "dense", qk_norm: ["q_layernorm", "k_layernorm"], ..llama::NAMES.attention.1 },
    ),
    mlp: ("mlp", MlpNames { up: &["fc1"], down: "fc2", sub_norm: "" }),
    mlp_norms: ["", ""],
    norm: "final_layernorm",
    ..llama::NAMES
};

/// Reads the config.
pub(super) fn config(json: &Value) -> Result<DecoderConfig, ConfigError> {
    let hidden_size = size(json, "hidden_size", Some(2048), 1 << 20)?;
    let count = size(json, "num_hidden_layers", Some(24), 1 << 12)? as usize;
    let default = HeadDefaults { heads: 32, kv_heads: None, head_dim: None, partial_rotary_factor: 0.5 };
    let heads = heads(json, "num_attention_heads", hidden_size, default)?;
    let trained = size(json, "max_position_embeddings", Some(2048), 1 << 28)?;
    let context = RopeContext { json, max_position_embeddings: trained, rotary: heads.rotary, theta: 10_000.0 };
    let rope = RopeConfig::from_json(context)?;
    let eos_token_id = match token_ids(json, "eos_token_id")? {
        ids if ids.is_empty() => vec![2],
        ids => ids,
    };
    Ok(DecoderConfig {
        hidden_size,
        vocab_size: size(json, "vocab_size", Some(51200), 1 << 24)?,
        max_position_embeddings: rope.most_positions(trained),
        heads,
        layers: vec![LayerConfig { window: 0, rope: Some(0), scale: inverse_sqrt(f64::from(heads.head_dim)) }; count],
        ropes: vec![rope],
        embedding: EmbeddingConfig { size: hidden_size, scale: 1.0, positions: None },
        norm: NormConfig { kind: NormKind::Layer, eps: number(json, "layer_norm_eps", 1e-5, 0.0..=1.0)? as f32 },
        block: Block::Parallel,
        qkv_bias: true,
        o_bias: true,
        qk_norm: flag(json, "qk_layernorm", false)?,
        sub_norms: false,
        attn_logit_softcapping: 0.0,
        intermediate_size: size(json, "intermediate_size", Some(8192), 1 << 22)?,
        hidden_act: activation(json, "hidden_act", Act::GeluTanh)?,
        gated: false,
        mlp_bias: true,
        tie_word_embeddings: flag(json, "tie_word_embeddings", false)?,
        head_bias: true,
        final_logit_softcapping: 0.0,
        transposed: false,
        names: &NAMES,
        bos_token_id: token_ids(json, "bos_token_id")?.first().copied(),
        eos_token_id,
    })
}
