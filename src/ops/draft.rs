use super::{Result, expect};
use crate::device::Buffer;
use crate::graph::Graph;
use crate::shaders::{self, AdoptParams, DraftParams};
use crate::step::{History, MAX_EACH, Step};

/// The step of a model that drafts for another one.
#[derive(Clone, Copy, Debug)]
pub struct Assistant<'a> {
    /// Its step, which has as many slots.
    pub step: &'a Step,
    /// Of each of [`MAX_SLOTS`](crate::step::MAX_SLOTS) slots: how many of its first tokens it has computed.
    pub computed: &'a Buffer,
    /// Positions of a slot that it has room for.
    pub room: u32,
}

/// Sets the assistant's step by `step` and `history`: each slot's rows are the tokens that it has not computed yet, at most `each`. Its own
/// sampler goes on from there.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn draft(g: &mut Graph<'_>, step: &Step, history: &History, each: u32, assistant: Assistant<'_>) -> Result<()> {
    check("draft.each", step, each, assistant)?;
    let operands = [
        (&step.sampling).into(),
        (&step.state).into(),
        (&history.ids).into(),
        assistant.computed.into(),
        (&assistant.step.state).into(),
        (&assistant.step.rows).into(),
    ];
    let params = DraftParams { each, positions: history.positions, room: assistant.room };
    g.dispatch(shaders::DRAFT.variant(&[]), &[], &params, &operands, 1)?;
    Ok(())
}

/// Takes over what the assistant has sampled since [`draft`]: as rows behind each slot's only one, of `each` places, and in `history`.
/// `vocab`: V.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn adopt(
    g: &mut Graph<'_>,
    vocab: u32,
    step: &Step,
    history: &History,
    each: u32,
    assistant: Assistant<'_>,
) -> Result<()> {
    check("adopt.each", step, each, assistant)?;
    let operands = [
        (&step.state).into(),
        (&step.rows).into(),
        (&history.ids).into(),
        assistant.computed.into(),
        (&assistant.step.state).into(),
        (&assistant.step.ring).into(),
    ];
    let (positions, ring, slots) = (history.positions, assistant.step.ring_len, assistant.step.slots);
    let params = AdoptParams { vocab, each, positions, ring, slots };
    g.dispatch(shaders::ADOPT.variant(&[]), &[], &params, &operands, 1)?;
    Ok(())
}

fn check(op: &'static str, step: &Step, each: u32, assistant: Assistant<'_>) -> Result<()> {
    let fits = (1..=MAX_EACH.min(assistant.step.ring_len)).contains(&each) && assistant.step.slots >= step.slots;
    Ok(expect(op, fits, || format!("1 to {MAX_EACH} rows of each slot"), &[each, step.slots, assistant.step.slots])?)
}
