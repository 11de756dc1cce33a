use super::{Result, expect};
use crate::graph::Graph;
use crate::shaders::{self, SampleParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor};

/// Samples the next token from `logits` (`[1, V]`, f32) as `step.sampling` says, and advances the step: the id goes to the
/// ring and to the front of the next step's ids; position, rows, count and stop flag follow.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn sample(g: &mut Graph<'_>, logits: &Tensor, step: &Step) -> Result<()> {
    let fits = logits.rows == 1 && logits.elem == Elem::F32;
    expect("sample.logits", fits, || "[1, V] in f32".into(), &[logits.rows, logits.dim])?;
    let operands =
        [(&step.sampling).into(), logits.into(), (&step.state).into(), (&step.ids).into(), (&step.ring).into()];
    g.dispatch(shaders::SAMPLE.variant(&[]), &[], &SampleParams { vocab: logits.dim }, &operands, 1)?;
    Ok(())
}
