//! `config.json`, as transformers writes it (old Hub style, and the style of transformers 5), checked and with every default
//! resolved: nothing after this sees a missing field.

use serde_json::Value;

use super::rope::RopeConfig;
use crate::error::ConfigError;
use crate::ops::Heads;

/// Values of `model_type` that there is an architecture for.
pub const SUPPORTED: &[&str] = &["llama"];

/// A configuration whose architecture we have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// `model_type` `llama`.
    Llama(LlamaConfig),
}

/// What a Llama is made of; the names are those of transformers' `LlamaConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// D.
    pub hidden_size: u32,
    /// F.
    pub intermediate_size: u32,
    /// Layers.
    pub num_hidden_layers: u32,
    /// H, K, E and the rotary width.
    pub heads: Heads,
    /// V.
    pub vocab_size: u32,
    /// Positions that the model was trained for.
    pub max_position_embeddings: u32,
    /// Of all norms.
    pub rms_norm_eps: f32,
    /// Rotary frequencies.
    pub rope: RopeConfig,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Biases in q, k, v and o.
    pub attention_bias: bool,
    /// Biases in gate, up and down.
    pub mlp_bias: bool,
    /// First token of a sequence, where the config names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence.
    pub eos_token_id: Vec<u32>,
}

impl ModelConfig {
    /// Reads the parsed `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`]: an architecture or setting that we do not have, or a field that is missing or makes no sense.
    pub fn from_json(json: &Value) -> Result<Self, ConfigError> {
        if !json.is_object() {
            return Err(bad("model_type", json, "a JSON object around it"));
        }
        let model_type = match &json["model_type"] {
            Value::String(name) => name.as_str(),
            Value::Null => return Err(ConfigError::FieldMissing { field: "model_type" }),
            other => return Err(bad("model_type", other, "a name")),
        };
        if let Some(method) = json.get("quantization_config").filter(|q| !q.is_null()) {
            let got = method["quant_method"].as_str().unwrap_or("(unknown method)").to_owned();
            let supported = "checkpoints in f32, f16 or bf16, which are quantized while loading (--dtype q4)".into();
            return Err(ConfigError::Unsupported { field: "quantization_config", got, supported });
        }
        match model_type {
            "llama" => Ok(Self::Llama(LlamaConfig::from_json(json)?)),
            other => Err(ConfigError::UnsupportedModel { model_type: shorten(other), supported: SUPPORTED.to_vec() }),
        }
    }
}

impl LlamaConfig {
    fn from_json(json: &Value) -> Result<Self, ConfigError> {
        let hidden_size = size(json, "hidden_size", Some(4096), 1 << 20)?;
        let heads = size(json, "num_attention_heads", Some(32), 1 << 16)?;
        let kv_heads = size(json, "num_key_value_heads", Some(heads), heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of num_attention_heads ({heads})");
            return Err(bad("num_key_value_heads", &json["num_key_value_heads"], &expected));
        }
        let head_dim = match json.get("head_dim").filter(|v| !v.is_null()) {
            Some(_) => size(json, "head_dim", None, MAX_HEAD_DIM)?,
            None if !hidden_size.is_multiple_of(heads) => {
                let expected = format!("a divisor of hidden_size ({hidden_size}), or head_dim beside it");
                return Err(bad("num_attention_heads", &json["num_attention_heads"], &expected));
            }
            None if hidden_size / heads > MAX_HEAD_DIM => {
                return Err(bad(
                    "num_attention_heads",
                    &json["num_attention_heads"],
                    &format!("heads at most {MAX_HEAD_DIM} wide"),
                ));
            }
            None => hidden_size / heads,
        };
        if !head_dim.is_multiple_of(2) {
            return Err(bad("head_dim", &Value::from(head_dim), "an even width, since pairs are rotated"));
        }
        match &json["hidden_act"] {
            Value::Null => {}
            Value::String(act) if act == "silu" || act == "swish" => {}
            other => {
                let got = shorten(&other.to_string());
                return Err(ConfigError::Unsupported { field: "hidden_act", got, supported: "silu".into() });
            }
        }
        Ok(Self {
            hidden_size,
            intermediate_size: size(json, "intermediate_size", Some(11008), 1 << 22)?,
            num_hidden_layers: size(json, "num_hidden_layers", Some(32), 1 << 12)?,
            heads: Heads { heads, kv_heads, head_dim, rotary: head_dim },
            vocab_size: size(json, "vocab_size", Some(32000), 1 << 24)?,
            max_position_embeddings: size(json, "max_position_embeddings", Some(2048), 1 << 28)?,
            rms_norm_eps: number(json, "rms_norm_eps", 1e-6, 0.0..=1.0)? as f32,
            rope: RopeConfig::from_json(json)?,
            tie_word_embeddings: flag(json, "tie_word_embeddings", false)?,
            attention_bias: flag(json, "attention_bias", false)?,
            mlp_bias: flag(json, "mlp_bias", false)?,
            bos_token_id: token_ids(json, "bos_token_id")?.first().copied(),
            eos_token_id: token_ids(json, "eos_token_id")?,
        })
    }
}

/// Widest head that the attention kernel takes.
const MAX_HEAD_DIM: u32 = 256;

/// Ids under `field`: absent, null, one, or a list.
///
/// # Errors
/// [`ConfigError::Field`] for anything that is no id.
pub fn token_ids(json: &Value, field: &'static str) -> Result<Vec<u32>, ConfigError> {
    let id = |v: &Value| {
        v.as_u64().and_then(|v| u32::try_from(v).ok()).ok_or_else(|| bad(field, v, "a token id, or a list of them"))
    };
    match &json[field] {
        Value::Null => Ok(Vec::new()),
        // some configs write -1 for "none"
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => Ok(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => Ok(vec![id(one)?]),
    }
}

fn size(json: &Value, field: &'static str, default: Option<u32>, most: u32) -> Result<u32, ConfigError> {
    match (&json[field], default) {
        (Value::Null, Some(default)) => Ok(default),
        (Value::Null, None) => Err(ConfigError::FieldMissing { field }),
        (value, _) => value
            .as_u64()
            .and_then(|v| u32::try_from(v).ok())
            .filter(|v| (1..=most).contains(v))
            .ok_or_else(|| bad(field, value, &format!("a whole number from 1 to {most}"))),
    }
}

/// A number under `field`, or the default.
///
/// # Errors
/// [`ConfigError::Field`] for anything else, or beyond `range`.
pub fn number(
    json: &Value,
    field: &'static str,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64, ConfigError> {
    match &json[field] {
        Value::Null => Ok(default),
        value => value
            .as_f64()
            .filter(|v| range.contains(v))
            .ok_or_else(|| bad(field, value, &format!("a number from {} to {}", range.start(), range.end()))),
    }
}

/// `true` or `false` under `field`, or the default.
///
/// # Errors
/// [`ConfigError::Field`] for anything else.
pub fn flag(json: &Value, field: &'static str, default: bool) -> Result<bool, ConfigError> {
    match &json[field] {
        Value::Null => Ok(default),
        Value::Bool(value) => Ok(*value),
        other => Err(bad(field, other, "true or false")),
    }
}

pub(super) fn bad(field: &'static str, got: &Value, expected: &str) -> ConfigError {
    ConfigError::Field { field, got: shorten(&got.to_string()), expected: expected.to_owned() }
}

/// At most 60 characters of what a file says go into a message.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
