//! Shapes, element types and where the elements are. No maths.

use crate::device::Buffer;
use crate::quant::Blocks;
use serde::Serialize;

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

    /// The least magnitude that is beyond it, as the bits of an f32: what f16 rounds to infinity, from 65520 on; infinity in f32.
    #[must_use]
    pub const fn beyond(self) -> u32 {
        match self {
            Self::F32 => f32::INFINITY.to_bits(),
            Self::F16 => 65520.0_f32.to_bits(),
        }
    }
}

/// Of each class of operations: the element type of its activations. The residual stream, logits and all sums are f32 whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Activations {
    /// Of [`OpClass::Norm`](crate::site::OpClass::Norm).
    pub norm: Elem,
    /// Of [`OpClass::Attention`](crate::site::OpClass::Attention).
    pub attention: Elem,
    /// Of [`OpClass::Mlp`](crate::site::OpClass::Mlp).
    pub mlp: Elem,
}

impl From<Elem> for Activations {
    fn from(elem: Elem) -> Self {
        Self { norm: elem, attention: elem, mlp: elem }
    }
}

impl std::fmt::Display for Activations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { norm, attention, mlp } = *self;
        if *self == norm.into() {
            return f.write_str(norm.name());
        }
        write!(f, "norm {}, attention {}, mlp {}", norm.name(), attention.name(), mlp.name())
    }
}

/// How the cache stores keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheDtype {
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// Codes of 8 bits with a sign, a scale for each 32.
    Q8,
    /// Codes of 4 bits, a scale and a minimum for each 32.
    Q4,
}

impl CacheDtype {
    /// All of them, the most bits first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8, Self::Q4];

    /// Its name: `f32`, `f16`, `q8` or `q4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// That of the name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The element type of blocks that are not quantized, or not yet.
    #[must_use]
    pub const fn elem(self) -> Elem {
        match self {
            Self::F32 => Elem::F32,
            Self::F16 | Self::Q8 | Self::Q4 => Elem::F16,
        }
    }

    /// Bits of a code, where full blocks are quantized.
    #[must_use]
    pub const fn bits(self) -> Option<u32> {
        match self {
            Self::F32 | Self::F16 => None,
            Self::Q8 => Some(8),
            Self::Q4 => Some(4),
        }
    }
}

impl From<Elem> for CacheDtype {
    fn from(elem: Elem) -> Self {
        match elem {
            Elem::F32 => Self::F32,
            Elem::F16 => Self::F16,
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
    /// Appends its rows as `bytes` has them, without their padding, as f32.
    pub(crate) fn unpack(&self, bytes: &[u8], to: &mut Vec<f32>) {
        let row = self.dim4() as usize * self.elem.bytes4() as usize;
        for row in bytes.chunks_exact(row) {
            match self.elem {
                Elem::F32 => {
                    to.extend(row.chunks_exact(4).take(self.dim as usize).map(bytemuck::pod_read_unaligned::<f32>))
                }
                Elem::F16 => to.extend(
                    row.chunks_exact(2)
                        .take(self.dim as usize)
                        .map(|b| half::f16::from_bits(bytemuck::pod_read_unaligned(b)).to_f32()),
                ),
            }
        }
    }

    /// vec4s of a row.
    #[must_use]
    pub const fn dim4(&self) -> u32 {
        vec4s(self.dim)
    }

    /// Bytes of a row.
    #[must_use]
    pub const fn row_bytes(&self) -> u64 {
        self.dim4() as u64 * self.elem.bytes4()
    }

    /// Bytes of all rows.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.rows as u64 * self.row_bytes()
    }
}

/// How a weight's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// Few bits, in groups along the input.
    Blocks(Blocks),
}

impl Storage {
    /// [`Blocks::Q4`].
    pub const Q4: Self = Self::Blocks(Blocks::Q4);

    /// Its name: `f32`, `f16`, or that of its blocks (`int4-f16-32`).
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::F32 => "f32".to_owned(),
            Self::F16 => "f16".to_owned(),
            Self::Blocks(blocks) => blocks.name(),
        }
    }

    /// The storage of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "f16" => Some(Self::F16),
            _ => Blocks::from_name(name).map(Self::Blocks),
        }
    }

    /// vec4s of a stored row of `dim` elements: whole blocks where there are blocks.
    #[must_use]
    pub const fn stride4(self, dim: u32) -> u32 {
        match self {
            Self::F32 | Self::F16 => vec4s(dim),
            Self::Blocks(blocks) => blocks.padded(dim) / 4,
        }
    }

    /// Words of scales of a stored row.
    #[must_use]
    pub const fn scale_stride(self, dim: u32) -> u32 {
        match self {
            Self::F32 | Self::F16 => 0,
            Self::Blocks(blocks) => blocks.scale_words(dim),
        }
    }

    /// Bytes of a stored row, scales apart.
    #[must_use]
    pub const fn row_bytes(self, dim: u32) -> u64 {
        match self {
            Self::F32 => vec4s(dim) as u64 * 16,
            Self::F16 => vec4s(dim) as u64 * 8,
            Self::Blocks(blocks) => blocks.words(dim) as u64 * 4,
        }
    }
}

/// Rows `first .. first + rows` of a weight, in one format: as many as one binding shows.
#[derive(Clone, Debug)]
pub struct Part {
    /// First row.
    pub first: u32,
    /// Rows, a multiple of 4 in a weight that is multiplied by; what pads them is zero.
    pub rows: u32,
    /// How the elements are stored.
    pub storage: Storage,
    /// The elements.
    pub data: Buffer,
    /// The scales of their groups.
    pub scales: Option<Buffer>,
    /// Where the elements of a row are in another order than the inputs that they belong to.
    pub order: Option<Order>,
    /// Whether inputs are rounded to 8 bits, too, each row with a scale of its own.
    pub int8_inputs: bool,
}

/// An order of a row's elements: that of their groups, say, where a group's are not neighbours (GPTQ's `desc_act`).
#[derive(Clone, Debug)]
pub struct Order {
    /// Elements of a stored row.
    pub len: u32,
    /// For each the input (an element of a row of activations, padding counted) that it belongs to; [`NO_INPUT`]: none. Filled to whole
    /// blocks.
    pub inputs: Buffer,
}

/// An element of a stored row that belongs to no input.
pub const NO_INPUT: u32 = u32::MAX;

impl Part {
    /// Elements of a stored row, of a weight with `dim` inputs.
    #[must_use]
    pub fn row_len(&self, dim: u32) -> u32 {
        self.order.as_ref().map_or(dim, |order| order.len)
    }
}

/// A weight `[rows, dim]` on the GPU, split by rows where it is longer than one binding, or where its rows are stored in several ways.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Rows: outputs of a matrix, entries of a table.
    pub rows: u32,
    /// Elements of a row: inputs.
    pub dim: u32,
    /// The parts, in order.
    pub parts: Vec<Part>,
}
