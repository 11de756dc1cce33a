use super::Result;
use crate::graph::Graph;
use crate::shaders::{self, FmaParams};
use crate::tensor::{Elem, Tensor};

/// Multiplications and additions of one round of one invocation.
pub const FMA_OPERATIONS: u64 = 64;

/// For each of `count` invocations `i`: the sum of eight chains `v = v * factor + addend`, `rounds` long, which start at
/// `i % 16 + 0..8`. Returns `[count, 4]`, the same value four times. It measures arithmetic and is part of no model.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn fma(g: &mut Graph<'_>, count: u32, rounds: u32, factor: f32, addend: f32) -> Result<Tensor> {
    let y = g.empty("fma", count, 4, Elem::F32)?;
    let params = FmaParams { count, rounds, factor, addend };
    g.dispatch(shaders::FMA.variant(&[]), &[], &params, &[(&y).into()], u64::from(count.div_ceil(256)))?;
    Ok(y)
}
