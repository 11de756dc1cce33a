//! What a GGUF file says of its model, as the config that transformers would have of it; and what llama.cpp's converter has done to
//! weights: names, rotary layout, gains.
//!
//! Keys: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, and for what stands nowhere llama.cpp's loader.

use serde_json::{Map, Value, json};

use super::ModelConfig;
use super::decoder::{DecoderConfig, Names};
use crate::checkpoint::{Checkpoint, Dtype, MetaValue, Metadata};
use crate::error::{CheckpointError, ConfigError, Error, GgufError};
use crate::nn::{AttentionNames, MlpNames};
use crate::ops::NormKind;
use crate::source::Source;

/// `general.architecture`, and the `model_type` of the same network.
const ARCHITECTURES: [(&str, &str); 10] = [
    ("gemma", "gemma"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("gpt2", "gpt2"),
    ("llama", "llama"),
    ("phi2", "phi"),
    ("phi3", "phi3"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("smollm3", "smollm3"),
];

/// Those whose queries and keys llama.cpp's converter has put into the interleaved order.
const INTERLEAVED: [&str; 2] = ["llama", "smollm3"];

/// What tensors are called.
const NAMES: Names = Names {
    base: &[""],
    embed: "token_embd",
    positions: "position_embd",
    layers: "blk",
    attention: (
        "",
        AttentionNames {
            qkv: &["attn_q", "attn_k", "attn_v"],
            o: "attn_output",
            qk_norm: ["attn_q_norm", "attn_k_norm"],
            sub_norm: "attn_sub_norm",
        },
    ),
    mlp: ("", MlpNames { up: &["ffn_gate", "ffn_up"], down: "ffn_down", sub_norm: "ffn_sub_norm" }),
    attention_norms: ["attn_norm", "post_attention_norm"],
    mlp_norms: ["ffn_norm", "post_ffw_norm"],
    norm: "output_norm",
    head: "output",
};

const FUSED: AttentionNames = AttentionNames { qkv: &["attn_qkv"], ..NAMES.attention.1 };
/// Without a gate, or with gate and the way up in one.
const UP: MlpNames = MlpNames { up: &["ffn_up"], ..NAMES.mlp.1 };

/// The same, by whether q, k and v are one tensor, and the gate has none of its own.
static BY_FUSION: [[Names; 2]; 2] = [
    [NAMES, Names { mlp: ("", UP), ..NAMES }],
    [Names { attention: ("", FUSED), ..NAMES }, Names { attention: ("", FUSED), mlp: ("", UP), ..NAMES }],
];

/// Tensors that are part of the config: divisors of rotary frequencies, for short sequences and long ones.
const FACTORS: [&str; 3] = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

/// What `config.json` would say of a GGUF model: of an architecture that we do not have, only its name.
///
/// # Errors
/// [`CheckpointError::Gguf`] for keys that are missing or make no sense; those of the source.
pub async fn json(source: &Source, checkpoint: &Checkpoint, metadata: &Metadata) -> Result<Value, Error> {
    let file = || checkpoint.files().first().cloned().unwrap_or_default();
    let wrong = |error| Error::from(CheckpointError::Gguf { file: file(), error });
    let name = metadata.text("general.architecture").map_err(wrong)?;
    let name = name.ok_or_else(|| wrong(missing("general.architecture")))?;
    let Some((arch, model_type)) = ARCHITECTURES.iter().find(|(arch, _)| *arch == name) else {
        return Ok(json!({ "model_type": name }));
    };
    let mut factors = Vec::new();
    for name in FACTORS {
        factors.push(divisors(source, checkpoint, name).await?);
    }
    Keys { arch, metadata, checkpoint }.json(model_type, &factors).map_err(wrong)
}

/// The config that [`json()`] says, with what differs in the weights.
///
/// # Errors
/// [`ConfigError`]: an architecture that we do not have, or a value out of range.
pub fn config(json: &Value, checkpoint: &Checkpoint) -> Result<ModelConfig, ConfigError> {
    let name = json["model_type"].as_str().unwrap_or_default();
    let Some((arch, _)) = ARCHITECTURES.iter().find(|(_, model_type)| *model_type == name) else {
        let model_type = super::config::shorten(name);
        let supported = ARCHITECTURES.iter().map(|(arch, _)| *arch).collect();
        return Err(ConfigError::UnsupportedModel { model_type, supported });
    };
    Ok(match ModelConfig::from_json(json)? {
        ModelConfig::Decoder(config) => ModelConfig::Decoder(as_stored(config, arch, checkpoint)),
        other => other,
    })
}

/// Whether the tensor of that name is part of the config, and no weight.
#[must_use]
pub fn is_config(name: &str) -> bool {
    FACTORS.contains(&name)
}

/// What `generation_config.json` would say, but for tokens.
///
/// # Errors
/// [`GgufError::Kind`]
pub fn sampling(metadata: &Metadata) -> Result<Map<String, Value>, GgufError> {
    let mut json = Map::new();
    let names = [
        ("temp", "temperature"),
        ("top_k", "top_k"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("penalty_repeat", "repetition_penalty"),
    ];
    for (key, name) in names {
        let key = format!("general.sampling.{key}");
        if let Some(value) = metadata.number(&key)? {
            json.insert(name.to_owned(), if name == "top_k" { json!(value as i64) } else { json!(value) });
        }
    }
    if json.get("temperature").is_some_and(|t| t.as_f64() > Some(0.0)) {
        json.insert("do_sample".to_owned(), true.into());
    }
    Ok(json)
}

fn missing(key: &str) -> GgufError {
    GgufError::KeyMissing { key: key.to_owned() }
}

/// The divisors in the tensor `name`, if there is one.
async fn divisors(source: &Source, checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<f32>>, Error> {
    let Some(info) = checkpoint.get(name) else { return Ok(None) };
    // a divisor for each pair of at most so wide a head
    if info.dtype != Dtype::F32 || info.range.end - info.range.start > 4 << 10 {
        let (tensor, got) = (name.to_owned(), format!("{} {:?}", info.dtype, info.shape));
        let error = GgufError::TensorType { tensor, got, supported: "F32, of at most 1024 elements".to_owned() };
        return Err(CheckpointError::Gguf { file: checkpoint.files()[info.file].clone(), error }.into());
    }
    let bytes = source.read(&checkpoint.files()[info.file], info.range.clone()).await?;
    Ok(Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
}

/// The metadata of one architecture.
struct Keys<'a> {
    arch: &'a str,
    metadata: &'a Metadata,
    checkpoint: &'a Checkpoint,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn has(&self, tensor: &str) -> bool {
        self.checkpoint.get(tensor).is_some()
    }

    /// A size, which may stand there for each layer.
    fn size(&self, name: &str) -> Result<Option<u32>, GgufError> {
        let key = self.key(name);
        let Some(MetaValue::Ints(each)) = self.metadata.get(&key) else { return self.metadata.u32(&key) };
        match each.as_slice() {
            [first, rest @ ..] if rest.iter().all(|n| n == first) => Ok(u32::try_from(*first).ok()),
            _ => {
                let (got, supported) = ("not the same in all layers".to_owned(), "one size for all".to_owned());
                Err(GgufError::Unsupported { key, got, supported })
            }
        }
    }

    fn need(&self, name: &str) -> Result<u32, GgufError> {
        self.size(name)?.ok_or_else(|| missing(&self.key(name)))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, GgufError> {
        self.metadata.number(&self.key(name))
    }

    /// `config.json` of this model.
    fn json(&self, model_type: &str, factors: &[Option<Vec<f32>>]) -> Result<Value, GgufError> {
        if let Some(experts) = self.size("expert_count")?.filter(|experts| *experts > 0) {
            let (key, supported) = (self.key("expert_count"), "models without experts".to_owned());
            return Err(GgufError::Unsupported { key, got: experts.to_string(), supported });
        }
        let (hidden, heads) = (self.need("embedding_length")?, self.need("attention.head_count")?);
        let layers = self.need("block_count")?;
        let head_dim = self.size("attention.key_length")?.unwrap_or(hidden / heads.max(1));
        if let Some(values) = self.size("attention.value_length")?.filter(|values| *values != head_dim) {
            let (key, supported) = (self.key("attention.value_length"), format!("{head_dim}, the width of keys"));
            return Err(GgufError::Unsupported { key, got: values.to_string(), supported });
        }
        // that it is missing is told with the other tensors
        let table = self.checkpoint.get("token_embd.weight").and_then(|info| info.shape.first().copied());
        let context = self.need("context_length")?;
        let mut json = json!({
            "model_type": model_type,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.size("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head_dim,
            "vocab_size": table,
            "max_position_embeddings": context,
            "rope_theta": self.number("rope.freq_base")?.unwrap_or(10_000.0),
            "tie_word_embeddings": !self.has("output.weight"),
        });
        // the names of both kinds of norm, and gpt2's of its own
        let width = if model_type == "gpt2" { "n_inner" } else { "intermediate_size" };
        json[width] = self.need("feed_forward_length")?.into();
        let eps = match self.number("attention.layer_norm_rms_epsilon")? {
            Some(eps) => eps,
            None => {
                let eps = self.number("attention.layer_norm_epsilon")?;
                eps.ok_or_else(|| missing(&self.key("attention.layer_norm_rms_epsilon")))?
            }
        };
        for name in ["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"] {
            json[name] = eps.into();
        }
        if let Some(rotary) = self.size("rope.dimension_count")?.filter(|_| head_dim > 0) {
            // half of one more, so that rounding down makes it whole again
            json["partial_rotary_factor"] = ((f64::from(rotary) + 0.5) / f64::from(head_dim)).min(1.0).into();
        }
        json["rope_scaling"] = self.rope_scaling(context, factors)?;
        json["sliding_window"] = self.size("attention.sliding_window")?.filter(|window| *window > 0).into();
        self.gemma(&mut json, model_type, [hidden, heads, head_dim, layers])?;
        for (name, id) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
            json[name] = self.metadata.u32(&format!("tokenizer.ggml.{id}_token_id"))?.into();
        }
        Ok(json)
    }

    /// What only Gemmas have.
    fn gemma(&self, json: &mut Value, model_type: &str, sizes: [u32; 4]) -> Result<(), GgufError> {
        let [hidden, heads, head_dim, layers] = sizes;
        let (second, third) = (model_type == "gemma2", model_type == "gemma3_text");
        if second {
            json["attn_logit_softcapping"] = self.number("attn_logit_softcapping")?.unwrap_or(50.0).into();
            json["final_logit_softcapping"] = self.number("final_logit_softcapping")?.unwrap_or(30.0).into();
        }
        if second || third {
            // of the 27B models, whose layers tell them, queries are scaled by another width, which no key has
            let largest = layers == if second { 46 } else { 62 };
            let scaled = if largest { hidden / heads.max(1) } else { head_dim };
            let scale = self.number("attention.scale")?.filter(|scale| *scale > 0.0);
            json["query_pre_attn_scalar"] = scale.map_or(f64::from(scaled), |scale| scale.powi(-2)).into();
        }
        if third {
            json["final_logit_softcapping"] = self.number("final_logit_softcapping")?.into();
            json["rope_local_base_freq"] = self.number("rope.freq_base_swa")?.unwrap_or(10_000.0).into();
            match self.metadata.get(&self.key("attention.sliding_window_pattern")) {
                Some(MetaValue::Ints(slides)) => {
                    let kind = |slides: &i64| if *slides == 0 { "full_attention" } else { "sliding_attention" };
                    json["layer_types"] = slides.iter().map(kind).collect::<Vec<_>>().into();
                }
                Some(_) => json["sliding_window_pattern"] = self.size("attention.sliding_window_pattern")?.into(),
                None => {}
            }
        }
        Ok(())
    }

    fn rope_scaling(&self, context: u32, factors: &[Option<Vec<f32>>]) -> Result<Value, GgufError> {
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?.unwrap_or("none");
        let factor = match self.number("rope.scaling.factor")? {
            None => self.number("rope.scale_linear")?,
            factor => factor,
        };
        let factor = factor.filter(|factor| *factor > 0.0).unwrap_or(1.0);
        let original = self.size("rope.scaling.original_context_length")?.unwrap_or(context);
        let attention = match self.number("rope.scaling.yarn_attn_factor")? {
            None => self.number("rope.scaling.attn_factor")?,
            factor => factor,
        };
        let attention = attention.unwrap_or(1.0);
        let [all, short, long] = factors else { return Ok(Value::Null) };
        if let Some((short, long)) = short.as_ref().zip(long.as_ref()) {
            return Ok(json!({
                "rope_type": "longrope", "short_factor": short, "long_factor": long, "attention_factor": attention,
                "original_max_position_embeddings": original,
            }));
        }
        if let Some(all) = all {
            // Llama 3's frequencies, as divisors; a linear factor goes on top
            let by = if kind == "linear" { factor } else { 1.0 };
            let all: Vec<_> = all.iter().map(|divisor| f64::from(*divisor) * by).collect();
            return Ok(json!({
                "rope_type": "longrope", "short_factor": all, "long_factor": all, "attention_factor": 1.0,
                "original_max_position_embeddings": context,
            }));
        }
        match kind {
            "none" | "linear" if factor == 1.0 => Ok(Value::Null),
            "none" | "linear" => Ok(json!({ "rope_type": "linear", "factor": factor })),
            "yarn" => {
                let mut json = json!({
                    "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                    "attention_factor": attention * if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 },
                });
                for name in ["beta_fast", "beta_slow"] {
                    if let Some(value) = self.number(&format!("rope.scaling.yarn_{name}"))? {
                        json[name] = value.into();
                    }
                }
                Ok(json)
            }
            other => {
                let (key, got) = (self.key("rope.scaling.type"), super::config::shorten(other));
                Err(GgufError::Unsupported { key, got, supported: "none, linear, yarn, longrope".to_owned() })
            }
        }
    }
}

/// What the converter has done to weights, and which of them there are.
fn as_stored(config: DecoderConfig, arch: &str, checkpoint: &Checkpoint) -> DecoderConfig {
    let has = |tensor: &str| checkpoint.get(tensor).is_some();
    let fused = has("blk.0.attn_qkv.weight");
    let up = !has("blk.0.ffn_gate.weight");
    let mut config = DecoderConfig {
        names: &BY_FUSION[usize::from(fused)][usize::from(up)],
        transposed: false,
        qkv_bias: has(if fused { "blk.0.attn_qkv.bias" } else { "blk.0.attn_q.bias" }),
        o_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_up.bias"),
        head_bias: has("output.bias"),
        ..config
    };
    // gains have their one already
    if config.norm.kind == NormKind::RmsPlusOne {
        config.norm.kind = NormKind::Rms;
    }
    let interleaved = INTERLEAVED.contains(&arch);
    config.ropes.iter_mut().for_each(|rope| rope.interleaved = interleaved);
    config
}
