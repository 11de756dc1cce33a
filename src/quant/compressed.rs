//! compressed-tensors (llm-compressor): integers packed into words, or one to a byte, and 8-bit floats.
//!
//! `weight_packed`: `[rows, dim * bits / 32]` I32, codes around `2^(bits - 1)`, low bits first; or `weight`: `[rows, dim]` I8 or F8_E4M3.
//! `weight_scale`: `[rows, groups]`, `[rows, 1]` or `[1]`; `weight_zero_point`: packed along rows beside packed weights, I8 beside I8; `weight_g_idx`:
//! `[dim]` I32 where groups are no neighbours. `weight[n, k] = scale * (q - zero)`.

use serde_json::Value;

use super::layer::{CodeLayout, FLOATS, Index, Layer, Lookup, Packing, Reading, ScaleLayout, ZeroLayout, group_order};
use super::{BLOCK, Blocks, Codes, Scales, fp8};
use crate::checkpoint::{Dtype, TensorInfo};
use crate::error::QuantError;

/// What `quantization_config` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Inputs of layers in I8 are rounded to 8 bits, each token with a scale of its own (W8A8). Other roundings of inputs (with scales
    /// that are fixed, with zero points, to 8-bit floats) are left out: the result is nearer to the model that was quantized.
    pub int8_inputs: bool,
    /// Rows and columns of a block that has one scale (8-bit floats).
    pub block_structure: Option<[u32; 2]>,
}

impl Compressed {
    /// Reads it.
    pub(super) fn of(json: &Value) -> Self {
        let is_int8 = |args: &Value| args["num_bits"].as_u64() == Some(8) && args["type"].as_str() == Some("int");
        let groups = || json["config_groups"].as_object().into_iter().flatten().map(|(_, group)| group);
        let rounds = |group: &Value| {
            let inputs = &group["input_activations"];
            let symmetric = inputs["symmetric"].as_bool() != Some(false);
            is_int8(inputs) && inputs["dynamic"].as_bool() == Some(true) && symmetric
        };
        let size = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let block = |group: &Value| {
            let block = &group["weights"]["block_structure"];
            Some([size(&block[0])?, size(&block[1])?])
        };
        Self {
            int8_inputs: groups().any(|group| is_int8(&group["weights"]) && rounds(group)),
            block_structure: groups().find_map(block),
        }
    }

    /// The layer, if it is quantized.
    pub(super) fn find<'a>(&self, at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
        if let Some(weight) = at.find("weight_packed") {
            return packed(at, weight).map(Some);
        }
        match at.find("weight") {
            Some(weight) if weight.dtype == Dtype::I8 => {
                let mut layer = integers(at, weight)?;
                // products of integers need one scale for 16 of them, and no zero points
                let simple = layer.order.is_none() && layer.blocks.group.is_multiple_of(16);
                let has_zeros = matches!(layer.blocks.scales, Scales::F16Zero | Scales::F32Zero);
                if self.int8_inputs && (has_zeros || !simple) {
                    let detail =
                        "8-bit inputs need weights without zero points, in groups of a multiple of 16".to_owned();
                    return Err(QuantError::State { tensor: weight.name.clone(), detail });
                }
                layer.int8_inputs = self.int8_inputs;
                Ok(Some(layer))
            }
            Some(weight) if weight.dtype == Dtype::F8_E4M3 => fp8::layer(at, weight, self.block_structure).map(Some),
            _ => Ok(None),
        }
    }
}

fn packed<'a>(at: &Lookup<'a, '_>, weight: &'a TensorInfo) -> Result<Layer<'a>, QuantError> {
    let (rows, dim) = (at.rows, at.dim);
    let words = weight.shape.get(1).copied().unwrap_or(0);
    let codes = if words == u64::from(dim.div_ceil(4)) && dim > 4 { Codes::Int8 } else { Codes::Int4 };
    let (per_word, half) = (32 / codes.bits(), 1 << (codes.bits() - 1));
    at.check(weight, &[rows, dim.div_ceil(per_word)], &[Dtype::I32])?;
    let invert = if codes == Codes::Int8 { 0x80 } else { 0 };
    let layout = CodeLayout { packing: Packing::Rows, row_stride: dim.next_multiple_of(per_word), flip: 0, invert };
    let mut layer = scaled(at, codes, (weight, layout))?;
    layer.known.extend(at.find("weight_shape"));
    if let Some(zeros) = at.find("weight_zero_point") {
        let groups = layer_groups(&layer);
        let zeros = at.check(zeros, &[rows.div_ceil(per_word), groups], &[Dtype::I32])?;
        let index =
            Index { row_div: per_word, row_stride: groups * per_word, row_step: 1, group_stride: per_word, div: 1 };
        // int4 codes are 0 to 15 here, int8 codes around 0
        let sub = if codes == Codes::Int8 { half } else { 0 };
        let zeros_layout = ZeroLayout { index, bits: codes.bits(), awq: false, add: 0, sub, signed: false };
        with_zeros(&mut layer, zeros, zeros_layout);
    }
    Ok(layer)
}

