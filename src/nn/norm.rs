use crate::error::Error;
use crate::graph::Graph;
use crate::nn::Pass;
use crate::ops::{self, Affine, Input, NormConfig, NormKind, Normed, Out, Result, Rows};
use crate::site::OpClass;
use crate::tensor::Tensor;
use crate::weights::{self, Weights};

/// Normalization of rows, with gains and in layer norm biases.
#[derive(Debug)]
pub struct Norm {
    affine: Affine,
    config: NormConfig,
}

impl Norm {
    /// The gain `NAME.weight`, `[D]`, and in layer norm the bias `NAME.bias`, `[D]`.
    ///
    /// # Errors
    /// As [`Weights::vector`].
    pub fn load(w: &mut Weights<'_>, name: &str, dim: u32, config: NormConfig) -> Result<Self, Error> {
        Self::load_rows(w, weights::Rows::plain(name, dim), config)
    }

    /// As [`load`](Self::load), where elements belong together in groups, each of which is padded.
    ///
    /// # Errors
    /// As [`Weights::vector`].
    pub fn load_rows(w: &mut Weights<'_>, rows: weights::Rows<'_>, config: NormConfig) -> Result<Self, Error> {
        Ok(Self { affine: affine(w, &[rows], config)?, config })
    }

    /// `x`: the residual stream, or anything in f32, `[T, D]`; returns `[T, D]`, or `[1, D]`, as `out` says.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(&self, g: &mut Graph<'_>, x: &Tensor, rows: Rows, out: Out<'_>, pass: &Pass<'_>) -> Result<Tensor> {
        g.enter(OpClass::Norm);
        ops::norm(g, x, &self.affine, self.config, rows, out, pass.step)
    }

    /// As [`forward`](Self::forward), left to the products whose input it is.
    #[must_use]
    pub fn before<'a>(&'a self, x: &'a Tensor, pass: &Pass<'_>) -> Input<'a> {
        Input::Normed(Normed { x, affine: &self.affine, config: self.config, elem: pass.activations.norm })
    }
}

/// Gains and biases of one norm, or of several of one width, one after another.
pub(super) fn affine(
    w: &mut Weights<'_>,
    rows: &[weights::Rows<'_>],
    config: NormConfig,
) -> std::result::Result<Affine, Error> {
    let gain = w.vector(rows, "weight")?;
    let bias = if config.kind == NormKind::Layer { Some(w.vector(rows, "bias")?) } else { None };
    Ok(Affine { gain, bias, count: rows[0].rows })
}
