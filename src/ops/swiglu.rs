use super::{Result, expect, flag};
use crate::graph::Graph;
use crate::shaders::{self, SwigluParams};
use crate::step::Step;
use crate::tensor::{Tensor, vec4s};

/// `y[t, f] = silu(gate[t, f]) * up[t, f]`. Shazeer 2020.
/// `x`: `[T, 2 F]`, gate then up, each padded to whole vec4s; returns `[T, F]`.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn swiglu(g: &mut Graph<'_>, x: &Tensor, dim: u32, step: &Step) -> Result<Tensor> {
    let padded = vec4s(dim) * 4;
    expect("swiglu.x", x.dim == 2 * padded, || format!("[T, {}]", 2 * padded), &[x.rows, x.dim])?;
    let y = g.empty("swiglu", x.rows, dim, x.elem)?;
    let kernel = shaders::SWIGLU.variant(&[flag('x', x.elem)]);
    let operands = [(&step.state).into(), x.into(), (&y).into()];
    let items = u64::from(x.rows) * u64::from(y.dim4());
    g.dispatch(kernel, &[], &SwigluParams { dim4: y.dim4() }, &operands, items.div_ceil(64))?;
    Ok(y)
}
