//! Shapes, element types and where the elements are. No maths.

use crate::device::Buffer;

/// How an activation's elements are stored. Arithmetic is in f32 whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Elem {
    /// 32 bits.
    F32,
    /// 16 bits, packed in pairs: needs no `shader-f16`.
    F16,
}

impl Elem {
    /// Bytes of four elements: rows are stored in whole groups of four.
    #[must_use]
    pub const fn bytes4(self) -> u64 {
        match self {
            Self::F32 => 16,
            Self::F16 => 8,
        }
    }

    /// `f32` or `f16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// `ceil(n / 4)`: the vec4s that hold `n` elements.
#[must_use]
pub const fn vec4s(n: u32) -> u32 {
    n.div_ceil(4)
}

/// An activation in a recorded program: `[rows, dim]`, each row padded with zeros to whole vec4s.
///
/// `rows` is what the program has room for; a step may use fewer (`Step::rows`). Which memory it is in is decided when the
/// program is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub(crate) id: usize,
    /// Rows there is room for.
    pub rows: u32,
    /// Elements of a row.
    pub dim: u32,
    /// How they are stored.
    pub elem: Elem,
}

impl Tensor {
    /// vec4s of a row.
    #[must_use]
    pub const fn dim4(&self) -> u32 {
        vec4s(self.dim)
    }

    /// Bytes of all rows.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.rows as u64 * self.dim4() as u64 * self.elem.bytes4()
    }
}

/// How a weight's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// 4 bits, symmetric, in blocks of 32 along the input with one f16 scale each: 4.5 bits.
    Q4,
}

impl Storage {
    /// `f32`, `f16`, `q4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q4 => "q4",
        }
    }

    /// vec4s of a stored row of `dim` elements: whole blocks where there are blocks.
    #[must_use]
    pub const fn stride4(self, dim: u32) -> u32 {
        match self {
            Self::F32 | Self::F16 => vec4s(dim),
            Self::Q4 => dim.div_ceil(32) * 8,
        }
    }

    /// Words of scales of a stored row: two blocks to a word.
    #[must_use]
    pub const fn scale_stride(self, dim: u32) -> u32 {
        match self {
            Self::F32 | Self::F16 => 0,
            Self::Q4 => dim.div_ceil(32).div_ceil(2),
        }
    }

    /// Bytes of a stored row, scales apart.
    #[must_use]
    pub const fn row_bytes(self, dim: u32) -> u64 {
        let per_vec4 = match self {
            Self::F32 => 16,
            Self::F16 => 8,
            Self::Q4 => 2,
        };
        self.stride4(dim) as u64 * per_vec4
    }
}

/// Rows `first .. first + rows` of a weight: as many as one binding shows.
#[derive(Clone, Debug)]
pub struct Part {
    /// First row.
    pub first: u32,
    /// Rows, a multiple of 4 in a weight that is multiplied by; what pads them is zero.
    pub rows: u32,
    /// The elements.
    pub data: Buffer,
    /// The scales of their blocks (q4).
    pub scales: Option<Buffer>,
}

/// A weight `[rows, dim]` on the GPU, split by rows where it is longer than one binding.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Rows: outputs of a matrix, entries of a table.
    pub rows: u32,
    /// Elements of a row: inputs.
    pub dim: u32,
    /// How they are stored.
    pub storage: Storage,
    /// The parts, in order.
    pub parts: Vec<Part>,
}
