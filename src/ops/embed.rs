use super::{Result, block_constants, expect, weight_flag};
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
    dispatch(g, table, &y, false, scale, 0, step)?;
    Ok(y)
}

/// `x[t, ..] += table[position + t + offset, ..]`: learned positions (Vaswani et al. 2017).
/// `table`: `[P, D]`; `x`: `[T, D]`, the residual stream. A position that the table does not have adds nothing.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn embed_positions(g: &mut Graph<'_>, table: &Weight, x: &Tensor, offset: u32, step: &Step) -> Result<()> {
    let fits = x.elem == Elem::F32 && x.dim == table.dim;
    expect("embed_positions.x", fits, || format!("[T, {}] in f32", table.dim), &[x.rows, x.dim])?;
    dispatch(g, table, x, true, 1.0, offset, step)
}

fn dispatch(
    g: &mut Graph<'_>,
    table: &Weight,
    y: &Tensor,
    positions: bool,
    scale: f32,
    offset: u32,
    step: &Step,
) -> Result<()> {
    for part in &table.parts {
        expect("embed.table", part.order.is_none(), || "rows without an order".into(), &[table.rows, table.dim])?;
        let kernel = shaders::EMBED.variant(&[weight_flag(part.storage)]);
        let mut constants = vec![("POSITIONS", f64::from(u8::from(positions)))];
        constants.extend(block_constants(part.storage));
        let params = EmbedParams {
            dim: table.dim,
            dim4: y.dim4(),
            first: part.first,
            count: part.rows,
            stride4: part.storage.stride4(table.dim),
            scale_stride: part.storage.scale_stride(table.dim),
            scale,
            offset,
        };
        let mut operands: Vec<Operand<'_>> =
            vec![(&step.state).into(), (&step.rows).into(), y.into(), (&part.data).into()];
        operands.extend(part.scales.as_ref().map(Operand::from));
        let items = u64::from(y.rows) * u64::from(y.dim4());
        g.dispatch(kernel, &constants, &params, &operands, items.div_ceil(64))?;
    }
    Ok(())
}
