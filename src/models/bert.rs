//! BERT (Devlin et al. 2018), and what is trained in its shape: MiniLM, E5, BGE, GTE, ...

use serde_json::Value;

use super::config::{HeadDefaults, activation, heads, inverse_sqrt, number, only, size};
use super::encoder::{EncoderConfig, Names};
use crate::error::ConfigError;
use crate::nn::{AttentionNames, MlpNames};
use crate::ops::{Act, Heads, NormConfig, NormKind};

/// What its tensors are called.
const NAMES: Names = Names {
    base: &["bert", ""],
    embeddings: [
        "embeddings.word_embeddings",
        "embeddings.position_embeddings",
        "embeddings.token_type_embeddings",
        "embeddings.LayerNorm",
    ],
    layers: "encoder.layer",
    attention: (
        "attention",
        AttentionNames {
            qkv: &["self.query", "self.key", "self.value"],
            o: "output.dense",
            qk_norm: ["", ""],
            sub_norm: "",
        },
        "attention.output.LayerNorm",
    ),
    mlp: (MlpNames { up: &["intermediate.dense"], down: "output.dense", sub_norm: "" }, "output.LayerNorm"),
    pooler: "pooler.dense",
};

/// Reads the config.
pub(super) fn config(json: &Value) -> Result<EncoderConfig, ConfigError> {
    only(json, "is_decoder", &Value::Bool(false))?;
    only(json, "add_cross_attention", &Value::Bool(false))?;
    only(json, "position_embedding_type", &"absolute".into())?;
    let hidden_size = size(json, "hidden_size", Some(768), 1 << 20)?;
    let default = HeadDefaults { heads: 12, kv_heads: None, head_dim: None, partial_rotary_factor: 0.0 };
    let heads = heads(json, "num_attention_heads", hidden_size, default)?;
    Ok(EncoderConfig {
        hidden_size,
        vocab_size: size(json, "vocab_size", Some(30522), 1 << 24)?,
        max_position_embeddings: size(json, "max_position_embeddings", Some(512), 1 << 28)?,
        type_vocab_size: size(json, "type_vocab_size", Some(2), 1 << 16)?,
        // multi-head always, whatever else the file says
        heads: Heads { kv_heads: heads.heads, rotary: 0, ..heads },
        num_hidden_layers: size(json, "num_hidden_layers", Some(12), 1 << 12)?,
        scale: inverse_sqrt(f64::from(heads.head_dim)),
        norm: NormConfig { kind: NormKind::Layer, eps: number(json, "layer_norm_eps", 1e-12, 0.0..=1.0)? as f32 },
        intermediate_size: size(json, "intermediate_size", Some(3072), 1 << 22)?,
        hidden_act: activation(json, "hidden_act", Act::Gelu)?,
        names: &NAMES,
    })
}
