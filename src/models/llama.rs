//! Llama (Touvron et al. 2023) and its kin: Mistral (Jiang et al. 2023; sliding window), Phi-3 (Abdin et al. 2024; fused weights),
//! Qwen2 (Yang et al. 2024; biases in q, k, v), Qwen3 (2025; normalized heads), SmolLM3 (2025; some layers without rotation), BitNet b1.58
//! (Ma et al. 2024, 2025; norms before each last product, squared ReLU).

use serde_json::Value;

use super::config::{HeadDefaults, activation, bad, flag, heads, inverse_sqrt, list, number, size, token_ids};
use super::decoder::{Block, DecoderConfig, EmbeddingConfig, LayerConfig, Names};
use super::rope::{RopeConfig, RopeContext};
use crate::error::ConfigError;
use crate::nn::{AttentionNames, MlpNames};
use crate::ops::{Act, NormConfig, NormKind};

/// What its tensors are called.
pub(super) const NAMES: Names = Names {
    base: &["model", ""],
    embed: "embed_tokens",
    positions: "",
    layers: "layers",
    attention: (
        "self_attn",
        AttentionNames {
            qkv: &["q_proj", "k_proj", "v_proj"],
            o: "o_proj",
            qk_norm: ["q_norm", "k_norm"],
            sub_norm: "attn_sub_norm",
        },
    ),
    mlp: ("mlp", MlpNames { up: &["gate_proj", "up_proj"], down: "down_proj", sub_norm: "ffn_sub_norm" }),
    attention_norms: ["input_layernorm", ""],
    mlp_norms: ["post_attention_layernorm", ""],
    norm: "norm",
    head: "lm_head",
};

/// And in Phi-3.
const FUSED: Names = Names {
    attention: ("self_attn", AttentionNames { qkv: &["qkv_proj"], ..NAMES.attention.1 }),
    mlp: ("mlp", MlpNames { up: &["gate_up_proj"], ..NAMES.mlp.1 }),
    ..NAMES
};

/// What transformers takes where a config is silent.
struct Defaults {
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    heads: HeadDefaults,
    vocab_size: u32,
    max_position_embeddings: u32,
    rms_norm_eps: f64,
    rope_theta: f64,
    tie_word_embeddings: bool,
}

impl Defaults {
    /// Of transformers' `*Config` of this `model_type`.
    fn of(model_type: &str) -> Self {
        let heads = HeadDefaults { heads: 32, kv_heads: None, head_dim: None, partial_rotary_factor: 1.0 };
        let llama = Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            heads,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: false,
        };
        match model_type {
            "mistral" => Self {
                intermediate_size: 14336,
                heads: HeadDefaults { kv_heads: Some(8), ..heads },
                max_position_embeddings: 131_072,
                ..llama
            },
            "phi3" => Self {
                hidden_size: 3072,
                intermediate_size: 8192,
                vocab_size: 32064,
                max_position_embeddings: 4096,
                rms_norm_eps: 1e-5,
                ..llama
            },
            "qwen2" | "qwen3" => Self {
                intermediate_size: 22016,
                heads: HeadDefaults { kv_heads: Some(32), head_dim: (model_type == "qwen3").then_some(128), ..heads },
                vocab_size: 151_936,
                max_position_embeddings: 32768,
                ..llama
            },
            "smollm3" => Self {
                hidden_size: 2048,
                num_hidden_layers: 36,
                heads: HeadDefaults { heads: 16, kv_heads: Some(4), ..heads },
                vocab_size: 128_256,
                max_position_embeddings: 32768,
                rope_theta: 2_000_000.0,
                tie_word_embeddings: true,
                ..llama
            },
            "bitnet" => Self {
                hidden_size: 2560,
                intermediate_size: 6912,
                num_hidden_layers: 30,
                heads: HeadDefaults { heads: 20, kv_heads: Some(5), ..heads },
                vocab_size: 128_256,
                rms_norm_eps: 1e-5,
                rope_theta: 500_000.0,
                ..llama
            },
            _ => llama,
        }
    }
}

