//! Which types weights and activations take.

use super::activations;
use crate::checkpoint::{self, Checkpoint, find_gguf};
use crate::device::Plan;
use crate::error::{CheckpointError, ConfigError, Error};
use crate::models::ModelConfig;
use crate::nn::WeightTypes;
use crate::quant::{Blocks, Quantization};
use crate::source::Source;
use crate::tensor::{Activations, CacheDtype, Storage};
use crate::weights::Weights;

/// Largest `config.json` that is read.
const MAX_CONFIG: u64 = 4 << 20;

/// `--dtype`: how weights are stored on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// Everything in f32.
    F32,
    /// Everything in f16; sums are in f32 still.
    F16,
    /// Linear layers in 4 bits, symmetric ([`Blocks::Q4`]); embedding and output head in f16, norms and biases in f32.
    Q4,
    /// As q4, with a zero point for each block ([`Blocks::Q4A`]).
    Q4a,
    /// As q4, with codes that are quantiles of a normal distribution ([`Blocks::NF4`]).
    Nf4,
    /// As q4, with 8 bits ([`Blocks::Q8`]).
    Q8,
    /// By [`recommend`](super::recommend)'s rule.
    #[default]
    Auto,
}

/// What a model is loaded and run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// What `auto` became.
    pub dtype: Dtype,
    /// Of the weights.
    pub weights: WeightTypes,
    /// Of activations.
    pub activations: Activations,
    /// Of keys and values.
    pub cache: CacheDtype,
}

/// Bytes of weights in f32 up to which `auto` keeps an f32 checkpoint exact, and in f16 up to which it keeps 16 bits.
const KEEP_F32: u64 = 1 << 30;
const KEEP_F16: u64 = 4 << 30;

/// Decides for a checkpoint of `parameters` weights, most of them stored as f32 where `stored_f32`.
///
/// `auto`: a small f32 checkpoint (1 GiB) stays f32; what takes at most 4 GiB in f16 is f16; the rest is q4. Activations
/// follow as [`activations`] says, the cache follows them.
#[must_use]
pub fn resolve(dtype: Dtype, parameters: u64, stored_f32: bool) -> Precision {
    let dtype = match dtype {
        Dtype::Auto if stored_f32 && parameters.saturating_mul(4) <= KEEP_F32 => Dtype::F32,
        Dtype::Auto if parameters.saturating_mul(2) <= KEEP_F16 => Dtype::F16,
        Dtype::Auto => Dtype::Q4,
        given => given,
    };
    let (linear, embedding) = match dtype {
        Dtype::F32 => (Storage::F32, Storage::F32),
        Dtype::F16 => (Storage::F16, Storage::F16),
        Dtype::Auto => (Storage::Q4, Storage::F16),
        few => (few.blocks().map_or(Storage::Q4, Storage::Blocks), Storage::F16),
    };
    let (activations, _) = activations(dtype);
    Precision {
        dtype,
        weights: WeightTypes { linear, embedding },
        activations: activations.into(),
        cache: activations.into(),
    }
}

impl Precision {
    /// With another type for keys and values, where one is asked for.
    #[must_use]
    pub fn with_cache(self, dtype: Option<CacheDtype>) -> Self {
        Self { cache: dtype.unwrap_or(self.cache), ..self }
    }
}

/// As [`resolve`], of a checkpoint as it lies there. Layers that another tool quantized keep their bits whatever the dtype says; `auto`
/// then asks for f32 around them where all weights in f32 would take at most 1 GiB, so that small models are exact, and for f16
/// elsewhere. What [`Image`](crate::weights::Image) wrote is of the dtype that it was made as.
///
/// # Errors
/// What is wrong with quantized tensors; wrong names and shapes are told when the weights are loaded.
pub fn choose(
    dtype: Dtype,
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    quantization: &Quantization,
) -> Result<Precision, Error> {
    let (parameters, stored_f32) = checkpoint.parameters();
    if dtype != Dtype::Auto || *quantization == Quantization::None {
        return Ok(resolve(dtype, parameters, stored_f32));
    }
    if let Quantization::Packed { dtype } = quantization {
        let packed = Dtype::from_name(dtype).filter(|dtype| *dtype != Dtype::Auto);
        let packed = packed.ok_or_else(|| ConfigError::Unsupported {
            field: "quantization_config",
            got: format!("dtype {dtype:?}"),
            supported: Dtype::ALL.map(Dtype::name).join(", "),
        })?;
        return Ok(resolve(packed, parameters, stored_f32));
    }
    // a word of a quantized tensor holds several weights
    let plan = Plan::new(None);
    let mut weights = Weights::planned(&plan, checkpoint).quantized_by(quantization, None);
    config.ask(&mut weights, resolve(Dtype::F16, parameters, false).weights)?;
    let small = weights.parameters().saturating_mul(4) <= KEEP_F32;
    Ok(resolve(if small { Dtype::F32 } else { Dtype::F16 }, parameters, stored_f32))
}

/// What a web page gets that asks for no dtype, having less memory than a desktop: 4 bits; but where another tool quantized the
/// checkpoint, its own ([`Dtype::Auto`]).
///
/// # Errors
/// Those of the source. What is wrong with the files is told when they are opened.
pub async fn default_of_pages(source: &Source) -> Result<Dtype, Error> {
    // a choice that cannot be made is told when files are opened
    if !matches!(find_gguf(source).await, Ok(None)) {
        return Ok(Dtype::Auto);
    }
    let json = checkpoint::read_json(source, "config.json", MAX_CONFIG).await;
    let json = match json {
        Err(CheckpointError::Source(error)) => return Err(error.into()),
        json => json.ok().flatten().unwrap_or_default(),
    };
    Ok(match Quantization::read(source, &json).await {
        Ok(Quantization::None) | Err(_) => Dtype::Q4,
        Ok(_) => Dtype::Auto,
    })
}

impl Dtype {
    /// All but `auto`, the most bits first.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::Q8, Self::Q4a, Self::Q4, Self::Nf4];

    /// How linear layers are stored, where in few bits.
    #[must_use]
    pub const fn blocks(self) -> Option<Blocks> {
        match self {
            Self::F32 | Self::F16 | Self::Auto => None,
            Self::Q4 => Some(Blocks::Q4),
            Self::Q4a => Some(Blocks::Q4A),
            Self::Nf4 => Some(Blocks::NF4),
            Self::Q8 => Some(Blocks::Q8),
        }
    }

    /// The dtype of that name; `fp32` and `fp16` are other names of `f32` and `f16`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "fp32" => Some(Self::F32),
            "fp16" => Some(Self::F16),
            "auto" => Some(Self::Auto),
            _ => Self::ALL.into_iter().find(|dtype| dtype.name() == name),
        }
    }

    /// `f32`, `f16`, `q8`, `q4a`, `q4`, `nf4`, `auto`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q4 => "q4",
            Self::Q4a => "q4a",
            Self::Nf4 => "nf4",
            Self::Q8 => "q8",
            Self::Auto => "auto",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_keeps_what_is_small_and_quantizes_what_is_large() {
        let became = |parameters, stored_f32| resolve(Dtype::Auto, parameters, stored_f32).dtype;
        assert_eq!(became(260_000, true), Dtype::F32);
        assert_eq!(became(260_000, false), Dtype::F16);
        assert_eq!(became(1_000_000_000, true), Dtype::F16);
        assert_eq!(became(7_000_000_000, false), Dtype::Q4);
        assert_eq!(resolve(Dtype::F32, u64::MAX, false).dtype, Dtype::F32);
    }
}
