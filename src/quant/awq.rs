//! AWQ (Lin et al. 2023) in its `gemm` packing, as AutoAWQ writes it.
//!
//! `qweight`: `[dim, rows / 8]` I32, `qzeros`: `[groups, rows / 8]` I32, `scales`: `[groups, rows]`; nibble i of a word belongs to row
//! `8 c + [0, 2, 4, 6, 1, 3, 5, 7][i]`, and `weight[n, k] = scales[k / group, n] * (q[k, n] - zero[k / group, n])`.

use super::layer::{CodeLayout, FLOATS, Index, Layer, Lookup, Packing, Reading, ScaleLayout, ZeroLayout, group_order};
use super::{BLOCK, Blocks, Codes, Scales};
use crate::checkpoint::Dtype;
use crate::error::QuantError;

/// What `quantization_config` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awq {
    /// Columns of a group; `None`: all.
    pub group_size: Option<u32>,
}

impl Awq {
    /// The layer, if it is quantized.
    pub(super) fn find<'a>(&self, at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
        let Some(qweight) = at.find("qweight") else { return Ok(None) };
        let (rows, dim) = (at.rows, at.dim);
        at.check(qweight, &[dim, rows.div_ceil(8)], &[Dtype::I32])?;
        let group = self.group_size.unwrap_or(dim).min(dim);
        let groups = dim.div_ceil(group);
        let scales = at.check(at.need("scales")?, &[groups, rows], &FLOATS)?;
        let wide = scales.dtype != Dtype::F16;
        let mut tensors = vec![
            (qweight, Reading::Codes(CodeLayout { packing: Packing::Awq, row_stride: 0, flip: 0, invert: 0 })),
            (
                scales,
                Reading::Scales(ScaleLayout {
                    index: Index::plain(1, rows),
                    factor: 1.0,
                    inverse: false,
                    nested: None,
                }),
            ),
        ];
        let qzeros = at.find("qzeros");
        if let Some(qzeros) = qzeros {
            let qzeros = at.check(qzeros, &[groups, rows.div_ceil(8)], &[Dtype::I32])?;
            let index = Index::plain(1, rows.div_ceil(8) * 8);
            let layout = ZeroLayout { index, bits: 4, awq: true, add: 0, sub: 0, signed: false };
            tensors.push((qzeros, Reading::Zeros(layout)));
        }
        let kind = match (wide, qzeros.is_some()) {
            (false, false) => Scales::F16,
            (false, true) => Scales::F16Zero,
            (true, false) => Scales::F32,
            (true, true) => Scales::F32Zero,
        };
        let stored = if groups == 1 { dim.next_multiple_of(BLOCK) } else { group.next_multiple_of(4) };
        Ok(Some(Layer {
            blocks: Blocks { codes: Codes::Int4, scales: kind, group: stored },
            int8_inputs: false,
            order: if groups == 1 { None } else { group_order(&qweight.name, None, dim, groups, group)? },
            tensors,
            known: Vec::new(),
        }))
    }
}