/// Reads the config of `model_type`.
pub(super) fn config(json: &Value, model_type: &str) -> Result<DecoderConfig, ConfigError> {
    let default = Defaults::of(model_type);
    let hidden_size = size(json, "hidden_size", Some(default.hidden_size), 1 << 20)?;
    let num_hidden_layers = size(json, "num_hidden_layers", Some(default.num_hidden_layers), 1 << 12)?;
    let heads = heads(json, "num_attention_heads", hidden_size, default.heads)?;
    let attention_bias = match model_type {
        "mistral" | "phi3" | "qwen2" => false,
        _ => flag(json, "attention_bias", false)?,
    };
    let trained = size(json, "max_position_embeddings", Some(default.max_position_embeddings), 1 << 28)?;
    let context =
        RopeContext { json, max_position_embeddings: trained, rotary: heads.rotary, theta: default.rope_theta };
    let rope = RopeConfig::from_json(context)?;
    Ok(DecoderConfig {
        hidden_size,
        vocab_size: size(json, "vocab_size", Some(default.vocab_size), 1 << 24)?,
        max_position_embeddings: rope.most_positions(trained),
        heads,
        layers: layers(json, model_type, num_hidden_layers as usize, inverse_sqrt(f64::from(heads.head_dim)))?,
        ropes: vec![rope],
        embedding: EmbeddingConfig { size: hidden_size, scale: 1.0, positions: None },
        norm: NormConfig {
            kind: NormKind::Rms,
            eps: number(json, "rms_norm_eps", default.rms_norm_eps, 0.0..=1.0)? as f32,
        },
        block: Block::Pre,
        qkv_bias: attention_bias || model_type == "qwen2",
        o_bias: attention_bias,
        qk_norm: model_type == "qwen3",
        sub_norms: model_type == "bitnet",
        attn_logit_softcapping: 0.0,
        intermediate_size: size(json, "intermediate_size", Some(default.intermediate_size), 1 << 22)?,
        hidden_act: activation(json, "hidden_act", if model_type == "bitnet" { Act::Relu2 } else { Act::Silu })?,
        gated: true,
        mlp_bias: matches!(model_type, "llama" | "smollm3") && flag(json, "mlp_bias", false)?,
        tie_word_embeddings: flag(json, "tie_word_embeddings", default.tie_word_embeddings)?,
        head_bias: false,
        final_logit_softcapping: 0.0,
        transposed: false,
        names: if model_type == "phi3" { &FUSED } else { &NAMES },
        bos_token_id: token_ids(json, "bos_token_id")?.first().copied(),
        eos_token_id: token_ids(json, "eos_token_id")?,
    })
}

/// Windows and rotation, layer by layer, as transformers derives them.
fn layers(json: &Value, model_type: &str, count: usize, scale: f32) -> Result<Vec<LayerConfig>, ConfigError> {
    let (switch, window_default) = match model_type {
        "llama" | "bitnet" => return Ok(vec![LayerConfig { window: 0, rope: Some(0), scale }; count]),
        "mistral" if json.get("sliding_window").is_none() => (true, Some(4096)),
        "mistral" | "phi3" => (true, None),
        _ => (flag(json, "use_sliding_window", false)?, Some(4096)),
    };
    let window = match &json["sliding_window"] {
        Value::Null => window_default.filter(|_| switch).unwrap_or(0),
        _ if !switch => 0,
        _ => size(json, "sliding_window", None, u32::MAX)?,
    };
    let first_with_window = match model_type {
        "qwen2" | "qwen3" => number(json, "max_window_layers", 28.0, 0.0..=1e6)? as usize,
        _ => 0,
    };
    let rotated = list(json, "no_rope_layers", count)?;
    let interval = size(json, "no_rope_layer_interval", Some(4), 1 << 12)? as usize;
    let slides = sliding(json, count, |i| i >= first_with_window)?;
    let layer = |(i, slides): (usize, bool)| {
        let rotates = match rotated {
            _ if model_type != "smollm3" => true,
            None => !(i + 1).is_multiple_of(interval),
            Some(rotated) => rotated[i] != 0,
        };
        LayerConfig { window: if slides { window } else { 0 }, rope: rotates.then_some(0), scale }
    };
    Ok(slides.into_iter().enumerate().map(layer).collect())
}

