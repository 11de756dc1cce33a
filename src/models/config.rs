//! `config.json`, as transformers writes it (old Hub style, and the style of transformers 5), checked and with every default
//! resolved: nothing after this sees a missing field. Each family's file reads its own.

use serde_json::Value;

use super::decoder::{Decoder, DecoderConfig};
use super::encoder::{Encoder, EncoderConfig};
use super::{bert, gemma, gpt2, llama, opt, phi};
use crate::error::{ConfigError, Error};
use crate::nn::WeightTypes;
use crate::ops::{Act, Heads};
use crate::weights::Weights;

/// Values of `model_type` that there is an architecture for.
pub const SUPPORTED: &[&str] = &[
    "bert",
    "bitnet",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt2",
    "llama",
    "mistral",
    "opt",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
];

/// A configuration whose architecture we have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// Generates text.
    Decoder(DecoderConfig),
    /// Makes vectors of text.
    Encoder(EncoderConfig),
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
        let config = match model_type {
            "bert" => return Ok(Self::Encoder(bert::config(json)?)),
            "bitnet" | "llama" | "mistral" | "phi3" | "qwen2" | "qwen3" | "smollm3" => llama::config(json, model_type)?,
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" => gemma::config(json, model_type)?,
            "gpt2" => gpt2::config(json)?,
            "opt" => opt::config(json)?,
            "phi" => phi::config(json)?,
            _ => {
                let supported = SUPPORTED.to_vec();
                return Err(ConfigError::UnsupportedModel { model_type: shorten(model_type), supported });
            }
        };
        Ok(Self::Decoder(config))
    }

    /// The task that such a model is for, as transformers names pipelines.
    #[must_use]
    pub fn task(&self) -> &'static str {
        match self {
            Self::Decoder(_) => "text-generation",
            Self::Encoder(_) => "feature-extraction",
        }
    }

    /// Asks `w` for all weights, to see what they are.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn ask(&self, w: &mut Weights<'_>, types: WeightTypes) -> Result<(), Error> {
        match self {
            Self::Decoder(config) => Decoder::load(w, config, types).map(drop),
            Self::Encoder(config) => Encoder::load(w, config, types).map(drop),
        }
    }
}

/// What transformers takes for heads where a config is silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadDefaults {
    /// H.
    pub heads: u32,
    /// K; `None`: as many as query heads.
    pub kv_heads: Option<u32>,
    /// E; `None`: hidden size / heads.
    pub head_dim: Option<u32>,
    /// The share of a head that is rotated.
    pub partial_rotary_factor: f64,
}

/// H, K, E and the rotary width. The config calls H `field`.
pub(super) fn heads(
    json: &Value,
    field: &'static str,
    hidden_size: u32,
    default: HeadDefaults,
) -> Result<Heads, ConfigError> {
    let heads = size(json, field, Some(default.heads), 1 << 16)?;
    let kv_heads = size(json, "num_key_value_heads", Some(default.kv_heads.unwrap_or(heads)), heads)?;
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of {field} ({heads})");
        return Err(bad("num_key_value_heads", &json["num_key_value_heads"], &expected));
    }
    let given = json.get("head_dim").is_some_and(|v| !v.is_null());
    let head_dim = match default.head_dim {
        _ if given => size(json, "head_dim", None, MAX_HEAD_DIM)?,
        Some(width) => width,
        None if !hidden_size.is_multiple_of(heads) => {
            let expected = format!("a divisor of the hidden size ({hidden_size}), or head_dim beside it");
            return Err(bad(field, &json[field], &expected));
        }
        None if hidden_size / heads > MAX_HEAD_DIM => {
            let expected = format!("heads at most {MAX_HEAD_DIM} wide");
            return Err(bad(field, &json[field], &expected));
        }
        None => hidden_size / heads,
    };
    let scope =
        if json["rope_parameters"]["partial_rotary_factor"].is_null() { json } else { &json["rope_parameters"] };
    let factor = number(scope, "partial_rotary_factor", default.partial_rotary_factor, 0.0..=1.0)?;
    let rotary = (f64::from(head_dim) * factor) as u32;
    if !rotary.is_multiple_of(2) {
        return Err(bad("head_dim", &Value::from(head_dim), "an even rotary width, since pairs are rotated"));
    }
    Ok(Heads { heads, kv_heads, head_dim, rotary })
}

/// The nonlinearity under `field`, by transformers' name for it.
pub(super) fn activation(json: &Value, field: &'static str, default: Act) -> Result<Act, ConfigError> {
    match &json[field] {
        Value::Null => Ok(default),
        Value::String(act) => match act.as_str() {
            "silu" | "swish" => Ok(Act::Silu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Act::GeluTanh),
            "gelu" | "gelu_python" => Ok(Act::Gelu),
            "quick_gelu" => Ok(Act::QuickGelu),
            "relu" => Ok(Act::Relu),
            "relu2" => Ok(Act::Relu2),
            other => {
                let supported = "silu, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, relu, relu2".into();
                Err(ConfigError::Unsupported { field, got: shorten(other), supported })
            }
        },
        other => Err(bad(field, other, "the name of an activation")),
    }
}

/// `1 / sqrt(E)`, what scores are multiplied by in most models.
pub(super) fn inverse_sqrt(v: f64) -> f32 {
    v.powf(-0.5) as f32
}

/// Refuses `field` at any value but `only`, which is also what silence means.
pub(super) fn only(json: &Value, field: &'static str, only: &Value) -> Result<(), ConfigError> {
    match &json[field] {
        Value::Null => Ok(()),
        value if value == only => Ok(()),
        other => Err(ConfigError::Unsupported { field, got: shorten(&other.to_string()), supported: only.to_string() }),
    }
}

/// A list with an entry for each layer, if there is one.
pub(super) fn list<'a>(json: &'a Value, field: &'static str, count: usize) -> Result<Option<&'a [Value]>, ConfigError> {
    match &json[field] {
        Value::Null => Ok(None),
        Value::Array(items) if items.len() == count => Ok(Some(items)),
        other => Err(bad(field, other, &format!("a list of {count} entries, one for each layer"))),
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

pub(super) fn size(json: &Value, field: &'static str, default: Option<u32>, most: u32) -> Result<u32, ConfigError> {
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
