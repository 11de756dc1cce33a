use super::{Result, expect, weight_flag};
use crate::graph::{Graph, Operand};
use crate::shaders::{self, EmbedParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor, Weight};

/// `y[t, ..] = table[ids[t], ..] * scale`: looks up the step's ids, at most `rows` of them.
/// `table`: `[V, D]`; returns `[T, D]`, the residual stream, in f32.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn embed(g: &mut Graph<'_>, table: &Weight, rows: u32, scale: f32, step: &Step) -> Result<Tensor> {
    expect("embed", rows > 0 && table.dim > 0, || "[V, D] and at least one row".into(), &[rows, table.dim])?;
    let y = g.empty("embed", rows, table.dim, Elem::F32)?;
    let kernel = shaders::EMBED.variant(&[weight_flag(table.storage)]);
    for part in &table.parts {
        let params = EmbedParams {
            dim4: y.dim4(),
            first: part.first,
            count: part.rows,
            stride4: table.storage.stride4(table.dim),
            scale_stride: table.storage.scale_stride(table.dim),
            scale,
        };
        let mut operands: Vec<Operand<'_>> =
            vec![(&step.state).into(), (&step.ids).into(), (&y).into(), (&part.data).into()];
        operands.extend(part.scales.as_ref().map(Operand::from));
        g.dispatch(kernel, &[], &params, &operands, (u64::from(rows) * u64::from(y.dim4())).div_ceil(64))?;
    }
    Ok(y)
}
