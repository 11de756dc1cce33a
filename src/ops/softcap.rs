use super::{Result, expect};
use crate::graph::{Graph, Work};
use crate::shaders::{self, SoftcapParams};
use crate::tensor::{Elem, Tensor};

/// `x[t, v] = cap * tanh(x[t, v] / cap)`, in place (Gemma 2, 2024). `x`: `[T, V]` in f32.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn softcap(g: &mut Graph<'_>, x: &Tensor, cap: f32) -> Result<()> {
    expect("softcap.x", x.elem == Elem::F32 && cap > 0.0, || "[T, V] in f32".into(), &[x.rows, x.dim])?;
    let count = u64::from(x.rows) * u64::from(x.dim4());
    let params = SoftcapParams { count: count as u32, cap };
    g.dispatch(shaders::SOFTCAP.variant(&[]), &[], &params, &[x.into()], count.div_ceil(64))?;
    // of all rows that there is room for
    g.work(Work { shape: [x.dim, x.dim], bytes: 2 * x.bytes(), ..Work::default() });
    Ok(())
}
