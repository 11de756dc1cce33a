use crate::device::Buffer;
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
    qk_norm: Option<(Buffer, f32)>,
    heads: Heads,
    window: u32,
}

/// What an [`Attention`] over `dim` inputs is made of.
#[derive(Clone, Copy, Debug)]
pub struct AttentionConfig {
    /// D.
    pub dim: u32,
    /// H, K, E and the rotary width.
    pub heads: Heads,
    /// Keys that a query sees, itself included; 0: all.
    pub window: u32,
    /// Biases in q, k and v.
    pub qkv_bias: bool,
    /// A bias in o.
    pub o_bias: bool,
    /// The epsilon of `q_norm` and `k_norm`, where there are such.
    pub qk_norm: Option<f32>,
    /// One tensor `qkv_proj` instead of three.
    pub fused: bool,
}

impl Attention {
    /// `q_proj`, `k_proj`, `v_proj` (or `qkv_proj`), `o_proj`, `q_norm` and `k_norm`.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, c: &AttentionConfig, storage: Storage) -> Result<Self, Error> {
        let (dim, heads, width) = (c.dim, c.heads, c.heads.head_dim);
        let of = |name, count| Rows { name, rows: count * width, group: width };
        let fused = [of("qkv_proj", heads.heads + 2 * heads.kv_heads)];
        let three = [of("q_proj", heads.heads), of("k_proj", heads.kv_heads), of("v_proj", heads.kv_heads)];
        let qkv = if c.fused { &fused[..] } else { &three };
        let norms = [Rows::plain("q_norm", width), Rows::plain("k_norm", width)];
        Ok(Self {
            qkv: Linear::load(w, qkv, dim, dim, c.qkv_bias, storage)?,
            o: Linear::load(w, &[Rows::plain("o_proj", dim)], heads.heads * width, width, c.o_bias, storage)?,
            qk_norm: c.qk_norm.map(|eps| Ok::<_, Error>((w.vector(&norms, "weight")?, eps))).transpose()?,
            heads,
            window: c.window,
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
        if let Some((gain, eps)) = &self.qk_norm {
            ops::head_norm(g, &qkv, &self.heads, gain, *eps, pass.step)?; // [T, (H + 2 K) E]
        }
        let q = ops::rope_append(g, &qkv, &self.heads, &rope.table, kv, pass.step)?; // [T, H E]
        let scale = (f64::from(self.heads.head_dim)).powf(-0.5) as f32;
        let params = AttentionParams { heads: self.heads, scale, window: self.window, live: pass.live };
        let y = ops::attention(g, &q, kv, &params, pass.step)?; // [T, H E]
        self.o.forward(g, &y, Out::AddTo(residual), pass)?; // [T, D]
        Ok(())
    }
}
