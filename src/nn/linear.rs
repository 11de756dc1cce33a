use crate::device::Buffer;
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::Pass;
use crate::ops::{self, Activated, Input, Out, Result, Rows};
use crate::site::OpClass;
use crate::tensor::{Elem, Storage, Tensor, Weight};
use crate::weights::{self, Weights};

/// `y = x W^T + b`, perhaps several layers of one input stacked into one product.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Buffer>,
}

impl Linear {
    /// The layers `layers` (outputs and how they group), stacked; `dim` inputs, in groups of `column_group`.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(
        w: &mut Weights<'_>,
        layers: &[weights::Rows<'_>],
        dim: u32,
        column_group: u32,
        bias: bool,
        storage: Storage,
    ) -> Result<Self, Error> {
        let weight = w.matrix(layers, dim, column_group, storage)?;
        let bias = if bias { Some(w.vector(layers, "bias")?) } else { None };
        Ok(Self { weight, bias })
    }

    /// `x`: `[T, K]`; returns `[T, N]`, new or added to the residual stream.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward<'a>(
        &self,
        g: &mut Graph<'_>,
        x: impl Into<Input<'a>>,
        out: Out<'_>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        ops::matmul(g, x, &self.weight, self.bias.as_ref(), out, Rows::All, pass.step)
    }

    /// As [`forward`](Self::forward), where `x` may be the rows that [`Rows::Last`] left.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward_rows(
        &self,
        g: &mut Graph<'_>,
        x: &Tensor,
        out: Out<'_>,
        rows: Rows,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        ops::matmul(g, x, &self.weight, self.bias.as_ref(), out, rows, pass.step)
    }

    /// `x`: `[T, K]`; returns what the activation makes of the product, `[T, F]`: see [`ops::matmul_activated`].
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward_activated(
        &self,
        g: &mut Graph<'_>,
        x: Input<'_>,
        activated: Activated,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        ops::matmul_activated(g, x, &self.weight, self.bias.as_ref(), activated, pass.step)
    }

    /// What its input should be, where activations are `elem`: f32 if it is rounded to 8 bits, since a rounding to f16 before that would
    /// put what lies between two codes to the other one.
    #[must_use]
    pub fn input_elem(&self, elem: Elem) -> Elem {
        if self.weight.parts.iter().any(|part| part.int8_inputs) { Elem::F32 } else { elem }
    }

    /// Rows of the result, padding included.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.weight.rows
    }
}

/// A table of token embeddings, which may serve as output head, too.
#[derive(Debug)]
pub struct Embedding {
    table: Weight,
    bias: Option<Buffer>,
}

impl Embedding {
    /// The table `NAME.weight`: `[V, D]`; with `bias`, which an output head may have, `NAME.bias`: `[V]`.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(
        w: &mut Weights<'_>,
        name: &str,
        [vocab, dim]: [u32; 2],
        bias: bool,
        storage: Storage,
    ) -> Result<Self, Error> {
        let rows = [weights::Rows::plain(name, vocab)];
        let table = w.matrix(&rows, dim, dim, storage)?;
        let bias = if bias { Some(w.vector(&rows, "bias")?) } else { None };
        Ok(Self { table, bias })
    }

    /// The step's tokens, times `scale`: `[T, D]`, in f32.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(&self, g: &mut Graph<'_>, scale: f32, pass: &Pass<'_>) -> Result<Tensor> {
        ops::embed(g, &self.table, pass.rows, scale, pass.step)
    }

    /// As learned positions: adds the row `offset` + position of each token to `x`, `[T, D]`.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn add_positions(&self, g: &mut Graph<'_>, x: &Tensor, offset: u32, pass: &Pass<'_>) -> Result<()> {
        ops::embed_positions(g, &self.table, x, offset, pass.step)
    }

    /// As token types: adds the row of each token's type to `x`, `[T, D]`; see [`ops::embed_types`].
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn add_types(&self, g: &mut Graph<'_>, x: &Tensor, types: &Buffer, pass: &Pass<'_>) -> Result<()> {
        ops::embed_types(g, &self.table, x, types, pass.step)
    }

    /// As output head: `x` `[T, D]` to logits `[T, V]`, in f32.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn logits(&self, g: &mut Graph<'_>, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        g.enter(OpClass::Head);
        ops::matmul(g, x, &self.table, self.bias.as_ref(), Out::New(Elem::F32), pass.wanted, pass.step)
    }
}
