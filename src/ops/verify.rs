use super::{Result, expect};
use crate::graph::Graph;
use crate::shaders::{self, VerifyParams};
use crate::step::{History, MAX_EACH, Step};
use crate::tensor::Tensor;

/// Accepts each slot's drafts as far as `draws` ([`draw`](super::draw)'s, `[T]`) are the same, and advances the step by them and the
/// first draw that is another. Takes all of them down in `history`; the ring has `each` places for every turn and slot, what no id
/// stands in being [`REJECTED`](crate::step::REJECTED) or more. Each slot has room for `each` rows then, of which one is there.
/// `vocab`: V.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn verify(g: &mut Graph<'_>, draws: &Tensor, vocab: u32, step: &Step, history: &History, each: u32) -> Result<()> {
    let most = MAX_EACH.min(step.ring_len);
    expect("verify.each", (1..=most).contains(&each), || format!("1 to {most} rows of each slot"), &[each])?;
    let operands = [
        (&step.sampling).into(),
        draws.into(),
        (&step.state).into(),
        (&step.rows).into(),
        (&step.ring).into(),
        (&step.overflow).into(),
        (&history.tokens).into(),
        (&history.ids).into(),
    ];
    let (ring, positions) = (step.ring_len / each, history.positions);
    let params = VerifyParams { vocab, ring, slots: step.slots, each, positions };
    g.dispatch(shaders::VERIFY.variant(&[]), &[], &params, &operands, 1)?;
    Ok(())
}
