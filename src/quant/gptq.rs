//! GPTQ (Frantar et al. 2022) as AutoGPTQ and GPTQModel write it.
//!
//! `qweight`: `[dim * bits / 32, rows]` I32, `qzeros`: `[groups, rows * bits / 32]` I32, `scales`: `[groups, rows]`, `g_idx`: `[dim]` I32, and
//! `weight[n, k] = scales[g, n] * (q[k, n] - zero[g, n])` with `g = g_idx[k]`. Zero points are stored less one, but in
//! `gptq_v2`.

use super::layer::{CodeLayout, FLOATS, Index, Layer, Lookup, Packing, Reading, ScaleLayout, ZeroLayout, group_order};
use super::{BLOCK, Blocks, Codes, Scales};
use crate::checkpoint::Dtype;
use crate::error::QuantError;

/// What `quantization_config` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gptq {
    /// Columns of a group; `None`: all.
    pub group_size: Option<u32>,
    /// Groups are not neighbours: `g_idx` tells.
    pub desc_act: bool,
    /// Zero points as they are.
    pub v2: bool,
}

impl Gptq {
    /// The layer, if it is quantized.
    pub(super) fn find<'a>(&self, at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
        let Some(qweight) = at.find("qweight") else { return Ok(None) };
        let (rows, dim) = (at.rows, at.dim);
        // modules may have bits of their own: the shape tells
        let lines = qweight.shape.first().copied().unwrap_or(0);
        let codes = if lines == u64::from(dim).div_ceil(4) { Codes::Int8 } else { Codes::Int4 };
        let per_word = 32 / codes.bits();
        at.check(qweight, &[dim.div_ceil(per_word), rows], &[Dtype::I32])?;
        let group = self.group_size.unwrap_or(dim).min(dim);
        let groups = dim.div_ceil(group);
        let scales = at.check(at.need("scales")?, &[groups, rows], &FLOATS)?;
        let qzeros = at.check(at.need("qzeros")?, &[groups, rows.div_ceil(per_word)], &[Dtype::I32])?;

        let wide = scales.dtype != Dtype::F16;
        let mut layer = Layer {
            blocks: Blocks {
                codes,
                scales: if wide { Scales::F32Zero } else { Scales::F16Zero },
                group: if groups == 1 { dim.next_multiple_of(BLOCK) } else { group.next_multiple_of(4) },
            },
            int8_inputs: false,
            order: None,
            tensors: Vec::new(),
            known: Vec::new(),
        };
        match at.find("g_idx") {
            Some(g_idx) => {
                let g_idx = at.check(g_idx, &[dim], &[Dtype::I32])?;
                // without desc_act it says what is known: it is looked at as it comes
                if self.desc_act && groups > 1 {
                    layer.order = group_order(&g_idx.name, at.side(g_idx)?, dim, groups, group)?;
                    layer.known.push(g_idx);
                } else {
                    layer.tensors.push((g_idx, Reading::GroupIndex(group)));
                }
            }
            None if self.desc_act && groups > 1 => {
                return Err(QuantError::Missing { tensor: format!("{}.g_idx", at.name) });
            }
            None => {}
        }
        if layer.order.is_none() && groups > 1 {
            layer.order = group_order(&qweight.name, None, dim, groups, group)?;
        }
        let invert = if codes == Codes::Int8 { 0x80 } else { 0 };
        let code_layout = CodeLayout { packing: Packing::Columns, row_stride: 0, flip: 0, invert };
        let zero_layout = ZeroLayout {
            index: Index::plain(1, rows.div_ceil(per_word) * per_word),
            bits: codes.bits(),
            awq: false,
            // GPTQModel adds to whole words: a zero of 0 borrowed from its neighbour
            add: if self.v2 { 0 } else { u32::MAX / ((1 << codes.bits()) - 1) },
            sub: invert,
            signed: false,
        };
        let scale_layout = ScaleLayout { index: Index::plain(1, rows), factor: 1.0, inverse: false, nested: None };
        layer.tensors.extend([
            (qweight, Reading::Codes(code_layout)),
            (qzeros, Reading::Zeros(zero_layout)),
            (scales, Reading::Scales(scale_layout)),
        ]);
        Ok(Some(layer))
    }
}