fn integers<'a>(at: &Lookup<'a, '_>, weight: &'a TensorInfo) -> Result<Layer<'a>, QuantError> {
    let (rows, dim) = (at.rows, at.dim);
    at.check(weight, &[rows, dim], &[Dtype::I8])?;
    let layout = CodeLayout { packing: Packing::Rows, row_stride: dim, flip: 0, invert: 0 };
    let mut layer = scaled(at, Codes::Int8, (weight, layout))?;
    if let Some(zeros) = at.find("weight_zero_point") {
        let groups = layer_groups(&layer);
        let index = match zeros.shape.as_slice() {
            [] | [1] => Index::plain(0, 0),
            _ => {
                at.check(zeros, &[rows, groups], &[Dtype::I8])?;
                Index::plain(groups, 1)
            }
        };
        let zeros = at.typed(zeros, &[Dtype::I8])?;
        let layout = ZeroLayout { index, bits: 8, awq: false, add: 0, sub: 0, signed: true };
        with_zeros(&mut layer, zeros, layout);
    }
    Ok(layer)
}

/// Groups of the checkpoint's.
fn layer_groups(layer: &Layer<'_>) -> u32 {
    let scales = layer.tensors.iter().find(|(_, reading)| matches!(reading, Reading::Scales(_)));
    scales.and_then(|(info, _)| info.shape.get(1).copied()).unwrap_or(1) as u32
}

fn with_zeros<'a>(layer: &mut Layer<'a>, info: &'a TensorInfo, layout: ZeroLayout) {
    layer.blocks.scales = match layer.blocks.scales {
        Scales::F16 | Scales::F16Zero => Scales::F16Zero,
        Scales::F32 | Scales::F32Zero => Scales::F32Zero,
        // none that this format has
        other @ (Scales::F16Min | Scales::Nested) => other,
    };
    layer.tensors.push((info, Reading::Zeros(layout)));
}

/// Codes and their scales: of tensors, of channels (rows), or of groups.
fn scaled<'a>(
    at: &Lookup<'a, '_>,
    codes: Codes,
    (weight, layout): (&'a TensorInfo, CodeLayout),
) -> Result<Layer<'a>, QuantError> {
    let (rows, dim) = (at.rows, at.dim);
    let scales = at.typed(at.need("weight_scale")?, &FLOATS)?;
    let whole = dim.next_multiple_of(BLOCK);
    let (group, index, groups) = match scales.shape.as_slice() {
        [] | [1] => (whole, Index::plain(0, 0), 1),
        [n] if *n == u64::from(rows) => (whole, Index::plain(1, 0), 1),
        [n, groups] if *n == u64::from(rows) && (1..=u64::from(dim)).contains(groups) => {
            let groups = *groups as u32;
            let group = if groups == 1 { whole } else { dim.div_ceil(groups) };
            (group, Index::plain(groups, 1), groups)
        }
        _ => {
            let expected = vec![u64::from(rows), 1];
            return Err(QuantError::Shape { tensor: scales.name.clone(), expected, got: scales.shape.clone() });
        }
    };
    let mut known: Vec<_> = ["input_scale", "input_zero_point"].iter().filter_map(|name| at.find(name)).collect();
    let mut order = None;
    if groups > 1 {
        let g_idx = at.find("weight_g_idx").map(|info| at.check(info, &[dim], &[Dtype::I32])).transpose()?;
        let bytes = match g_idx {
            // -1 is what it is made with: columns are in their own order then
            Some(info) => at.side(info)?.filter(|bytes| bytes.chunks_exact(4).all(|b| b != [0xff; 4])),
            None => None,
        };
        order = group_order(&g_idx.unwrap_or(weight).name, bytes, dim, groups, group)?;
        known.extend(g_idx);
    }
    let kind = if scales.dtype == Dtype::F16 { Scales::F16 } else { Scales::F32 };
    Ok(Layer {
        blocks: Blocks { codes, scales: kind, group: group.next_multiple_of(4) },
        int8_inputs: false,
        order,
        tensors: vec![
            (weight, Reading::Codes(layout)),
            (scales, Reading::Scales(ScaleLayout { index, factor: 1.0, inverse: false, nested: None })),
        ],
        known,
    })
}
