use super::sample::expect_rows;
use super::{Result, Rows};
use crate::graph::Graph;
use crate::shaders::{self, PenalizeParams};
use crate::step::{History, MAX_SEQUENCE_WORDS, Step};
use crate::tensor::Tensor;

/// Tokens of one workgroup.
const TOKENS: u32 = 256 * 8;

/// Applies to `logits` (`[B, V]`, f32), in place, what `step.sampling` and `history` say: bias, repetition, presence and
/// frequency penalty, forbidden tokens, the least length. Where `rows` are all, `logits` are `[T, V]`, and a slot's drafts count as chosen
/// in those of the rows behind them.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn penalize(g: &mut Graph<'_>, logits: &Tensor, rows: Rows, step: &Step, history: &History) -> Result<()> {
    expect_rows("penalize.logits", logits, rows)?;
    let operands = [
        (&step.sampling).into(),
        (&step.state).into(),
        (&history.tokens).into(),
        (&history.bias).into(),
        (&history.sequences).into(),
        (&history.ids).into(),
        (&step.rows).into(),
        logits.into(),
    ];
    let groups = u64::from(logits.dim.div_ceil(TOKENS)) * u64::from(logits.rows);
    let params =
        PenalizeParams { vocab: logits.dim, positions: history.positions, sequence_words: MAX_SEQUENCE_WORDS as u32 };
    g.dispatch(shaders::PENALIZE.variant(&[]), &[("ALL_ROWS", 1.0 - rows.last_only())], &params, &operands, groups)?;
    Ok(())
}
