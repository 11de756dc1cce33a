//! A matrix as another tool quantized it, and how its tensors become [`Blocks`].

use super::Blocks;
use crate::checkpoint::{Checkpoint, Dtype, TensorInfo};
use crate::error::QuantError;

/// A matrix `[rows, dim]` as another tool quantized it.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// What it becomes.
    pub blocks: Blocks,
    /// Whether inputs are rounded to 8 bits, too (W8A8), each token with a scale of its own.
    pub int8_inputs: bool,
    /// In which order the columns of a row are stored, where not in their own.
    pub order: Option<GroupOrder>,
    /// Its tensors, and how to read them.
    pub tensors: Vec<(&'a TensorInfo, Reading)>,
    /// Tensors that were read already, or say nothing that is not known.
    pub known: Vec<&'a TensorInfo>,
}

/// Columns by groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOrder {
    /// For each element of a stored row its column; [`NO_COLUMN`]: none.
    pub columns: Vec<u32>,
    /// For each group of a stored row its number in the checkpoint.
    pub groups: Vec<u32>,
}

/// An element of a stored row that is no column: it fills a group.
pub const NO_COLUMN: u32 = u32::MAX;

/// How a tensor is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Codes.
    Codes(CodeLayout),
    /// Scales.
    Scales(ScaleLayout),
    /// Zero points.
    Zeros(ZeroLayout),
    /// Column k must belong to group k / this: it is read to be sure of that.
    GroupIndex(u32),
    /// Blocks of codes and scales, of the tensor's own type.
    Ggml,
}

/// Where the code of row n and column k stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLayout {
    /// The order of codes.
    pub packing: Packing,
    /// [`Packing::Rows`]: codes from one row to the next.
    pub row_stride: u32,
    /// Codes of a word in another order: code i of it stands at place `i ^ flip`.
    pub flip: u32,
    /// Bits of a code that are the other way round: 8-bit codes around 128.
    pub invert: u32,
}

/// Orders of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Row by row, one code after another.
    Rows,
    /// GPTQ: `[dim / codes in a word, rows]` of words, whose codes are neighbours in a row.
    Columns,
    /// AWQ: `[dim, rows / 8]` of words, whose codes are neighbours in a column, in the order 0 2 4 6 1 3 5 7.
    Awq,
    /// BitNet: bytes `[rows / 4, dim]` (rounded up), bits 2 q and 2 q + 1 of line r being row `q * lines + r`.
    Quarters,
}

/// Which element of a tensor belongs to row n and group g:
/// `((n / row_div) * row_stride + (n % row_div) * row_step + g * group_stride) / div`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Rows that stand together.
    pub row_div: u32,
    /// From one such stretch to the next.
    pub row_stride: u32,
    /// From row to row within.
    pub row_step: u32,
    /// From group to group.
    pub group_stride: u32,
    /// What places are counted in.
    pub div: u32,
}

impl Index {
    /// `n * row_stride + g * group_stride`.
    #[must_use]
    pub const fn plain(row_stride: u32, group_stride: u32) -> Self {
        Self { row_div: 1, row_stride, row_step: 0, group_stride, div: 1 }
    }
}

/// How scales are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleLayout {
    /// Where.
    pub index: Index,
    /// What they are multiplied by.
    pub factor: f32,
    /// Whether the checkpoint has what divides instead.
    pub inverse: bool,
    /// Scales that are quantized themselves.
    pub nested: Option<Nested>,
}

/// `scale = map[code] * absmax[index / block] + offset` (QLoRA's double quantization).
#[derive(Clone, Debug, PartialEq)]
pub struct Nested {
    /// 256 values.
    pub map: Vec<f32>,
    /// Of each block.
    pub absmax: Vec<f32>,
    /// Scales in a block.
    pub block: u32,
    /// Their mean.
    pub offset: f32,
}

