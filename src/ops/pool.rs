use super::{Result, flag};
use crate::device::Sums;
use crate::graph::{Graph, Work};
use crate::shaders::{self, PoolParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor};

/// What one row is made of that stands for a whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The mean of all rows.
    Mean,
    /// The first one, which is that of `[CLS]`.
    First,
}

/// Of each slot's rows one, as `kind` says (Reimers & Gurevych 2019), where `normalize` divided by its length.
/// `x`: `[T, D]`; returns `[B, D]`, in f32.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn pool(g: &mut Graph<'_>, x: &Tensor, kind: PoolKind, normalize: bool, slots: u32, step: &Step) -> Result<Tensor> {
    let y = g.empty("pool", slots, x.dim, Elem::F32)?;
    // one row for a text is too much for an invocation by itself
    let subgroups = if g.kernels().norms == Sums::Subgroups { "sg_on" } else { "sg_off" };
    let kernel = shaders::POOL.variant(&[flag('x', x.elem), subgroups]);
    let of = |on: bool| f64::from(u8::from(on));
    let constants = [("FIRST", of(kind == PoolKind::First)), ("NORMALIZE", of(normalize))];
    let operands = [(&step.state).into(), x.into(), (&y).into()];
    g.dispatch(kernel, &constants, &PoolParams { dim4: x.dim4() }, &operands, u64::from(slots))?;
    // of the first row nobody knows beforehand how many others there are
    if kind == PoolKind::Mean {
        let bytes = u64::from(slots) * y.row_bytes();
        g.work(Work { shape: [x.dim, y.dim], bytes_per_row: x.row_bytes(), bytes, ..Work::default() });
    }
    Ok(y)
}
