use super::{Result, block_constants, expect, weight_flag};
use crate::device::Buffer;
use crate::graph::{Graph, Operand, Work};
use crate::shaders::{self, EmbedParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor, Weight};

/// Which rows of the table are looked up, and what becomes of them.
#[derive(Clone, Copy)]
enum Kind<'a> {
    /// Those of the step's ids, times this: they are the result.
    Ids(f32),
    /// Those of ids that stand elsewhere: they are added.
    Others(&'a Buffer),
    /// Those of the positions, counted from this row: they are added.
    Positions(u32),
}

/// `y[t, ..] = table[ids[t], ..] * scale`: looks up the step's ids, at most `rows` of them.
/// `table`: `[V, D]`; returns `[T, D]`, the residual stream, in f32.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn embed(g: &mut Graph<'_>, table: &Weight, rows: u32, scale: f32, step: &Step) -> Result<Tensor> {
    expect("embed", rows > 0 && table.dim > 0, || "[V, D] and at least one row".into(), &[rows, table.dim])?;
    let y = g.empty("embed", rows, table.dim, Elem::F32)?;
    dispatch(g, table, &y, Kind::Ids(scale), step)?;
    Ok(y)
}

/// `x[t, ..] += table[ids[t], ..]`: token types (Devlin et al. 2018). `table`: `[P, D]`; `ids`: [`Row`](shaders::Row)s beside the step's own,
/// of which the id counts; `x`: `[T, D]`, the residual stream. An id that the table does not have adds nothing.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn embed_types(g: &mut Graph<'_>, table: &Weight, x: &Tensor, ids: &Buffer, step: &Step) -> Result<()> {
    check_sum("embed_types.x", table, x)?;
    dispatch(g, table, x, Kind::Others(ids), step)
}

/// `x[t, ..] += table[position + t + offset, ..]`: learned positions (Vaswani et al. 2017).
/// `table`: `[P, D]`; `x`: `[T, D]`, the residual stream. A position that the table does not have adds nothing.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn embed_positions(g: &mut Graph<'_>, table: &Weight, x: &Tensor, offset: u32, step: &Step) -> Result<()> {
    check_sum("embed_positions.x", table, x)?;
    dispatch(g, table, x, Kind::Positions(offset), step)
}

fn check_sum(op: &'static str, table: &Weight, x: &Tensor) -> Result<()> {
    let fits = x.elem == Elem::F32 && x.dim == table.dim;
    Ok(expect(op, fits, || format!("[T, {}] in f32", table.dim), &[x.rows, x.dim])?)
}

fn dispatch(g: &mut Graph<'_>, table: &Weight, y: &Tensor, kind: Kind<'_>, step: &Step) -> Result<()> {
    let (rows, scale, offset) = match kind {
        Kind::Ids(scale) => (&step.rows, scale, 0),
        Kind::Others(ids) => (ids, 1.0, 0),
        Kind::Positions(offset) => (&step.rows, 1.0, offset),
    };
    let flag = |on: bool| f64::from(u8::from(on));
    for part in &table.parts {
        expect("embed.table", part.order.is_none(), || "rows without an order".into(), &[table.rows, table.dim])?;
        let kernel = shaders::EMBED.variant(&[weight_flag(part.storage)]);
        let mut constants = vec![
            ("ADD", flag(matches!(kind, Kind::Others(_)))),
            ("POSITIONS", flag(matches!(kind, Kind::Positions(_)))),
        ];
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
        let mut operands: Vec<Operand<'_>> = vec![(&step.state).into(), rows.into(), y.into(), (&part.data).into()];
        operands.extend(part.scales.as_ref().map(Operand::from));
        let items = u64::from(y.rows) * u64::from(y.dim4());
        g.dispatch(kernel, &constants, &params, &operands, items.div_ceil(64))?;
        // of several parts nobody knows beforehand which one has a row
        if let [part] = &table.parts[..] {
            let scales = u64::from(part.storage.scale_stride(table.dim)) * 4;
            let row = part.storage.row_bytes(table.dim) + scales;
            let written = y.row_bytes() * if matches!(kind, Kind::Ids(_)) { 1 } else { 2 };
            g.work(Work { shape: [table.rows, table.dim], bytes_per_row: row + written, ..Work::default() });
        }
    }
    Ok(())
}
