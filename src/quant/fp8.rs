//! 8-bit floats (OCP E4M3): one scale for a tensor, for each row, or for blocks of rows and columns, as DeepSeek-V3, FBGEMM and
//! compressed-tensors write them.
//!
//! `weight`: `[rows, dim]` F8_E4M3, `weight_scale_inv` or `weight_scale`: `[]`, `[1]`, `[rows]`, `[rows, 1]` or `[rows / b0, dim / b1]`, and
//! `weight[n, k] = q[n, k] * scale`: the inverse is that of the scale that made q. Activations stay as they are, whatever
//! `activation_scheme` says.

use super::layer::{CodeLayout, FLOATS, Index, Layer, Lookup, Packing, Reading, ScaleLayout};
use super::{BLOCK, Blocks, Codes, Scales};
use crate::checkpoint::{Dtype, TensorInfo};
use crate::error::QuantError;

/// What `quantization_config` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp8 {
    /// Rows and columns of a block.
    pub weight_block_size: Option<[u32; 2]>,
}

impl Fp8 {
    /// The layer, if it is quantized.
    pub(super) fn find<'a>(&self, at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
        let weight = at.find("weight").filter(|weight| weight.dtype == Dtype::F8_E4M3);
        weight.map(|weight| layer(at, weight, self.weight_block_size)).transpose()
    }
}

/// The layer of which `weight` has the codes.
pub(super) fn layer<'a>(
    at: &Lookup<'a, '_>,
    weight: &'a TensorInfo,
    block: Option<[u32; 2]>,
) -> Result<Layer<'a>, QuantError> {
    let (rows, dim) = (at.rows, at.dim);
    at.check(weight, &[rows, dim], &[Dtype::F8_E4M3])?;
    let scales = match at.find("weight_scale_inv") {
        Some(info) => info,
        None => at.need("weight_scale")?,
    };
    at.typed(scales, &FLOATS)?;
    let whole = dim.next_multiple_of(BLOCK);
    let (group, index) = match (scales.shape.as_slice(), block) {
        ([] | [1], _) => (whole, Index::plain(0, 0)),
        ([n] | [n, 1], _) if *n == u64::from(rows) => (whole, Index::plain(1, 0)),
        (_, Some([high, wide])) => {
            let stride = dim.div_ceil(wide);
            at.check(scales, &[rows.div_ceil(high), stride], &FLOATS)?;
            (wide, Index { row_div: high, row_stride: stride, row_step: 0, group_stride: 1, div: 1 })
        }
        _ => {
            let expected = vec![u64::from(rows), 1];
            return Err(QuantError::Shape { tensor: scales.name.clone(), expected, got: scales.shape.clone() });
        }
    };
    if !group.is_multiple_of(4) {
        let detail = format!("blocks of {group} columns; a multiple of 4 is needed");
        return Err(QuantError::State { tensor: scales.name.clone(), detail });
    }
    let codes = CodeLayout { packing: Packing::Rows, row_stride: dim, flip: 0, invert: 0 };
    let kind = if scales.dtype == Dtype::F16 { Scales::F16 } else { Scales::F32 };
    Ok(Layer {
        blocks: Blocks { codes: Codes::E4m3, scales: kind, group },
        int8_inputs: false,
        order: None,
        tensors: vec![
            (weight, Reading::Codes(codes)),
            (scales, Reading::Scales(ScaleLayout { index, factor: 1.0, inverse: false, nested: None })),
        ],
        known: ["input_scale", "activation_scale", "activation_scale_ub"].iter().filter_map(|s| at.find(s)).collect(),
    })
}
