use super::{Result, expect};
use crate::graph::{Graph, Operand};
use crate::shaders::{self, SampleParams};
use crate::step::{History, Step};
use crate::tensor::{Elem, Tensor};

/// Samples the next token from `logits` (`[1, V]`, f32) as `step.sampling` says, and advances the step: the id goes to the
/// ring and to the front of the next step's ids; position, rows, count and stop flag follow. Where `history` is given, the id
/// is taken down there, for [`penalize`](super::penalize) and [`no_repeat_ngram`](super::no_repeat_ngram).
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn sample(g: &mut Graph<'_>, logits: &Tensor, step: &Step, history: Option<&History>) -> Result<()> {
    expect_row("sample.logits", logits)?;
    let mut operands: Vec<Operand<'_>> =
        vec![(&step.sampling).into(), logits.into(), (&step.state).into(), (&step.ids).into(), (&step.ring).into()];
    operands.extend(history.iter().flat_map(|h| [Operand::from(&h.tokens), (&h.ids).into()]));
    let kernel = shaders::SAMPLE.variant(&[if history.is_some() { "h_on" } else { "h_off" }]);
    g.dispatch(kernel, &[], &SampleParams { vocab: logits.dim }, &operands, 1)?;
    Ok(())
}

/// One row of f32.
pub(super) fn expect_row(op: &'static str, logits: &Tensor) -> Result<()> {
    let fits = logits.rows == 1 && logits.elem == Elem::F32;
    Ok(expect(op, fits, || "[1, V] in f32".into(), &[logits.rows, logits.dim])?)
}
