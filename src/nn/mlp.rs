use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Linear, Pass};
use crate::ops::{self, Out, Result};
use crate::tensor::{Storage, Tensor};
use crate::weights::{Rows, Weights};

/// Feed-forward layer with a gate: `down(silu(gate(x)) * up(x))`; gate and up are one product.
#[derive(Debug)]
pub struct GatedMlp {
    gate_up: Linear,
    down: Linear,
    hidden: u32,
}

impl GatedMlp {
    /// `gate_proj`, `up_proj` (or `gate_up_proj`, where `fused`) and `down_proj`: `dim` inputs, `hidden` in between, biases where
    /// `bias`.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(
        w: &mut Weights<'_>,
        dim: u32,
        hidden: u32,
        bias: bool,
        fused: bool,
        storage: Storage,
    ) -> Result<Self, Error> {
        let one = [Rows { name: "gate_up_proj", rows: 2 * hidden, group: hidden }];
        let two = [Rows::plain("gate_proj", hidden), Rows::plain("up_proj", hidden)];
        let gate_up = if fused { &one[..] } else { &two };
        Ok(Self {
            gate_up: Linear::load(w, gate_up, dim, dim, bias, storage)?,
            down: Linear::load(w, &[Rows::plain("down_proj", dim)], hidden, hidden, bias, storage)?,
            hidden,
        })
    }

    /// `x`: `[T, D]`, normalized; adds to `residual`, `[T, D]`.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(&self, g: &mut Graph<'_>, x: &Tensor, residual: &Tensor, pass: &Pass<'_>) -> Result<()> {
        let gate_up = self.gate_up.forward(g, x, Out::New(pass.elem), pass)?; // [T, 2 F]
        let y = ops::swiglu(g, &gate_up, self.hidden, pass.step)?; // [T, F]
        self.down.forward(g, &y, Out::AddTo(residual), pass)?; // [T, D]
        Ok(())
    }
}
