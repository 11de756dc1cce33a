//! Gemma (2024), Gemma 2 (Riviere et al. 2024; norms on both sides, bounded scores and logits, every other layer with a window)
//! and the text model of Gemma 3 (2025; normalized heads, a rope of their own for layers with a window).

use serde_json::Value;

use super::config::{HeadDefaults, activation, flag, heads, inverse_sqrt, number, only, size, token_ids};
use super::decoder::{Block, DecoderConfig, EmbeddingConfig, LayerConfig, Names};
use super::llama;
use super::rope::{RopeConfig, RopeContext};
use crate::error::ConfigError;
use crate::ops::{Act, NormConfig, NormKind};

/// What its tensors are called: as in Llama, with more norms. Gemma 3's multimodal checkpoints hold the text model in a scope.
const NAMES: Names = Names {
    base: &["model", "language_model.model", "model.language_model", ""],
    attention_norms: ["input_layernorm", "post_attention_layernorm"],
    mlp_norms: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    ..llama::NAMES
};

/// What transformers takes where a config is silent.
struct Defaults {
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    heads: HeadDefaults,
    vocab_size: u32,
    max_position_embeddings: u32,
    /// Of attention scores, and of logits; 0: off.
    softcaps: [f64; 2],
}

impl Defaults {
    fn of(model_type: &str) -> Self {
        let heads = HeadDefaults { heads: 8, kv_heads: Some(4), head_dim: Some(256), partial_rotary_factor: 1.0 };
        let gemma2 = Self {
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            heads,
            vocab_size: 256_000,
            max_position_embeddings: 8192,
            softcaps: [50.0, 30.0],
        };
        match model_type {
            "gemma" => Self {
                hidden_size: 3072,
                intermediate_size: 24576,
                num_hidden_layers: 28,
                heads: HeadDefaults { heads: 16, kv_heads: Some(16), ..heads },
                softcaps: [0.0, 0.0],
                ..gemma2
            },
            "gemma2" => gemma2,
            _ => Self { vocab_size: 262_208, max_position_embeddings: 131_072, softcaps: [0.0, 0.0], ..gemma2 },
        }
    }
}

/// Reads the config of `model_type`.
pub(super) fn config(json: &Value, model_type: &str) -> Result<DecoderConfig, ConfigError> {
    // a multimodal checkpoint: its text model is what runs
    let text = &json["text_config"];
    let (json, model_type) = if text.is_object() { (text, "gemma3_text") } else { (json, model_type) };
    only(json, "use_bidirectional_attention", &Value::Bool(false))?;
    let default = Defaults::of(model_type);
    let (first, second) = (model_type == "gemma", model_type == "gemma2");
    let third = !first && !second;
    let hidden_size = size(json, "hidden_size", Some(default.hidden_size), 1 << 20)?;
    let heads = heads(json, "num_attention_heads", hidden_size, default.heads)?;
    let trained = size(json, "max_position_embeddings", Some(default.max_position_embeddings), 1 << 28)?;
    let context = RopeContext { json, max_position_embeddings: trained, rotary: heads.rotary, theta: 10_000.0 };
    let ropes = if third { dual_ropes(context)? } else { vec![RopeConfig::from_json(context)?] };
    let count = size(json, "num_hidden_layers", Some(default.num_hidden_layers), 1 << 12)? as usize;
    let bias = flag(json, "attention_bias", false)?;
    let hidden_act = match activation(json, if first { "hidden_act" } else { "hidden_activation" }, Act::GeluTanh)? {
        // the first one's configs say gelu, and mean the approximation that the model was trained with
        Act::Gelu if first => Act::GeluTanh,
        act => act,
    };
    // gemma 3 has the field, and transformers does not use it
    let attn_logit_softcapping = if third { 0.0 } else { cap(json, "attn_logit_softcapping", default.softcaps[0])? };
    Ok(DecoderConfig {
        hidden_size,
        vocab_size: size(json, "vocab_size", Some(default.vocab_size), 1 << 24)?,
        max_position_embeddings: ropes[0].most_positions(trained),
        heads,
        layers: layers(json, model_type, count, f64::from(heads.head_dim))?,
        ropes,
        embedding: EmbeddingConfig {
            size: hidden_size,
            scale: (f64::from(hidden_size)).sqrt() as f32,
            positions: None,
        },
        norm: NormConfig { kind: NormKind::RmsPlusOne, eps: number(json, "rms_norm_eps", 1e-6, 0.0..=1.0)? as f32 },
        block: if first { Block::Pre } else { Block::Sandwich },
        qkv_bias: bias,
        o_bias: bias,
        qk_norm: third,
        sub_norms: false,
        attn_logit_softcapping,
        intermediate_size: size(json, "intermediate_size", Some(default.intermediate_size), 1 << 22)?,
        hidden_act,
        gated: true,
        mlp_bias: false,
        tie_word_embeddings: flag(json, "tie_word_embeddings", true)?,
        head_bias: false,
        final_logit_softcapping: cap(json, "final_logit_softcapping", default.softcaps[1])?,
        transposed: false,
        names: if first { &llama::NAMES } else { &NAMES },
        bos_token_id: Some(token_ids(json, "bos_token_id")?.first().copied().unwrap_or(2)),
        eos_token_id: match token_ids(json, "eos_token_id")? {
            ids if ids.is_empty() => vec![1],
            ids => ids,
        },
    })
}

