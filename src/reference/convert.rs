//! Rows of a checkpoint's tensor to rows of a weight as kernels read it: f32 or f16; few bits are `quant::encode`'s.

use half::{bf16, f16};

/// Where the rows and columns of a tensor land in a weight. Groups of rows or columns (the heads of an attention) are padded
/// to a width of their own; what pads is zero.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Elements of a source row.
    pub columns: usize,
    /// Source row r goes to weight row `base + (r / row_group) * row_padded + r % row_group`.
    pub row_group: usize,
    /// Rows of a group as stored.
    pub row_padded: usize,
    /// Weight row of source row 0.
    pub base: usize,
    /// Source column c goes to `(c / column_group) * column_padded + c % column_group`.
    pub column_group: usize,
    /// Columns of a group as stored.
    pub column_padded: usize,
}

impl Layout {
    /// The weight's row of source row `r`.
    #[must_use]
    pub const fn row(&self, r: usize) -> usize {
        self.base + (r / self.row_group) * self.row_padded + r % self.row_group
    }

    /// The weight's column of source column `c`.
    #[must_use]
    pub const fn column(&self, c: usize) -> usize {
        (c / self.column_group) * self.column_padded + c % self.column_group
    }
}

/// Copies `values`, whole source rows from row `first` on, into `weight`, `[rows, dim]`.
pub fn place(values: &[f32], first: usize, layout: &Layout, weight: &mut [f32], dim: usize) {
    for (r, row) in values.chunks_exact(layout.columns).enumerate() {
        for (c, &v) in row.iter().enumerate() {
            weight[layout.row(first + r) * dim + layout.column(c)] = v;
        }
    }
}

/// Little-endian f32.
#[must_use]
pub fn from_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Little-endian f16: exact.
#[must_use]
pub fn from_f16(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}

/// Little-endian bf16: exact.
#[must_use]
pub fn from_bf16(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}

/// f16 bits, to nearest, ties to even; beyond the range infinity.
#[must_use]
pub fn to_f16(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&v| f16::from_f32(v).to_bits()).collect()
}
