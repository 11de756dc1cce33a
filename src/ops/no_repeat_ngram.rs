use super::Result;
use super::sample::expect_row;
use crate::graph::Graph;
use crate::shaders::{self, NoRepeatNgramParams};
use crate::step::{History, Step};
use crate::tensor::Tensor;

/// Places in the history of one workgroup.
const PLACES: u32 = 256;

/// Forbids in `logits` (`[1, V]`, f32), in place, the tokens that would repeat an n-gram of `history`, n as `step.sampling`
/// says. `live`: the most tokens that there may be so far.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn no_repeat_ngram(g: &mut Graph<'_>, logits: &Tensor, step: &Step, history: &History, live: u32) -> Result<()> {
    expect_row("no_repeat_ngram.logits", logits)?;
    let operands = [(&step.sampling).into(), (&step.state).into(), (&history.ids).into(), logits.into()];
    let groups = live.div_ceil(PLACES).max(1).into();
    let params = NoRepeatNgramParams { vocab: logits.dim };
    g.dispatch(shaders::NO_REPEAT_NGRAM.variant(&[]), &[], &params, &operands, groups)?;
    Ok(())
}
