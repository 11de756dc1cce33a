//! Block formats: how weights lie on the GPU in few bits ([`Blocks`]), and how checkpoints that other tools quantized become that
//! ([`Quantization`]).
//!
//! Which layers are quantized, and in how many bits, their tensors tell; `quantization_config` tells what those cannot.

mod awq;
mod bitnet;
mod bitsandbytes;
mod blocks;
mod compressed;
mod encode;
mod fp8;
mod ggml;
mod gptq;
mod layer;
mod side;

use serde_json::Value;

pub use awq::Awq;
pub use bitnet::BitNet;
pub use blocks::{BLOCK, Blocks, Codes, Encoded, NESTED, Scales, decode};
pub use compressed::Compressed;
pub use encode::encode;
pub use fp8::Fp8;
pub use ggml::blocks as ggml_blocks;
pub use gptq::Gptq;
pub use layer::{
    CodeLayout, GroupOrder, Index, Layer, Lookup, NO_COLUMN, Nested, Packing, Reading, ScaleLayout, ZeroLayout,
};
pub use side::Side;

use crate::checkpoint::{self, Checkpoint};
use crate::error::{ConfigError, Error, QuantError};
use crate::source::Source;

/// How a checkpoint is quantized, as its `quantization_config` says.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Quantization {
    /// Not at all.
    #[default]
    None,
    /// GPTQ.
    Gptq(Gptq),
    /// AWQ.
    Awq(Awq),
    /// BitNet b1.58.
    BitNet(BitNet),
    /// bitsandbytes.
    Bitsandbytes,
    /// compressed-tensors.
    Compressed(Compressed),
    /// 8-bit floats.
    Fp8(Fp8),
    /// GGUF: some tensors are in ggml's blocks.
    Gguf,
    /// This engine's own: weights as they lie on the GPU ([`Image`](crate::weights::Image)), made as this dtype.
    Packed {
        /// Its name.
        dtype: String,
    },
}

/// Largest file beside `config.json` that is read for it.
const MAX_CONFIG: u64 = 4 << 20;

impl Quantization {
    /// As `config.json` says, or where that is silent `quantize_config.json` (AutoGPTQ), or `quant_config.json` (AutoAWQ).
    ///
    /// # Errors
    /// [`ConfigError`] for a method or a setting that we do not have; those of the source.
    pub async fn read(source: &Source, config: &Value) -> Result<Self, Error> {
        if let Some(config) = section(config) {
            return Ok(Self::from_json(config)?);
        }
        for (file, method) in [("quantize_config.json", "gptq"), ("quant_config.json", "awq")] {
            if let Some(mut json) = checkpoint::read_json(source, file, MAX_CONFIG).await? {
                if let Some(object) = json.as_object_mut() {
                    object.entry("quant_method").or_insert_with(|| method.into());
                }
                return Ok(Self::from_json(&json)?);
            }
        }
        Ok(Self::None)
    }

    /// Reads a `quantization_config`.
    ///
    /// # Errors
    /// [`ConfigError`]: a method or a setting that we do not have, or one that makes no sense.
    pub fn from_json(json: &Value) -> Result<Self, ConfigError> {
        let method = json["quant_method"].as_str().or_else(|| {
            // bitsandbytes before it had a name
            let old = ["load_in_4bit", "load_in_8bit"].iter().any(|key| json[key].as_bool() == Some(true));
            old.then_some("bitsandbytes")
        });
        match method {
            Some("gptq") => {
                bits(json, &[4, 8])?;
                let format = json["checkpoint_format"].as_str().unwrap_or("gptq");
                let v2 = match format {
                    "gptq" => false,
                    "gptq_v2" => true,
                    other => return Err(unsupported("checkpoint_format", other, "gptq and gptq_v2")),
                };
                let desc_act = json["desc_act"].as_bool().unwrap_or(false);
                Ok(Self::Gptq(Gptq { group_size: group_size(json)?, desc_act, v2 }))
            }
            Some("awq") => {
                bits(json, &[4])?;
                let version = json["version"].as_str().unwrap_or("gemm");
                if !version.eq_ignore_ascii_case("gemm") {
                    return Err(unsupported("version", version, "gemm"));
                }
                Ok(Self::Awq(Awq { group_size: group_size(json)? }))
            }
            Some("bitnet") => Ok(Self::BitNet(BitNet::of(json)?)),
            Some("bitsandbytes") => Ok(Self::Bitsandbytes),
            Some("compressed-tensors" | "compressed_tensors") => {
                let format = json["format"].as_str().unwrap_or("dense");
                let known = [
                    "pack-quantized",
                    "int-quantized",
                    "float-quantized",
                    "naive-quantized",
                    "mixed-precision",
                    "dense",
                ];
                if !known.contains(&format) {
                    return Err(unsupported("format", format, &known.join(", ")));
                }
                let sparsity = json["sparsity_config"]["format"].as_str().unwrap_or("dense");
                if sparsity != "dense" {
                    return Err(unsupported("sparsity_config", sparsity, "dense"));
                }
                let transforms = &json["transform_config"]["config_groups"];
                if transforms.as_object().is_some_and(|groups| !groups.is_empty()) {
                    return Err(unsupported("transform_config", "(rotated weights)", "none"));
                }
                Ok(Self::Compressed(Compressed::of(json)))
            }
            Some("fp8" | "fbgemm_fp8") => {
                let size = |i: usize| {
                    let n = json["weight_block_size"][i].as_u64().and_then(|n| u32::try_from(n).ok());
                    n.filter(|n| *n > 0)
                };
                let weight_block_size = match &json["weight_block_size"] {
                    Value::Null => None,
                    value => {
                        let sizes = size(0).zip(size(1)).map(|(rows, columns)| [rows, columns]);
                        Some(sizes.ok_or_else(|| wrong("weight_block_size", value, "two sizes above 0"))?)
                    }
                };
                Ok(Self::Fp8(Fp8 { weight_block_size }))
            }
            Some("webweft") => match (json["version"].as_u64(), json["dtype"].as_str()) {
                (Some(1), Some(dtype)) => Ok(Self::Packed { dtype: dtype.to_owned() }),
                _ => Err(unsupported("version", &json["version"].to_string(), "1")),
            },
            other => Err(unsupported(
                "quant_method",
                other.unwrap_or("(none)"),
                "gptq, awq, bitnet, bitsandbytes, compressed-tensors, fp8 and fbgemm_fp8; and checkpoints in f32, f16 or bf16, which are \
                 quantized while loading (--dtype q4)",
            )),
        }
    }

