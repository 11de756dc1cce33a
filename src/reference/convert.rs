//! Rows of a checkpoint's tensor to rows of a weight as kernels read it: f32, f16 or q4.

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

/// Weights in a block.
pub const Q4_BLOCK: usize = 32;

/// A weight in q4: symmetric blocks of 32 along a row, `value = scale * (nibble - 8)`, as ggml's Q4_0 quantizes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Q4 {
    /// Four to a block, nibble i of word j being weight 8 j + i.
    pub words: Vec<u32>,
    /// f16 scales, two blocks to a word; each row begins a new word.
    pub scales: Vec<u32>,
}

/// Quantizes `weight`, `[rows, dim]`; a last short block of a row is filled with zeros.
#[must_use]
pub fn to_q4(weight: &[f32], dim: usize) -> Q4 {
    let mut q4 = Q4 { words: Vec::new(), scales: Vec::new() };
    for row in weight.chunks_exact(dim) {
        for pair in row.chunks(2 * Q4_BLOCK) {
            let mut word = 0;
            for (i, block) in pair.chunks(Q4_BLOCK).enumerate() {
                let (scale, words) = quantize(block);
                word |= u32::from(scale.to_bits()) << (16 * i);
                q4.words.extend(words);
            }
            q4.scales.push(word);
        }
    }
    q4
}

/// The scale that takes the block's largest magnitude (of equals a negative one) to -8 or 8, and the nibbles.
fn quantize(block: &[f32]) -> (f16, [u32; 4]) {
    // a magnitude with its sign below it
    let extreme = block.iter().map(|v| v.to_bits().rotate_left(1)).max().unwrap_or(0);
    let extreme = f32::from_bits(extreme.rotate_right(1));
    let scale = f16::from_f32(extreme * -0.125);
    let inverse = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
    let mut words = [0; 4];
    for i in 0..Q4_BLOCK {
        let v = block.get(i).copied().unwrap_or(0.0);
        let nibble = (v * inverse + 8.5).floor().clamp(0.0, 15.0) as u32;
        words[i / 8] |= nibble << (i % 8 * 4);
    }
    (scale, words)
}

/// The values that `q4` stands for: `[rows, dim]`.
#[must_use]
pub fn from_q4(q4: &Q4, rows: usize, dim: usize) -> Vec<f32> {
    let blocks = dim.div_ceil(Q4_BLOCK);
    let value = |r: usize, c: usize| {
        let block = c / Q4_BLOCK;
        let pair = q4.scales[r * blocks.div_ceil(2) + block / 2];
        let scale = f16::from_bits((pair >> (16 * (block % 2))) as u16).to_f32();
        let nibble = q4.words[(r * blocks + block) * 4 + c % Q4_BLOCK / 8] >> (c % 8 * 4) & 15;
        (nibble as f32 - 8.0) * scale
    };
    (0..rows).flat_map(|r| (0..dim).map(move |c| (r, c))).map(|(r, c)| value(r, c)).collect()
}
