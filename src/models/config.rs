//! `config.json`, as transformers writes it (old Hub style, and the style of transformers 5), checked and with every default
//! resolved: nothing after this sees a missing field.

use serde_json::Value;

use super::rope::RopeConfig;
use crate::error::ConfigError;
use crate::ops::Heads;

/// Values of `model_type` that there is an architecture for.
pub const SUPPORTED: &[&str] = &["llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3"];

/// A configuration whose architecture we have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// `llama` and what is built like it: `mistral`, `phi3`, `qwen2`, `qwen3`, `smollm3`.
    Llama(LlamaConfig),
}

/// What a Llama, or one of its kin, is made of; the names are those of transformers' `LlamaConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// D.
    pub hidden_size: u32,
    /// F.
    pub intermediate_size: u32,
    /// What differs from layer to layer.
    pub layers: Vec<LayerConfig>,
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
    /// Biases in q, k and v.
    pub qkv_bias: bool,
    /// A bias in o.
    pub o_bias: bool,
    /// Biases in gate, up and down.
    pub mlp_bias: bool,
    /// Query and key heads are normalized each by itself (qwen3).
    pub qk_norm: bool,
    /// The checkpoint holds q, k and v as one tensor, and gate and up as another (phi3).
    pub fused: bool,
    /// First token of a sequence, where the config names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence.
    pub eos_token_id: Vec<u32>,
}

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Keys that a query sees, itself included; 0: all.
    pub window: u32,
    /// Whether queries and keys are rotated (smollm3 leaves some layers out).
    pub rope: bool,
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
        match Defaults::of(model_type) {
            Some(defaults) => Ok(Self::Llama(LlamaConfig::from_json(json, model_type, defaults)?)),
            None => {
                Err(ConfigError::UnsupportedModel { model_type: shorten(model_type), supported: SUPPORTED.to_vec() })
            }
        }
    }
}

/// What transformers takes where a config is silent.
struct Defaults {
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    /// `None`: as many as query heads.
    num_key_value_heads: Option<u32>,
    /// `None`: hidden size / heads.
    head_dim: Option<u32>,
    vocab_size: u32,
    max_position_embeddings: u32,
    rms_norm_eps: f64,
    rope_theta: f64,
    tie_word_embeddings: bool,
}

impl Defaults {
    /// Of transformers' `*Config` of this `model_type`.
    fn of(model_type: &str) -> Option<Self> {
        let llama = Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: false,
        };
        Some(match model_type {
            "llama" => llama,
            "mistral" => Self {
                intermediate_size: 14336,
                num_key_value_heads: Some(8),
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
                num_key_value_heads: Some(32),
                head_dim: (model_type == "qwen3").then_some(128),
                vocab_size: 151_936,
                max_position_embeddings: 32768,
                ..llama
            },
            "smollm3" => Self {
                hidden_size: 2048,
                num_hidden_layers: 36,
                num_attention_heads: 16,
                num_key_value_heads: Some(4),
                vocab_size: 128_256,
                max_position_embeddings: 32768,
                rope_theta: 2_000_000.0,
                tie_word_embeddings: true,
                ..llama
            },
            _ => return None,
        })
    }
}

impl LlamaConfig {
    fn from_json(json: &Value, model_type: &str, default: Defaults) -> Result<Self, ConfigError> {
        let hidden_size = size(json, "hidden_size", Some(default.hidden_size), 1 << 20)?;
        let num_hidden_layers = size(json, "num_hidden_layers", Some(default.num_hidden_layers), 1 << 12)?;
        match &json["hidden_act"] {
            Value::Null => {}
            Value::String(act) if act == "silu" || act == "swish" => {}
            other => {
                let got = shorten(&other.to_string());
                return Err(ConfigError::Unsupported { field: "hidden_act", got, supported: "silu".into() });
            }
        }
        let attention_bias = match model_type {
            "mistral" | "phi3" | "qwen2" => false,
            _ => flag(json, "attention_bias", false)?,
        };
        Ok(Self {
            hidden_size,
            intermediate_size: size(json, "intermediate_size", Some(default.intermediate_size), 1 << 22)?,
            layers: layers(json, model_type, num_hidden_layers as usize)?,
            heads: heads(json, hidden_size, &default)?,
            vocab_size: size(json, "vocab_size", Some(default.vocab_size), 1 << 24)?,
            max_position_embeddings: size(
                json,
                "max_position_embeddings",
                Some(default.max_position_embeddings),
                1 << 28,
            )?,
            rms_norm_eps: number(json, "rms_norm_eps", default.rms_norm_eps, 0.0..=1.0)? as f32,
            rope: RopeConfig::from_json(json, default.rope_theta)?,
            tie_word_embeddings: flag(json, "tie_word_embeddings", default.tie_word_embeddings)?,
            qkv_bias: attention_bias || model_type == "qwen2",
            o_bias: attention_bias,
            mlp_bias: matches!(model_type, "llama" | "smollm3") && flag(json, "mlp_bias", false)?,
            qk_norm: model_type == "qwen3",
            fused: model_type == "phi3",
            bos_token_id: token_ids(json, "bos_token_id")?.first().copied(),
            eos_token_id: token_ids(json, "eos_token_id")?,
        })
    }
}