/// How zero points are stored: `add` is added to each word, codes have `bits`, where `signed` with a sign, and `zero = code - sub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroLayout {
    /// Where, in codes.
    pub index: Index,
    /// Bits of one.
    pub bits: u32,
    /// Their order in a word is AWQ's.
    pub awq: bool,
    /// What is added to a word: GPTQ's first version stores one less.
    pub add: u32,
    /// Codes around this.
    pub sub: u32,
    /// Two's complement.
    pub signed: bool,
}

/// What is looked for, and where.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a, 'n> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// The small tensors that were read before; `None` where a model is only planned.
    pub side: Option<&'n super::Side>,
    /// The layer's name.
    pub name: &'n str,
    /// Outputs.
    pub rows: u32,
    /// Inputs.
    pub dim: u32,
}

impl<'a> Lookup<'a, '_> {
    /// The tensor `NAME.suffix`.
    pub(super) fn find(&self, suffix: &str) -> Option<&'a TensorInfo> {
        self.checkpoint.get(&format!("{}.{suffix}", self.name))
    }

    /// As [`find`](Self::find), where it cannot do without.
    pub(super) fn need(&self, suffix: &str) -> Result<&'a TensorInfo, QuantError> {
        self.find(suffix).ok_or_else(|| QuantError::Missing { tensor: format!("{}.{suffix}", self.name) })
    }

    /// The tensor, if it has this shape and one of these types.
    pub(super) fn check(
        &self,
        info: &'a TensorInfo,
        shape: &[u32],
        dtypes: &[Dtype],
    ) -> Result<&'a TensorInfo, QuantError> {
        let expected: Vec<u64> = shape.iter().map(|&n| u64::from(n)).collect();
        if info.shape != expected {
            return Err(QuantError::Shape { tensor: info.name.clone(), expected, got: info.shape.clone() });
        }
        self.typed(info, dtypes)
    }

    /// The tensor, if it has one of these types.
    pub(super) fn typed(&self, info: &'a TensorInfo, dtypes: &[Dtype]) -> Result<&'a TensorInfo, QuantError> {
        if dtypes.contains(&info.dtype) {
            return Ok(info);
        }
        let expected = dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ");
        Err(QuantError::Type { tensor: info.name.clone(), expected, got: info.dtype.name() })
    }

    /// The bytes of a small tensor; `None` where a model is only planned.
    pub(super) fn side(&self, info: &TensorInfo) -> Result<Option<&[u8]>, QuantError> {
        let Some(side) = self.side else { return Ok(None) };
        side.get(&info.name).map(Some).ok_or_else(|| QuantError::Missing { tensor: info.name.clone() })
    }
}

/// Types of scales.
pub(super) const FLOATS: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];

/// The order of columns whose groups are `g_idx` (GPTQ's `desc_act`); `None` where column k is in group `k / group`, and groups are
/// whole vec4s.
///
/// A group's columns come in stretches of `group`, the last filled up.
pub(super) fn group_order(
    tensor: &str,
    g_idx: Option<&[u8]>,
    dim: u32,
    groups: u32,
    group: u32,
) -> Result<Option<GroupOrder>, QuantError> {
    let stretch = group.next_multiple_of(4);
    let index: Vec<u32> = match g_idx {
        Some(bytes) => bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        None => (0..dim).map(|k| k / group).collect(),
    };
    if let Some((column, &got)) = index.iter().enumerate().find(|(_, got)| **got >= groups) {
        return Err(QuantError::GroupIndex { tensor: tensor.to_owned(), column, got: got.cast_signed(), groups });
    }
    if stretch == group && index.iter().enumerate().all(|(k, &g)| g == k as u32 / group) {
        return Ok(None);
    }
    let mut members = vec![Vec::new(); groups as usize];
    for (k, &g) in index.iter().enumerate() {
        members[g as usize].push(k as u32);
    }
    let mut order = GroupOrder { columns: Vec::new(), groups: Vec::new() };
    for (g, members) in members.iter().enumerate() {
        for some in members.chunks(stretch as usize) {
            order.columns.extend_from_slice(some);
            order.columns.resize(order.columns.len().next_multiple_of(stretch as usize), NO_COLUMN);
            order.groups.push(g as u32);
        }
    }
    Ok(Some(order))
}
