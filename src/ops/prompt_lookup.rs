use super::{Result, expect};
use crate::graph::Graph;
use crate::shaders::{self, PromptLookupParams};
use crate::step::{History, MAX_EACH, Step};

/// Drafts the next tokens of `slots` slots, as `step.sampling` says, from what stands in `history` after an earlier place like its end:
/// they become rows behind each slot's only one, of `each` places.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn prompt_lookup(g: &mut Graph<'_>, slots: u32, step: &Step, history: &History, each: u32) -> Result<()> {
    let fits = (1..=MAX_EACH).contains(&each) && (1..=step.slots).contains(&slots);
    expect("prompt_lookup", fits, || format!("1 to {MAX_EACH} rows of each slot"), &[slots, each])?;
    let operands = [(&step.sampling).into(), (&step.state).into(), (&step.rows).into(), (&history.ids).into()];
    let params = PromptLookupParams { each, positions: history.positions };
    g.dispatch(shaders::PROMPT_LOOKUP.variant(&[]), &[], &params, &operands, slots.into())?;
    Ok(())
}
