use super::{OBSERVED, Result, expect};
use crate::device::Buffer;
use crate::graph::Graph;
use crate::shaders::{self, SelectKeysParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor};

/// The positions that are kept of a prompt (Li et al. 2024, "SnapKV"): of each key head those before the last [`OBSERVED`] ones whose
/// `sums`, averaged over 5 neighbours, are the greatest, of equal ones the first. The prompt has more than `kept` tokens.
/// `sums`: `[K, live]`, as [`observe`](super::observe) makes them; `chosen`: `[K, kept - OBSERVED]` u32, ascending, from word `first` on.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn select_keys(
    g: &mut Graph<'_>,
    sums: &Tensor,
    chosen: &Buffer,
    first: u32,
    kept: u32,
    step: &Step,
) -> Result<()> {
    expect("select_keys.kept", kept > OBSERVED, || format!("more than {OBSERVED}"), &[kept])?;
    let pooled = g.empty("select_keys", sums.rows, sums.dim, Elem::F32)?;
    let params = SelectKeysParams { stride: 4 * sums.dim4(), kept, first };
    let operands = [(&step.state).into(), sums.into(), (&pooled).into(), chosen.into()];
    g.dispatch(shaders::SELECT_KEYS.variant(&[]), &[], &params, &operands, u64::from(sums.rows))?;
    Ok(())
}
