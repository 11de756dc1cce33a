//! BitNet b1.58 (Ma et al. 2024): weights of -1, 0 and 1 with one scale for a matrix, inputs in 8 bits.
//!
//! `weight`: `[rows / 4, dim]` U8 (rounded up), each byte holding a code, one more than the weight, of four rows that are a quarter of all
//! apart; `weight_scale`: `[1]`, which multiplies (`autobitlinear`) or divides (`bitlinear`).

use serde_json::Value;

use super::layer::{CodeLayout, FLOATS, Index, Layer, Lookup, Packing, Reading, ScaleLayout};
use super::{Blocks, Codes, Scales, unsupported};
use crate::checkpoint::Dtype;
use crate::error::{ConfigError, QuantError};

/// What `quantization_config` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitNet {
    /// Products are divided by `weight_scale`.
    pub divides: bool,
}

impl BitNet {
    /// Reads it; defaults are transformers'.
    pub(super) fn of(json: &Value) -> Result<Self, ConfigError> {
        let text = |field: &str, default: &'static str| match &json[field] {
            Value::Null => default.to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mode = text("quantization_mode", "offline");
        if mode != "offline" {
            let packed = "offline: weights that are -1, 0 and 1 already; a repository of those is usually beside one for training";
            return Err(unsupported("quantization_mode", &mode, packed));
        }
        if !matches!(json["use_rms_norm"], Value::Null | Value::Bool(false)) {
            return Err(unsupported("use_rms_norm", &json["use_rms_norm"].to_string(), "false"));
        }
        let class = text("linear_class", "bitlinear");
        match class.as_str() {
            "autobitlinear" => Ok(Self { divides: false }),
            "bitlinear" => Ok(Self { divides: true }),
            _ => Err(unsupported("linear_class", &class, "autobitlinear and bitlinear")),
        }
    }

    /// The layer, if it is quantized.
    pub(super) fn find<'a>(self, at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
        let Some(weight) = at.find("weight") else { return Ok(None) };
        // a layer that was left as it is has no scale
        if weight.dtype != Dtype::U8 && at.find("weight_scale").is_none() {
            return Ok(None);
        }
        let weight = at.check(weight, &[at.rows.div_ceil(4), at.dim], &[Dtype::U8])?;
        let scale = at.check(at.need("weight_scale")?, &[1], &FLOATS)?;
        // transformers multiplies it, too, by a scale that was made without it: nobody knows which is meant
        if !self.divides
            && let Some(bias) = at.find("bias")
        {
            let detail =
                "a bias beside packed weights whose scale multiplies (linear_class autobitlinear) is not supported";
            return Err(QuantError::State { tensor: bias.name.clone(), detail: detail.to_owned() });
        }
        let mut blocks = Blocks { codes: Codes::Int2, scales: Scales::F32, group: 4 };
        blocks.group = blocks.padded(at.dim);
        let codes = CodeLayout { packing: Packing::Quarters, row_stride: at.dim, flip: 0, invert: 0 };
        let scales = ScaleLayout { index: Index::plain(0, 0), factor: 1.0, inverse: self.divides, nested: None };
        Ok(Some(Layer {
            blocks,
            int8_inputs: true,
            order: None,
            tensors: vec![(weight, Reading::Codes(codes)), (scale, Reading::Scales(scales))],
            known: Vec::new(),
        }))
    }
}
