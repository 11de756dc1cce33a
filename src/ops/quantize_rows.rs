use super::{Result, Rows, expect, flag};
use crate::graph::{Graph, Work};
use crate::shaders::{self, QuantizeRowsParams};
use crate::step::Step;
use crate::tensor::{Elem, Order, Tensor, vec4s};

/// Elements that a row of codes is filled to a multiple of.
const UNIT: u32 = 16;

/// `y[t, ..] = round(x[t, ..] / s)` with `s = max(|x[t, ..]|, least) / 127`, in 8 bits: what W8A8 and BitNet make of activations, each
/// token with a scale of its own. `x`: `[T, K]`; returns for each row words of four codes, filled up to 16 codes, and four words of which the first is s.
/// With an `order` its elements are taken in that. `rows` says whether `x` has the step's rows, or only those that [`Rows::Last`] left.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn quantize_rows(
    g: &mut Graph<'_>,
    x: &Tensor,
    order: Option<&Order>,
    least: f32,
    rows: Rows,
    step: &Step,
) -> Result<Tensor> {
    let len = order.map_or(x.dim, |order| order.len);
    expect("quantize_rows", x.rows > 0 && x.dim > 0, || "[T, K]".into(), &[x.rows, x.dim])?;
    let y = g.empty("quantize_rows", x.rows, len.div_ceil(UNIT) * 4 + 4, Elem::F32)?;
    let kernel = shaders::QUANTIZE_ROWS.variant(&[flag('x', x.elem)]);
    let constants = [("LAST_ROWS", rows.last_only()), ("ORDER", f64::from(u8::from(order.is_some())))];
    let params = QuantizeRowsParams { k4: x.dim4(), len4: vec4s(len), y_stride4: y.dim4(), least };
    let order = order.map_or(&step.state, |order| &order.inputs);
    let operands = [(&step.state).into(), x.into(), (&y).into(), order.into()];
    g.dispatch(kernel, &constants, &params, &operands, u64::from(x.rows))?;
    g.work(Work {
        shape: [x.dim, len],
        bytes_per_row: x.row_bytes() + y.row_bytes(),
        last_rows: matches!(rows, Rows::Last(_)),
        ..Work::default()
    });
    Ok(y)
}
