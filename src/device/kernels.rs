//! Which kernels are taken, where several compute the same.

use serde::{Deserialize, Serialize};

use super::{Capabilities, Device, lock};

/// How sums along a row are made: those of a product of few rows, and of norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sums {
    /// A workgroup makes them together, through its memory.
    #[default]
    Workgroup,
    /// A workgroup makes them together, subgroup by subgroup.
    Subgroups,
    /// Each invocation makes its own.
    Alone,
}

impl Sums {
    /// What the shaders' variants call it.
    pub(crate) const fn flag(self) -> &'static str {
        match self {
            Self::Workgroup => "sg_off",
            Self::Subgroups => "sg_on",
            Self::Alone => "alone",
        }
    }
}

/// How a workgroup makes a product of many rows, whose tiles it shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tiles {
    /// Tiles in f32.
    #[default]
    F32,
    /// Tiles in f16, where inputs are in f16, and weights in f16 or few bits.
    F16,
    /// Likewise, multiplied by subgroups in matrices of 8 x 8.
    Matrices8,
    /// In matrices of 16 x 16.
    Matrices16,
}

/// The kernels that a device takes. All of them compute the same, up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// Sums of products of few rows.
    pub sums: Sums,
    /// Up to this many rows a product is made row by row, beyond them in tiles; without meaning where `tiles_alone`.
    pub few_rows: u32,
    /// Whether each invocation makes tiles by itself, instead of a workgroup that shares what it has read.
    pub tiles_alone: bool,
    /// How they are made where a workgroup shares tiles.
    pub tiles: Tiles,
    /// From how many workgroups on these tiles have 128 rows instead of 64, without meaning for matrices: fewer would leave cores idle.
    pub large_tiles: u32,
    /// Whether each invocation attends by itself, to a cache that is not quantized.
    pub attention_alone: bool,
    /// The widest rows that products of few of them normalize by themselves, where a root mean square comes before: a dispatch less, but every
    /// workgroup does it again.
    pub norm_in_products: u32,
    /// Sums of norms.
    pub norms: Sums,
    /// Whether products of packed 8-bit integers are taken.
    pub packed_dot: bool,
}

impl Kernels {
    /// What a device takes that was not measured. What invocations share costs a processor more than it saves.
    #[must_use]
    pub const fn of(capabilities: &Capabilities) -> Self {
        let Capabilities { processor, subgroups, packed_dot, shader_f16, matrices, .. } = *capabilities;
        let sums = match (processor, subgroups) {
            (true, _) => Sums::Alone,
            (false, true) => Sums::Subgroups,
            (false, false) => Sums::Workgroup,
        };
        // without meaning on a processor
        let tiles = match (matrices, shader_f16) {
            _ if processor => Tiles::F32,
            (Some(tiles), _) => tiles,
            (None, true) => Tiles::F16,
            (None, false) => Tiles::F32,
        };
        Self {
            sums,
            few_rows: 8,
            tiles_alone: processor,
            tiles,
            large_tiles: 64,
            attention_alone: processor,
            // not on a processor: at 384 elements it loses (llvmpipe), and rows would differ in their last bits from those of a step of many
            norm_in_products: if processor { 0 } else { 1024 },
            norms: sums,
            packed_dot,
        }
    }
}

impl Device {
    /// The kernels that programs take which are recorded from now on.
    #[must_use]
    pub fn kernels(&self) -> Kernels {
        *lock(&self.0.kernels)
    }

    /// Sets them: as they were [measured](crate::managers::autotune), say. Programs that were recorded before keep theirs.
    pub fn set_kernels(&self, kernels: Kernels) {
        *lock(&self.0.kernels) = kernels;
    }
}