/// H, K, E and the rotary width.
fn heads(json: &Value, hidden_size: u32, default: &Defaults) -> Result<Heads, ConfigError> {
    let heads = size(json, "num_attention_heads", Some(default.num_attention_heads), 1 << 16)?;
    let kv_heads = size(json, "num_key_value_heads", Some(default.num_key_value_heads.unwrap_or(heads)), heads)?;
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads ({heads})");
        return Err(bad("num_key_value_heads", &json["num_key_value_heads"], &expected));
    }
    let given = json.get("head_dim").is_some_and(|v| !v.is_null());
    let head_dim = match default.head_dim {
        _ if given => size(json, "head_dim", None, MAX_HEAD_DIM)?,
        Some(width) => width,
        None if !hidden_size.is_multiple_of(heads) => {
            let expected = format!("a divisor of hidden_size ({hidden_size}), or head_dim beside it");
            return Err(bad("num_attention_heads", &json["num_attention_heads"], &expected));
        }
        None if hidden_size / heads > MAX_HEAD_DIM => {
            let expected = format!("heads at most {MAX_HEAD_DIM} wide");
            return Err(bad("num_attention_heads", &json["num_attention_heads"], &expected));
        }
        None => hidden_size / heads,
    };
    let factor = match &json["rope_parameters"]["partial_rotary_factor"] {
        Value::Null => number(json, "partial_rotary_factor", 1.0, 0.0..=1.0)?,
        _ => number(&json["rope_parameters"], "partial_rotary_factor", 1.0, 0.0..=1.0)?,
    };
    let rotary = (f64::from(head_dim) * factor) as u32;
    if !rotary.is_multiple_of(2) {
        return Err(bad("head_dim", &Value::from(head_dim), "an even rotary width, since pairs are rotated"));
    }
    Ok(Heads { heads, kv_heads, head_dim, rotary })
}

/// Windows and rotation, layer by layer, as transformers derives them.
fn layers(json: &Value, model_type: &str, count: usize) -> Result<Vec<LayerConfig>, ConfigError> {
    let (switch, window_default) = match model_type {
        "llama" => return Ok(vec![LayerConfig { window: 0, rope: true }; count]),
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
    let types = list(json, "layer_types", count)?;
    let rotated = list(json, "no_rope_layers", count)?;
    let interval = size(json, "no_rope_layer_interval", Some(4), 1 << 12)? as usize;
    (0..count)
        .map(|i| {
            let slides = match types.map(|types| types[i].as_str()) {
                None => i >= first_with_window,
                Some(Some("sliding_attention")) => true,
                Some(Some("full_attention")) => false,
                Some(_) => {
                    let expected = "full_attention or sliding_attention for each layer";
                    return Err(bad("layer_types", &json["layer_types"], expected));
                }
            };
            let rope = match rotated {
                _ if model_type != "smollm3" => true,
                None => !(i + 1).is_multiple_of(interval),
                Some(rotated) => rotated[i] != 0,
            };
            Ok(LayerConfig { window: if slides { window } else { 0 }, rope })
        })
        .collect()
}

/// A list with an entry for each layer, if there is one.
fn list<'a>(json: &'a Value, field: &'static str, count: usize) -> Result<Option<&'a [Value]>, ConfigError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(json: Value) -> LlamaConfig {
        let ModelConfig::Llama(config) = ModelConfig::from_json(&json).expect("a config");
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
        let rotated = |json: Value| config(json).layers.iter().map(|layer| layer.rope).collect::<Vec<_>>();
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
        assert_eq!((phi3.heads.head_dim, phi3.heads.rotary, phi3.fused), (96, 48, true));
        let smollm3 = config(json!({"model_type": "smollm3"}));
        assert_eq!((smollm3.rope.theta, smollm3.tie_word_embeddings), (2e6, true));
    }
}
