use super::norm::affine;
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Linear, Norm, Pass, Rope};
use crate::ops::{self, Affine, AttentionParams, Heads, Input, NormConfig, Out, Result};
use crate::site::OpClass;
use crate::tensor::{Elem, Storage, Tensor};
use crate::weights::{Rows, Weights};

/// Self-attention with grouped heads: q, k and v are one product.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    o: Linear,
    qk_norm: Option<(Affine, NormConfig)>,
    sub_norm: Option<Norm>,
    config: AttentionConfig,
}

/// What an [`Attention`] over `dim` inputs is made of.
#[derive(Clone, Copy, Debug)]
pub struct AttentionConfig {
    /// D.
    pub dim: u32,
    /// H, K, E and the rotary width.
    pub heads: Heads,
    /// Multiplies scores: 1 / sqrt(E) in most models.
    pub scale: f32,
    /// Bounds scores; 0: off.
    pub softcap: f32,
    /// Keys that a query sees, itself included; 0: all.
    pub window: u32,
    /// Whether tokens see none after themselves.
    pub causal: bool,
    /// Biases in q, k and v.
    pub qkv_bias: bool,
    /// A bias in o.
    pub o_bias: bool,
    /// Query and key heads are normalized each by itself.
    pub qk_norm: Option<NormConfig>,
    /// What the heads say is normalized before the output projection, all heads together.
    pub sub_norm: Option<NormConfig>,
    /// Matrices are stored `[inputs, outputs]`.
    pub transposed: bool,
    /// What its tensors are called.
    pub names: AttentionNames,
}

/// What the tensors of an [`Attention`] are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionNames {
    /// Queries, keys and values; or one name, where they are one tensor.
    pub qkv: &'static [&'static str],
    /// The output projection.
    pub o: &'static str,
    /// The norms of queries and of keys, where there are such.
    pub qk_norm: [&'static str; 2],
    /// The norm before the output projection, where there is one.
    pub sub_norm: &'static str,
}

impl Attention {
    /// The tensors that `config` names.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, config: AttentionConfig, storage: Storage) -> Result<Self, Error> {
        let AttentionConfig { dim, heads, names, transposed, .. } = config;
        let width = heads.head_dim;
        let counts = [heads.heads, heads.kv_heads, heads.kv_heads];
        let of = |name, count| Rows::grouped(name, count * width, width).transposed(transposed);
        let qkv: Vec<_> = match *names.qkv {
            [fused] => vec![of(fused, counts.iter().sum())],
            _ => names.qkv.iter().zip(counts).map(|(name, count)| of(name, count)).collect(),
        };
        let o = [Rows::plain(names.o, dim).transposed(transposed)];
        let norms = names.qk_norm.map(|name| Rows::plain(name, width));
        let sub_norm = Rows::grouped(names.sub_norm, heads.heads * width, width);
        Ok(Self {
            qkv: Linear::load(w, &qkv, dim, dim, config.qkv_bias, storage)?,
            o: Linear::load(w, &o, heads.heads * width, width, config.o_bias, storage)?,
            qk_norm: config.qk_norm.map(|norm| Ok::<_, Error>((affine(w, &norms, norm)?, norm))).transpose()?,
            sub_norm: config.sub_norm.map(|norm| Norm::load_rows(w, sub_norm, norm)).transpose()?,
            config,
        })
    }

    /// As [`Linear::input_elem`].
    #[must_use]
    pub fn input_elem(&self, elem: Elem) -> Elem {
        self.qkv.input_elem(elem)
    }

    /// `x`: `[T, D]`; returns `[T, D]`, new or added to the residual stream. Queries and keys are rotated where there is a `rope`.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn forward(
        &self,
        g: &mut Graph<'_>,
        x: Input<'_>,
        out: Out<'_>,
        layer: usize,
        rope: Option<&Rope>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let AttentionConfig { heads, scale, softcap, window, causal, .. } = self.config;
        g.enter(OpClass::Attention);
        let kv = pass.cache.layer(layer); // [blocks, 32, K, E] twice
        // what is normalized before it is used may be of any magnitude until then
        let elem = if self.sub_norm.is_some() { Elem::F32 } else { pass.activations.attention };
        let qkv = self.qkv.forward(g, x, Out::New(elem), pass)?; // [T, (H + 2 K) E]
        if let Some((affine, config)) = &self.qk_norm {
            ops::head_norm(g, &qkv, &heads, affine, *config, pass.step)?; // [T, (H + 2 K) E]
        }
        let rope = rope.map(Rope::table);
        let q = ops::rope_append(g, &qkv, &heads, rope, kv, pass.step)?; // [T, H E]
        ops::quantize_cache(g, &heads, kv, pass.rows, pass.slots, pass.step)?;
        let params = AttentionParams { heads, scale, softcap, window, causal, live: pass.live, slots: pass.slots };
        if let Some(selection) = pass.selection {
            selection.select(g, &q, (layer, kv), &params, pass.step)?;
        }
        let mut y = ops::attention(g, &q, kv, rope, &params, pass.step)?; // [T, H E]
        if let Some(norm) = &self.sub_norm {
            y = norm.forward(g, &y, ops::Rows::All, Out::New(self.o.input_elem(pass.activations.norm)), pass)?; // [T, H E]
            g.enter(OpClass::Attention);
        }
        self.o.forward(g, &y, out, pass) // [T, D]
    }
}
