//! OPT (Zhang et al. 2022): layer norm, learned positions from row 2 on, ReLU; OPT-350m with norms after each layer and a narrower
//! embedding.

use serde_json::Value;

use super::config::{HeadDefaults, activation, flag, heads, inverse_sqrt, only, size, token_ids};
use super::decoder::{Block, DecoderConfig, EmbeddingConfig, LayerConfig, Names};
use crate::error::ConfigError;
use crate::nn::{AttentionNames, MlpNames};
use crate::ops::{Act, Heads, NormConfig, NormKind};

/// What its tensors are called.
const NAMES: Names = Names {
    base: &["model.decoder", "decoder", ""],
    embed: "embed_tokens",
    positions: "embed_positions",
    layers: "layers",
    attention: (
        "self_attn",
        AttentionNames { qkv: &["q_proj", "k_proj", "v_proj"], o: "out_proj", qk_norm: ["", ""], sub_norm: "" },
    ),
    mlp: ("", MlpNames { up: &["fc1"], down: "fc2", sub_norm: "" }),
    attention_norms: ["self_attn_layer_norm", "self_attn_layer_norm"],
    mlp_norms: ["final_layer_norm", "final_layer_norm"],
    norm: "final_layer_norm",
    head: "lm_head",
};
/// Rows of the table of positions before that of position 0.
const FIRST_POSITION: u32 = 2;

/// Reads the config.
pub(super) fn config(json: &Value) -> Result<DecoderConfig, ConfigError> {
    only(json, "_remove_final_layer_norm", &Value::Bool(false))?;
    only(json, "layer_norm_elementwise_affine", &Value::Bool(true))?;
    let hidden_size = size(json, "hidden_size", Some(768), 1 << 20)?;
    let count = size(json, "num_hidden_layers", Some(12), 1 << 12)? as usize;
    let default = HeadDefaults { heads: 12, kv_heads: None, head_dim: None, partial_rotary_factor: 0.0 };
    let heads = heads(json, "num_attention_heads", hidden_size, default)?;
    // multi-head always, whatever else the file says
    let heads = Heads { kv_heads: heads.heads, rotary: 0, ..heads };
    let scale = inverse_sqrt(f64::from(heads.head_dim));
    let bias = flag(json, "enable_bias", true)?;
    let eos_token_id = match token_ids(json, "eos_token_id")? {
        ids if ids.is_empty() => vec![2],
        ids => ids,
    };
    Ok(DecoderConfig {
        hidden_size,
        vocab_size: size(json, "vocab_size", Some(50272), 1 << 24)?,
        max_position_embeddings: size(json, "max_position_embeddings", Some(2048), 1 << 28)?,
        heads,
        layers: vec![LayerConfig { window: 0, rope: None, scale }; count],
        ropes: Vec::new(),
        embedding: EmbeddingConfig {
            size: size(json, "word_embed_proj_dim", Some(hidden_size), 1 << 20)?,
            scale: 1.0,
            positions: Some(FIRST_POSITION),
        },
        norm: NormConfig { kind: NormKind::Layer, eps: 1e-5 },
        block: if flag(json, "do_layer_norm_before", true)? { Block::Pre } else { Block::Post },
        qkv_bias: bias,
        o_bias: bias,
        qk_norm: false,
        sub_norms: false,
        attn_logit_softcapping: 0.0,
        intermediate_size: size(json, "ffn_dim", Some(3072), 1 << 22)?,
        hidden_act: activation(json, "activation_function", Act::Relu)?,
        gated: false,
        mlp_bias: bias,
        tie_word_embeddings: flag(json, "tie_word_embeddings", true)?,
        head_bias: false,
        final_logit_softcapping: 0.0,
        transposed: false,
        names: &NAMES,
        bos_token_id: Some(token_ids(json, "bos_token_id")?.first().copied().unwrap_or(2)),
        eos_token_id,
    })
}
