use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Linear, Norm, Pass};
use crate::ops::{self, Act, Activated, Input, NormConfig, Out, Result};
use crate::site::OpClass;
use crate::tensor::{Elem, Storage, Tensor};
use crate::weights::{Rows, Weights};

/// Feed-forward layer: `down(act(up(x)))`, or with a gate `down(act(gate(x)) * up(x))`; gate and up are one product.
#[derive(Debug)]
pub struct Mlp {
    up: Linear,
    down: Linear,
    sub_norm: Option<Norm>,
    config: MlpConfig,
}

/// What an [`Mlp`] over `dim` inputs is made of.
#[derive(Clone, Copy, Debug)]
pub struct MlpConfig {
    /// D.
    pub dim: u32,
    /// F.
    pub hidden: u32,
    /// The nonlinearity.
    pub act: Act,
    /// Whether one half of the product gates the other.
    pub gated: bool,
    /// Biases in all layers.
    pub bias: bool,
    /// What goes into the way back is normalized.
    pub sub_norm: Option<NormConfig>,
    /// Matrices are stored `[inputs, outputs]`.
    pub transposed: bool,
    /// What its tensors are called.
    pub names: MlpNames,
}

/// What the tensors of an [`Mlp`] are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpNames {
    /// Gate and up; or one name, where they are one tensor, or there is no gate.
    pub up: &'static [&'static str],
    /// The way back.
    pub down: &'static str,
    /// The norm before it, where there is one.
    pub sub_norm: &'static str,
}

impl Mlp {
    /// The tensors that `config` names.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, config: MlpConfig, storage: Storage) -> Result<Self, Error> {
        let MlpConfig { dim, hidden, names, transposed, .. } = config;
        let rows = if config.gated && names.up.len() == 1 { 2 * hidden } else { hidden };
        let of = |name| Rows::grouped(name, rows, hidden).transposed(transposed);
        let up: Vec<_> = names.up.iter().copied().map(of).collect();
        let down = [Rows::plain(names.down, dim).transposed(transposed)];
        Ok(Self {
            up: Linear::load(w, &up, dim, dim, config.bias, storage)?,
            down: Linear::load(w, &down, hidden, hidden, config.bias, storage)?,
            sub_norm: config.sub_norm.map(|norm| Norm::load(w, names.sub_norm, hidden, norm)).transpose()?,
            config,
        })
    }

    /// `x`: `[T, D]`; returns `[T, D]`, new or added to the residual stream.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(&self, g: &mut Graph<'_>, x: Input<'_>, out: Out<'_>, pass: &Pass<'_>) -> Result<Tensor> {
        let MlpConfig { act, gated, hidden, .. } = self.config;
        g.enter(OpClass::Mlp);
        // what is normalized before it is used may be of any magnitude until then: squares in f16 end at 65504
        let elem = if self.sub_norm.is_some() { Elem::F32 } else { pass.activations.mlp };
        let mut y = self.up.forward_activated(g, x, Activated { elem, act, gated, dim: hidden }, pass)?; // [T, F]
        if let Some(norm) = &self.sub_norm {
            y = norm.forward(g, &y, ops::Rows::All, Out::New(self.down.input_elem(pass.activations.norm)), pass)?; // [T, F]
            g.enter(OpClass::Mlp);
        }
        self.down.forward(g, &y, out, pass) // [T, D]
    }
}
