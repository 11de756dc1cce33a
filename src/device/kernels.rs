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

/// The kernels that a device takes. All of them compute the same, up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// Sums of products of few rows.
    pub sums: Sums,
    /// Up to this many rows a product is made row by row, beyond them in tiles; without meaning where `tiles_alone`.
    pub few_rows: u32,
    /// Whether each invocation makes tiles by itself, instead of a workgroup that shares what it has read.
    pub tiles_alone: bool,
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
        let Capabilities { processor, subgroups, packed_dot, .. } = *capabilities;
        let sums = match (processor, subgroups) {
            (true, _) => Sums::Alone,
            (false, true) => Sums::Subgroups,
            (false, false) => Sums::Workgroup,
        };
        Self {
            sums,
            few_rows: 8,
            tiles_alone: processor,
            attention_alone: processor,
            // measured on llvmpipe: 128 elements gain, 384 lose
            norm_in_products: if processor { 256 } else { 1024 },
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
