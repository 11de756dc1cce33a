use super::{Result, Rows, expect};
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
    expect_rows("sample.logits", logits, Rows::Last(logits.rows))?;
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

/// Draws the token after each of the step's rows from a slot's last token on, drafts, as [`sample`] would there, from `logits` (`[T, V]`,
/// f32). Returns `[T]` ids in u32, all ones where there is no number to choose; nothing for rows before. [`verify`](super::verify) advances
/// the step.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn draw(g: &mut Graph<'_>, logits: &Tensor, step: &Step) -> Result<Tensor> {
    expect_rows("draw.logits", logits, Rows::All)?;
    // of words, whatever the rows of this tensor are
    let drawn = g.empty("draw", logits.rows.div_ceil(4), 4, Elem::F32)?;
    let operands = [(&step.sampling).into(), logits.into(), (&step.state).into(), (&step.rows).into(), (&drawn).into()];
    let params = SampleParams { vocab: logits.dim, ring: step.ring_len, slots: step.slots, positions: 0 };
    g.dispatch(shaders::SAMPLE.variant(&["draws"]), &[], &params, &operands, logits.rows.into())?;
    g.work(Work { shape: [logits.dim, 1], bytes_per_row: logits.row_bytes(), ..Work::default() });
    Ok(drawn)
}

/// A row of f32 for each slot, or for all rows of the step.
pub(super) fn expect_rows(op: &'static str, logits: &Tensor, rows: Rows) -> Result<()> {
    let most = if rows == Rows::All { u32::MAX } else { MAX_SLOTS };
    let fits = (1..=most).contains(&logits.rows) && logits.elem == Elem::F32;
    Ok(expect(op, fits, || format!("[rows, V] in f32, at most {most} rows"), &[logits.rows, logits.dim])?)
}
