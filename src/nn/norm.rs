use crate::device::Buffer;
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::Pass;
use crate::ops::{self, Result, Rows};
use crate::tensor::Tensor;
use crate::weights::{self, Weights};

/// Root-mean-square normalization with a gain.
#[derive(Debug)]
pub struct RmsNorm {
    gain: Buffer,
    eps: f32,
}

impl RmsNorm {
    /// The gain `NAME.weight`: `[D]`.
    ///
    /// # Errors
    /// As [`Weights::vector`].
    pub fn load(w: &mut Weights<'_>, name: &str, dim: u32, eps: f32) -> Result<Self, Error> {
        Ok(Self { gain: w.vector(&[weights::Rows::plain(name, dim)], "weight")?, eps })
    }

    /// `x`: the residual stream, `[T, D]`; returns the same in the activations' element type.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(&self, g: &mut Graph<'_>, x: &Tensor, rows: Rows, pass: &Pass<'_>) -> Result<Tensor> {
        ops::rms_norm(g, x, &self.gain, self.eps, rows, pass.elem, pass.step)
    }
}
