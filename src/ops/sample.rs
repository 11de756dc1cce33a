use super::{Result, expect};
use crate::graph::{Graph, Operand, Work};
use crate::shaders::{self, SampleParams};
use crate::step::{History, MAX_SLOTS, Step};
use crate::tensor::{Elem, Tensor};

/// Samples each slot's next token from `logits` (`[B, V]`, f32) as `step.sampling` says, and advances the step: the id goes to
/// the slot's ring and to its row of the next step; position, rows, count and stop flag follow. Where `history` is given, the id
/// is taken down there, for [`penalize`](super::penalize) and [`no_repeat_ngram`](super::no_repeat_ngram).
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn sample(g: &mut Graph<'_>, logits: &Tensor, step: &Step, history: Option<&History>) -> Result<()> {
    expect_rows("sample.logits", logits)?;
    let mut operands: Vec<Operand<'_>> = vec![
        (&step.sampling).into(),
        logits.into(),
        (&step.state).into(),
        (&step.rows).into(),
        (&step.ring).into(),
        (&step.overflow).into(),
    ];
    operands.extend(history.iter().flat_map(|h| [Operand::from(&h.tokens), (&h.ids).into()]));
    let kernel = shaders::SAMPLE.variant(&[if history.is_some() { "h_on" } else { "h_off" }]);
    let positions = history.map_or(0, |history| history.positions);
    let params = SampleParams { vocab: logits.dim, ring: step.ring_len, slots: step.slots, positions };
    g.dispatch(kernel, &[], &params, &operands, logits.rows.into())?;
    g.work(Work { shape: [logits.dim, 1], bytes_per_row: logits.row_bytes(), last_rows: true, ..Work::default() });
    Ok(())
}

/// A row of f32 for each slot.
pub(super) fn expect_rows(op: &'static str, logits: &Tensor) -> Result<()> {
    let fits = (1..=MAX_SLOTS).contains(&logits.rows) && logits.elem == Elem::F32;
    Ok(expect(op, fits, || format!("[B, V] in f32, B at most {MAX_SLOTS}"), &[logits.rows, logits.dim])?)
}
