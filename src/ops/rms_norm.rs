use super::{Result, expect, flag};
use crate::device::Buffer;
use crate::graph::Graph;
use crate::shaders::{self, RmsNormParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor};

/// Which rows an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of the step's.
    All,
    /// The step's last, which becomes row 0 of a result with one row: logits are wanted for it alone.
    Last,
}

/// `y[r, c] = x[r, c] * gain[c] / sqrt(mean(x[r, ..]^2) + eps)`
/// `x`: `[T, D]` in f32; `gain`: `[D]` in f32, padded; returns `[T, D]`, or `[1, D]`, in `elem`. Zhang & Sennrich 2019.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn rms_norm(
    g: &mut Graph<'_>,
    x: &Tensor,
    gain: &Buffer,
    eps: f32,
    rows: Rows,
    elem: Elem,
    step: &Step,
) -> Result<Tensor> {
    expect("rms_norm.x", x.elem == Elem::F32, || "[T, D] in f32".into(), &[x.rows, x.dim])?;
    expect(
        "rms_norm.gain",
        gain.size() >= u64::from(x.dim4()) * 16,
        || format!("[{}]", x.dim),
        &[gain.size() as u32 / 4],
    )?;
    let count = if rows == Rows::Last { 1 } else { x.rows };
    let y = g.empty("rms_norm", count, x.dim, elem)?;
    let subgroups = if g.device().capabilities().subgroups { "sg_on" } else { "sg_off" };
    let kernel = shaders::RMS_NORM.variant(&[flag('y', elem), subgroups]);
    let params = RmsNormParams { dim: x.dim, dim4: x.dim4(), eps };
    let constants = [("LAST_ROW", f64::from(u8::from(rows == Rows::Last)))];
    let operands = [(&step.state).into(), x.into(), gain.into(), (&y).into()];
    g.dispatch(kernel, &constants, &params, &operands, u64::from(count))?;
    Ok(y)
}
