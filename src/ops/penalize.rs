use super::Result;
use super::sample::expect_row;
use crate::graph::Graph;
use crate::shaders::{self, PenalizeParams};
use crate::step::{History, Step};
use crate::tensor::Tensor;

/// Tokens of one workgroup.
const TOKENS: u32 = 256 * 8;

/// Applies to `logits` (`[1, V]`, f32), in place, what `step.sampling` and `history` say: bias, repetition, presence and
/// frequency penalty, forbidden tokens, the least length.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn penalize(g: &mut Graph<'_>, logits: &Tensor, step: &Step, history: &History) -> Result<()> {
    expect_row("penalize.logits", logits)?;
    let operands = [
        (&step.sampling).into(),
        (&step.state).into(),
        (&history.tokens).into(),
        (&history.bias).into(),
        (&history.sequences).into(),
        (&history.ids).into(),
        logits.into(),
    ];
    let groups = logits.dim.div_ceil(TOKENS).into();
    g.dispatch(shaders::PENALIZE.variant(&[]), &[], &PenalizeParams { vocab: logits.dim }, &operands, groups)?;
    Ok(())
}