    /// `gptq`, `awq`, ...; `None` where nothing is quantized.
    #[must_use]
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gptq(_) => Some("gptq"),
            Self::Awq(_) => Some("awq"),
            Self::BitNet(_) => Some("bitnet"),
            Self::Bitsandbytes => Some("bitsandbytes"),
            Self::Compressed(_) => Some("compressed-tensors"),
            Self::Fp8(_) => Some("fp8"),
            Self::Gguf => Some("gguf"),
            Self::Packed { .. } => Some("webweft"),
        }
    }

    /// Of a GGUF file, which says by its tensors alone.
    #[must_use]
    pub fn of_gguf(checkpoint: &Checkpoint) -> Self {
        if checkpoint.in_byte_order().any(|info| ggml::blocks(info.dtype).is_some()) { Self::Gguf } else { Self::None }
    }

    /// The layer at `at`; `None` where that one is not quantized.
    ///
    /// # Errors
    /// [`QuantError`]: tensors that are missing, or are not what they should be.
    pub fn find<'a>(&self, at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
        match self {
            Self::None | Self::Packed { .. } => Ok(None),
            Self::Gptq(gptq) => gptq.find(at),
            Self::Awq(awq) => awq.find(at),
            Self::BitNet(bitnet) => bitnet.find(at),
            Self::Bitsandbytes => bitsandbytes::find(at),
            Self::Compressed(compressed) => compressed.find(at),
            Self::Fp8(fp8) => fp8.find(at),
            Self::Gguf => ggml::find(at),
        }
    }

    /// Whether the tensor of that name is read before the others, since how they are read depends on it.
    #[must_use]
    pub fn is_side(&self, name: &str) -> bool {
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        match self {
            Self::None | Self::Awq(_) | Self::BitNet(_) | Self::Fp8(_) | Self::Gguf | Self::Packed { .. } => false,
            Self::Gptq(gptq) => gptq.desc_act && ends(&[".g_idx"]),
            Self::Bitsandbytes => {
                bitsandbytes::STATES.iter().any(|(suffix, _)| name.ends_with(suffix))
                    || ends(&[".quant_map", ".nested_quant_map", ".nested_absmax"])
            }
            Self::Compressed(_) => ends(&[".weight_g_idx"]),
        }
    }
}

/// Where transformers and llm-compressor put it.
fn section(config: &Value) -> Option<&Value> {
    ["quantization_config", "compression_config"].iter().map(|name| &config[name]).find(|value| value.is_object())
}

fn bits(json: &Value, supported: &[u64]) -> Result<(), ConfigError> {
    let value = ["bits", "w_bit"].iter().map(|name| &json[name]).find(|value| !value.is_null()).unwrap_or(&Value::Null);
    match value.as_u64() {
        Some(bits) if supported.contains(&bits) => Ok(()),
        _ => Err(unsupported("bits", &value.to_string(), &format!("{supported:?}"))),
    }
}

/// Columns of a group; `None` for -1: all.
fn group_size(json: &Value) -> Result<Option<u32>, ConfigError> {
    let names = ["group_size", "q_group_size"];
    let value = names.iter().map(|name| &json[name]).find(|value| !value.is_null()).unwrap_or(&Value::Null);
    match value.as_i64() {
        Some(-1) => Ok(None),
        Some(size @ 1..=0x10_0000) => Ok(Some(size as u32)),
        _ => Err(wrong("group_size", value, "a number above 0, or -1: one group")),
    }
}

fn unsupported(what: &str, got: &str, supported: &str) -> ConfigError {
    let got: String = format!("{what} {got}").chars().take(80).collect();
    ConfigError::Unsupported { field: "quantization_config", got, supported: supported.to_owned() }
}

fn wrong(what: &str, got: &Value, expected: &str) -> ConfigError {
    let got: String = format!("{what} {got}").chars().take(80).collect();
    ConfigError::Field { field: "quantization_config", got, expected: expected.to_owned() }
}