/// Which layers slide, by `layer_types`, or where the config is silent by `rule`.
pub(super) fn sliding(json: &Value, count: usize, rule: impl Fn(usize) -> bool) -> Result<Vec<bool>, ConfigError> {
    let Some(types) = list(json, "layer_types", count)? else { return Ok((0..count).map(rule).collect()) };
    let slides = |name: &Value| match name.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            let expected = "full_attention or sliding_attention for each layer";
            Err(bad("layer_types", &json["layer_types"], expected))
        }
    };
    types.iter().map(slides).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ModelConfig;
    use serde_json::json;

    fn config(json: Value) -> DecoderConfig {
        let Ok(ModelConfig::Decoder(config)) = ModelConfig::from_json(&json) else { panic!("a config of a decoder") };
        config
    }

    fn windows(json: Value) -> Vec<u32> {
        config(json).layers.iter().map(|layer| layer.window).collect()
    }

    #[test]
    fn windows_follow_each_familys_rule() {
        let mistral =
            |window: Value| windows(json!({"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": window}));
        assert_eq!(mistral(json!(7)), [7, 7]);
        assert_eq!(mistral(Value::Null), [0, 0], "null switches it off");
        assert_eq!(windows(json!({"model_type": "mistral", "num_hidden_layers": 1})), [4096], "silence does not");
        let qwen = json!({"model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 5, "max_window_layers": 1});
        assert_eq!(windows(qwen.clone()), [0, 0, 0], "off unless use_sliding_window");
        let mut on = qwen;
        on["use_sliding_window"] = json!(true);
        assert_eq!(windows(on.clone()), [0, 5, 5]);
        on["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention"]);
        assert_eq!(windows(on.clone()), [5, 0, 0]);
        for wrong in [json!(["full_attention"]), json!(["chunked", "full_attention", "full_attention"]), json!(3)] {
            on["layer_types"] = wrong;
            assert!(matches!(ModelConfig::from_json(&on), Err(ConfigError::Field { field: "layer_types", .. })));
        }
        assert_eq!(windows(json!({"model_type": "llama", "num_hidden_layers": 1, "sliding_window": 5})), [0]);
    }

    #[test]
    fn smollm3_leaves_every_fourth_layer_unrotated() {
        let rotated = |json: Value| config(json).layers.iter().map(|layer| layer.rope.is_some()).collect::<Vec<_>>();
        let silent = json!({"model_type": "smollm3", "num_hidden_layers": 8});
        assert_eq!(rotated(silent.clone()), [true, true, true, false, true, true, true, false]);
        let mut listed = silent;
        listed["no_rope_layers"] = json!([0, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(rotated(listed), [false, true, true, true, true, true, true, true]);
    }

    #[test]
    fn silence_means_what_transformers_takes() {
        let qwen3 = config(json!({"model_type": "qwen3"}));
        assert_eq!((qwen3.heads.head_dim, qwen3.heads.kv_heads, qwen3.vocab_size), (128, 32, 151_936));
        assert!(qwen3.qk_norm && !qwen3.qkv_bias);
        let qwen2 = config(json!({"model_type": "qwen2"}));
        assert!(qwen2.qkv_bias && !qwen2.o_bias);
        let phi3 = config(json!({"model_type": "phi3", "partial_rotary_factor": 0.5}));
        assert_eq!((phi3.heads.head_dim, phi3.heads.rotary, phi3.names.mlp.1.up.len()), (96, 48, 1));
        let bitnet = config(json!({"model_type": "bitnet"}));
        assert_eq!((bitnet.hidden_size, bitnet.heads.head_dim, bitnet.heads.kv_heads), (2560, 128, 5));
        assert_eq!((bitnet.hidden_act, bitnet.ropes[0].theta, bitnet.norm.eps), (Act::Relu2, 5e5, 1e-5));
        assert!(bitnet.sub_norms && bitnet.gated && !bitnet.tie_word_embeddings);
        let smollm3 = config(json!({"model_type": "smollm3"}));
        assert_eq!((smollm3.ropes[0].theta, smollm3.tie_word_embeddings), (2e6, true));
    }
}
