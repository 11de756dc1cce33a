use super::Result;
use crate::device::Capabilities;
use crate::graph::Graph;
use crate::shaders::{self, FmaParams};
use crate::tensor::{Elem, Tensor};

/// In which numbers [`fma`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FmaType {
    /// `f32`
    F32,
    /// `f16`, which needs `shader-f16`
    F16,
    /// Products of four 8-bit integers, summed in 32 bits: `dot4I8Packed`
    Int8,
}

impl FmaType {
    /// Multiplications and additions of one round of one invocation: eight chains of a vec4, with four of each for a packed product.
    #[must_use]
    pub fn operations(self) -> u64 {
        match self {
            Self::F32 | Self::F16 => 64,
            Self::Int8 => 256,
        }
    }

    /// Whether a device computes in it.
    #[must_use]
    pub fn is_in(self, capabilities: Capabilities) -> bool {
        match self {
            Self::F32 => true,
            Self::F16 => capabilities.shader_f16,
            Self::Int8 => capabilities.packed_dot,
        }
    }
}

/// For each of `count` invocations `i`: the sum of eight chains `v = v * factor + addend`, `rounds` long, which start at
/// `i % 16 + 0..8`. With [`FmaType::Int8`] `v` is the sum of its four bytes before it is multiplied, and `factor` and `addend` are whole
/// numbers of 8 bits. Returns `[count, 4]`, the same value four times. It measures arithmetic and is part of no model.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn fma(g: &mut Graph<'_>, ty: FmaType, count: u32, rounds: u32, factor: f32, addend: f32) -> Result<Tensor> {
    let variant = match ty {
        FmaType::F32 => "t_f32",
        FmaType::F16 => "t_f16",
        FmaType::Int8 => "t_i8",
    };
    let y = g.empty("fma", count, 4, Elem::F32)?;
    let params = FmaParams { count, rounds, factor, addend };
    g.dispatch(shaders::FMA.variant(&[variant]), &[], &params, &[(&y).into()], u64::from(count.div_ceil(256)))?;
    Ok(y)
}