/// A bound: 0 where the config says null, the default where it says nothing.
fn cap(json: &Value, field: &'static str, default: f64) -> Result<f32, ConfigError> {
    let default = if json.get(field).is_some() { 0.0 } else { default };
    Ok(number(json, field, default, 0.0..=1e30)? as f32)
}

/// Windows, ropes and scales, layer by layer.
fn layers(json: &Value, model_type: &str, count: usize, head_dim: f64) -> Result<Vec<LayerConfig>, ConfigError> {
    if model_type == "gemma" {
        return Ok(vec![LayerConfig { window: 0, rope: Some(0), scale: inverse_sqrt(head_dim) }; count]);
    }
    let third = model_type != "gemma2";
    let pattern = if third { size(json, "sliding_window_pattern", Some(6), 1 << 12)? as usize } else { 2 };
    let window = match json.get("sliding_window") {
        Some(Value::Null) => 0,
        _ => size(json, "sliding_window", Some(4096), u32::MAX)?,
    };
    let scale = inverse_sqrt(number(json, "query_pre_attn_scalar", 256.0, 1e-6..=1e9)?);
    let slides = llama::sliding(json, count, |i| !(i + 1).is_multiple_of(pattern))?;
    let layer = |slides: bool| LayerConfig {
        window: if slides { window } else { 0 },
        rope: Some(usize::from(third && slides)),
        scale,
    };
    Ok(slides.into_iter().map(layer).collect())
}

/// The rope of layers that see everything, and that of layers with a window.
fn dual_ropes(c: RopeContext<'_>) -> Result<Vec<RopeConfig>, ConfigError> {
    let nested = &c.json["rope_parameters"];
    let [full, sliding] = ["full_attention", "sliding_attention"].map(|kind| &nested[kind]);
    let global = RopeContext { theta: 1_000_000.0, ..c };
    // `rope_theta` is the first one's alone
    let local_theta = number(c.json, "rope_local_base_freq", 10_000.0, 1.0..=1e12)?;
    let local_theta = number(sliding, "rope_theta", local_theta, 1.0..=1e12)?;
    let mut local = RopeConfig::from_parameters(sliding, "rope_parameters", RopeContext { theta: local_theta, ..c })?;
    local.theta = local_theta;
    if nested.is_object() {
        return Ok(vec![RopeConfig::from_parameters(full, "rope_parameters", global)?, local]);
    }
    Ok(vec![RopeConfig::from_parameters(&c.json["rope_scaling"], "rope_scaling", global)?, local])
}
