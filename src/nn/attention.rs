use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Linear, Pass, Rope};
use crate::ops::{self, AttentionParams, Heads, Out, Result};
use crate::tensor::{Storage, Tensor};
use crate::weights::{Rows, Weights};

/// Causal self-attention with rotary positions and grouped heads: q, k and v are one product.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    o: Linear,
    heads: Heads,
}

impl Attention {
    /// `q_proj`, `k_proj`, `v_proj` and `o_proj` for `dim` inputs, biases where `bias`.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, dim: u32, heads: Heads, bias: bool, storage: Storage) -> Result<Self, Error> {
        let width = heads.head_dim;
        let of = |name, count| Rows { name, rows: count * width, group: width };
        let qkv = [of("q_proj", heads.heads), of("k_proj", heads.kv_heads), of("v_proj", heads.kv_heads)];
        Ok(Self {
            qkv: Linear::load(w, &qkv, dim, dim, bias, storage)?,
            o: Linear::load(w, &[Rows::plain("o_proj", dim)], heads.heads * width, width, bias, storage)?,
            heads,
        })
    }

    /// `x`: `[T, D]`, normalized; adds to `residual`, `[T, D]`.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(
        &self,
        g: &mut Graph<'_>,
        x: &Tensor,
        residual: &Tensor,
        layer: usize,
        rope: &Rope,
        pass: &Pass<'_>,
    ) -> Result<()> {
        let kv = pass.cache.layer(layer); // [blocks, 32, K, E] twice
        let qkv = self.qkv.forward(g, x, Out::New(pass.elem), pass)?; // [T, (H + 2 K) E]
        let q = ops::rope_append(g, &qkv, &self.heads, &rope.table, kv, pass.step)?; // [T, H E]
        let scale = (f64::from(self.heads.head_dim)).powf(-0.5) as f32;
        let params = AttentionParams { heads: self.heads, scale, window: 0, live: pass.live };
        let y = ops::attention(g, &q, kv, &params, pass.step)?; // [T, H E]
        self.o.forward(g, &y, Out::AddTo(residual), pass)?; // [T, D]
        Ok(())
    }
}
