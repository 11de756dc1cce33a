use super::{Result, expect, flag};
use crate::graph::{Graph, Work};
use crate::shaders::{self, ActivationParams};
use crate::step::Step;
use crate::tensor::{Tensor, vec4s};

/// A nonlinearity; the numbers are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    /// `v * sigmoid(v)`, also called swish (Elfwing et al. 2018).
    Silu = 0,
    /// `0.5 v (1 + tanh(sqrt(2 / pi) (v + 0.044715 v^3)))` (Hendrycks & Gimpel 2016).
    GeluTanh = 1,
    /// `0.5 v (1 + erf(v / sqrt(2)))` (Hendrycks & Gimpel 2016).
    Gelu = 2,
    /// `v * sigmoid(1.702 v)` (Hendrycks & Gimpel 2016).
    QuickGelu = 3,
    /// `max(v, 0)`.
    Relu = 4,
    /// `max(v, 0)^2` (So et al. 2021).
    Relu2 = 5,
    /// `tanh(v)`.
    Tanh = 6,
}

/// `y[t, f] = act(x[t, f])`, or with a gate `act(gate[t, f]) * up[t, f]` (Shazeer 2020).
/// `x`: `[T, F]`, or `[T, 2 F]`, gate then up, each padded to whole vec4s; returns `[T, F]`, F being `dim`.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn activation(g: &mut Graph<'_>, x: &Tensor, act: Act, gated: bool, dim: u32, step: &Step) -> Result<Tensor> {
    let width = if gated { 2 * vec4s(dim) * 4 } else { dim };
    expect("activation.x", x.dim == width, || format!("[T, {width}]"), &[x.rows, x.dim])?;
    let y = g.empty("activation", x.rows, dim, x.elem)?;
    let kernel = shaders::ACTIVATION.variant(&[flag('x', x.elem)]);
    let (site, beyond) = g.check(None, y.elem);
    let constants = [("ACT", f64::from(act as u8)), ("GATED", f64::from(u8::from(gated))), ("BEYOND", beyond)];
    let operands = [(&step.state).into(), (&step.overflow).into(), x.into(), (&y).into()];
    let items = u64::from(x.rows) * u64::from(y.dim4());
    let params = ActivationParams { dim4: y.dim4(), site };
    g.dispatch(kernel, &constants, &params, &operands, items.div_ceil(64))?;
    g.work(Work { shape: [x.dim, dim], bytes_per_row: x.row_bytes() + y.row_bytes(), ..Work::default() });
    Ok(y)
}
