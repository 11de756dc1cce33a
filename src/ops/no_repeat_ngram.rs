use super::sample::expect_rows;
use super::{Result, Rows};
use crate::graph::Graph;
use crate::shaders::{self, NoRepeatNgramParams};
use crate::step::{History, Step};
use crate::tensor::Tensor;

/// Places in the history of one workgroup.
const PLACES: u32 = 256;

/// Forbids in `logits` (`[B, V]`, f32), in place, the tokens that would repeat an n-gram of `history`, n as `step.sampling`
/// says. `live`: the most tokens that there may be so far. `rows`: as those of [`penalize`](super::penalize).
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn no_repeat_ngram(
    g: &mut Graph<'_>,
    logits: &Tensor,
    rows: Rows,
    step: &Step,
    history: &History,
    live: u32,
) -> Result<()> {
    expect_rows("no_repeat_ngram.logits", logits, rows)?;
    let operands =
        [(&step.sampling).into(), (&step.state).into(), (&history.ids).into(), (&step.rows).into(), logits.into()];
    let groups = u64::from(live.div_ceil(PLACES).max(1)) * u64::from(logits.rows);
    let params = NoRepeatNgramParams { vocab: logits.dim, positions: history.positions, live };
    g.dispatch(
        shaders::NO_REPEAT_NGRAM.variant(&[]),
        &[("ALL_ROWS", 1.0 - rows.last_only())],
        &params,
        &operands,
        groups,
    )?;
    Ok(())
}
