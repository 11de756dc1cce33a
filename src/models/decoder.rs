//! The decoder-only transformer: token embedding, layers of causal self-attention and a feed-forward layer, output head. What a
//! family makes of it is in its [`DecoderConfig`], which the family's file derives from `config.json`.

use super::rope::RopeConfig;
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{
    Attention, AttentionConfig, AttentionNames, Embedding, Linear, Mlp, MlpConfig, MlpNames, Norm, Pass, Rope,
    WeightTypes,
};
use crate::ops::{self, Act, Heads, Input, NormConfig, Out, Result, Rows};
use crate::tensor::{Elem, Tensor};
use crate::weights::{self, Weights};

/// What a decoder is made of, every default resolved. Fields are called what transformers' configs call them.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// D.
    pub hidden_size: u32,
    /// V.
    pub vocab_size: u32,
    /// The most positions that it can be run for.
    pub max_position_embeddings: u32,
    /// H, K, E and the rotary width.
    pub heads: Heads,
    /// What differs from layer to layer.
    pub layers: Vec<LayerConfig>,
    /// Rotary frequencies; layers say which are theirs.
    pub ropes: Vec<RopeConfig>,
    /// What comes before the layers.
    pub embedding: EmbeddingConfig,
    /// All norms.
    pub norm: NormConfig,
    /// Where they stand.
    pub block: Block,
    /// Biases in q, k and v.
    pub qkv_bias: bool,
    /// A bias in o.
    pub o_bias: bool,
    /// Query and key heads are normalized, each by itself.
    pub qk_norm: bool,
    /// Attention and feed-forward layer normalize what goes into their last product (Wang et al. 2022, Foundation Transformers).
    pub sub_norms: bool,
    /// Bounds attention scores; 0: off.
    pub attn_logit_softcapping: f32,
    /// F.
    pub intermediate_size: u32,
    /// The feed-forward layer's nonlinearity.
    pub hidden_act: Act,
    /// Whether it has a gate.
    pub gated: bool,
    /// Whether it has biases.
    pub mlp_bias: bool,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// A bias in the output head.
    pub head_bias: bool,
    /// Bounds logits; 0: off.
    pub final_logit_softcapping: f32,
    /// Layers' matrices are stored `[inputs, outputs]` (`Conv1D`).
    pub transposed: bool,
    /// What tensors are called.
    pub names: &'static Names,
    /// First token of a sequence, where the config names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence.
    pub eos_token_id: Vec<u32>,
}

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// Keys that a query sees, itself included; 0: all.
    pub window: u32,
    /// Which of the [`DecoderConfig::ropes`] rotates queries and keys, if one does.
    pub rope: Option<usize>,
    /// Multiplies attention scores.
    pub scale: f32,
}

/// What comes before the layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbeddingConfig {
    /// Width of the token embedding; where it is not D, two matrices lead there and back.
    pub size: u32,
    /// Multiplies it.
    pub scale: f32,
    /// Learned positions, and the table's row for position 0.
    pub positions: Option<u32>,
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Before attention, before the feed-forward layer, and once at the end.
    Pre,
    /// After each is added, and none at the end.
    Post,
    /// Before each, again before it is added, and once at the end.
    Sandwich,
    /// One before both, which run side by side, and one at the end.
    Parallel,
}

/// What tensors are called; a name that a family has no tensor for is empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// Scopes that may be around everything but the head.
    pub base: &'static [&'static str],
    /// Token embedding.
    pub embed: &'static str,
    /// Learned positions.
    pub positions: &'static str,
    /// The layers' scope; their numbers follow.
    pub layers: &'static str,
    /// Scope of attention, and its tensors.
    pub attention: (&'static str, AttentionNames),
    /// Scope of the feed-forward layer, and its tensors.
    pub mlp: (&'static str, MlpNames),
    /// Norms before and after attention.
    pub attention_norms: [&'static str; 2],
    /// Norms before and after the feed-forward layer.
    pub mlp_norms: [&'static str; 2],
    /// The last norm.
    pub norm: &'static str,
    /// The output head.
    pub head: &'static str,
}

/// The weights of a decoder.
#[derive(Debug)]
pub struct Decoder {
    embed: Embedding,
    embedding: EmbeddingConfig,
    positions: Option<Embedding>,
    /// Into D and out of it, where the embedding has another width.
    projections: Option<[Linear; 2]>,
    layers: Vec<Layer>,
    /// The first layer that does not stay on the GPU, if there is such.
    first_offloaded: Option<usize>,
    norm: Option<Norm>,
    /// The output head; `None` where it is the embedding.
    head: Option<Embedding>,
    final_logit_softcapping: f32,
}

#[derive(Debug)]
struct Layer {
    attention: Attention,
    mlp: Mlp,
    norms: Norms,
    rope: Option<usize>,
}

/// As [`Block`]: of attention, then of the feed-forward layer.
#[derive(Debug)]
enum Norms {
    Pre(Norm, Norm),
    Post(Norm, Norm),
    Sandwich([Norm; 2], [Norm; 2]),
    Parallel(Norm),
}

impl Decoder {
    /// Asks for all weights.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, c: &DecoderConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, size, n) = (c.hidden_size, c.embedding.size, c.names);
        let base = w.scope_of(n.base, &format!("{}.weight", n.embed));
        let head_scope = base.strip_suffix("model").unwrap_or_default().trim_end_matches('.');
        let mut this = w.scoped(base, |w| {
            let positions = c.embedding.positions.map(|offset| offset + c.max_position_embeddings);
            let positions = positions.map(|rows| Embedding::load(w, n.positions, [rows, dim], false, types.embedding));
            let mut project =
                |name, to, from| Linear::load(w, &[weights::Rows::plain(name, to)], from, from, false, types.embedding);
            let projections = match size == dim {
                true => None,
                false => Some([project("project_in", dim, size)?, project("project_out", size, dim)?]),
            };
            let embed = Embedding::load(w, n.embed, [c.vocab_size, size], false, types.embedding)?;
            let layers = (c.layers.iter().enumerate())
                .map(|(i, layer)| w.layer(i, &format!("{}.{i}", n.layers), |w| Layer::load(w, c, layer, types)))
                .collect::<Result<Vec<_>, Error>>()?;
            let norm = (c.block != Block::Post).then(|| Norm::load(w, n.norm, dim, c.norm)).transpose()?;
            Ok::<_, Error>(Self {
                embed,
                embedding: c.embedding,
                positions: positions.transpose()?,
                projections,
                layers,
                first_offloaded: w.first_offloaded(),
                norm,
                head: None,
                final_logit_softcapping: c.final_logit_softcapping,
            })
        })?;
        if !c.tie_word_embeddings {
            let shape = [c.vocab_size, size];
            let head = w.scoped(head_scope, |w| Embedding::load(w, n.head, shape, c.head_bias, types.embedding))?;
            this.head = Some(head);
        }
        Ok(this)
    }

    /// The step's tokens to the last hidden state, `[T, D]` (`[1, D]` where the last row is wanted), after the final norm.
    /// `each` hears of the residual stream, `[T, D]`, before the first layer and after every one.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`], those of `each`.
    pub fn forward<'g>(
        &self,
        g: &mut Graph<'g>,
        ropes: &[Rope],
        pass: &Pass<'_>,
        each: &mut dyn FnMut(&mut Graph<'g>, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.embed.forward(g, self.embedding.scale, pass)?; // [T, D], the residual stream
        if let Some([into, _]) = &self.projections {
            x = into.forward(g, &x, Out::New(Elem::F32), pass)?; // [T, D]
        }
        if let (Some(positions), Some(offset)) = (&self.positions, self.embedding.positions) {
            positions.add_positions(g, &x, offset, pass)?; // x += [T, D]
        }
        each(g, &x)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let rows = if i + 1 == self.layers.len() { pass.wanted } else { Rows::All };
            if let Some(offloaded) = self.first_offloaded.and_then(|first| i.checked_sub(first)) {
                g.bring(offloaded);
            }
            g.enter_layer(Some(i as u32));
            x = layer.forward(g, x, i, rows, ropes, pass)?; // [T, D]
            each(g, &x)?;
        }
        g.enter_layer(None);
        if let Some(norm) = &self.norm {
            x = norm.forward(g, &x, pass.wanted, Out::New(pass.activations.norm), pass)?; // [T, D]
        }
        match &self.projections {
            Some([_, out_of]) => out_of.forward_rows(g, &x, Out::New(pass.activations.norm), pass.wanted, pass),
            None => Ok(x),
        }
    }

    /// Hidden states, `[T, D]`, to logits, `[T, V]`.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`]
    pub fn logits(&self, g: &mut Graph<'_>, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let logits = self.head.as_ref().unwrap_or(&self.embed).logits(g, hidden, pass)?; // [T, V]
        if self.final_logit_softcapping > 0.0 {
            ops::softcap(g, &logits, self.final_logit_softcapping)?;
        }
        Ok(logits)
    }
}

impl Layer {
    fn load(w: &mut Weights<'_>, c: &DecoderConfig, layer: &LayerConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, n) = (c.hidden_size, c.names);
        let attention = AttentionConfig {
            dim,
            heads: c.heads,
            scale: layer.scale,
            softcap: c.attn_logit_softcapping,
            window: layer.window,
            causal: true,
            qkv_bias: c.qkv_bias,
            o_bias: c.o_bias,
            qk_norm: c.qk_norm.then_some(c.norm),
            sub_norm: c.sub_norms.then_some(c.norm),
            transposed: c.transposed,
            names: n.attention.1,
        };
        let mlp = MlpConfig {
            dim,
            hidden: c.intermediate_size,
            act: c.hidden_act,
            gated: c.gated,
            bias: c.mlp_bias,
            sub_norm: c.sub_norms.then_some(c.norm),
            transposed: c.transposed,
            names: n.mlp.1,
        };
        let ([before_attention, after_attention], [before_mlp, after_mlp]) = (n.attention_norms, n.mlp_norms);
        let mut norm = |name| Norm::load(w, name, dim, c.norm);
        let norms = match c.block {
            Block::Pre => Norms::Pre(norm(before_attention)?, norm(before_mlp)?),
            Block::Post => Norms::Post(norm(after_attention)?, norm(after_mlp)?),
            Block::Sandwich => Norms::Sandwich(
                [norm(before_attention)?, norm(after_attention)?],
                [norm(before_mlp)?, norm(after_mlp)?],
            ),
            Block::Parallel => Norms::Parallel(norm(before_attention)?),
        };
        Ok(Self {
            attention: w.scoped(n.attention.0, |w| Attention::load(w, attention, types.linear))?,
            mlp: w.scoped(n.mlp.0, |w| Mlp::load(w, mlp, types.linear))?,
            norms,
            rope: layer.rope,
        })
    }

    /// `x`: the residual stream, `[T, D]`; returns it with this layer's share; `rows` of it, where a norm is the last thing.
    fn forward(
        &self,
        g: &mut Graph<'_>,
        x: Tensor,
        index: usize,
        rows: Rows,
        ropes: &[Rope],
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let rope = self.rope.and_then(|i| ropes.get(i));
        let all = Rows::All;
        match &self.norms {
            Norms::Pre(before_attention, before_mlp) => {
                self.attention.forward(g, before_attention.before(&x, pass), Out::AddTo(&x), index, rope, pass)?; // x += [T, D]
                self.mlp.forward(g, before_mlp.before(&x, pass), Out::AddTo(&x), pass)?; // x += [T, D]
                Ok(x)
            }
            Norms::Post(after_attention, after_mlp) => {
                self.attention.forward(g, Input::Rows(&x), Out::AddTo(&x), index, rope, pass)?; // x += [T, D]
                let x = after_attention.forward(g, &x, all, Out::New(Elem::F32), pass)?; // [T, D]
                self.mlp.forward(g, Input::Rows(&x), Out::AddTo(&x), pass)?; // x += [T, D]
                after_mlp.forward(g, &x, rows, Out::New(Elem::F32), pass) // [T, D] or [1, D]
            }
            Norms::Sandwich([before_attention, after_attention], [before_mlp, after_mlp]) => {
                let h = before_attention.before(&x, pass); // [T, D]
                let h = self.attention.forward(g, h, Out::New(Elem::F32), index, rope, pass)?; // [T, D]
                after_attention.forward(g, &h, all, Out::AddTo(&x), pass)?; // x += [T, D]
                let h = self.mlp.forward(g, before_mlp.before(&x, pass), Out::New(Elem::F32), pass)?; // [T, D]
                after_mlp.forward(g, &h, all, Out::AddTo(&x), pass)?; // x += [T, D]
                Ok(x)
            }
            Norms::Parallel(before) => {
                let elem = self.attention.input_elem(pass.activations.norm);
                let h = before.forward(g, &x, all, Out::New(elem), pass)?; // [T, D]
                self.attention.forward(g, Input::Rows(&h), Out::AddTo(&x), index, rope, pass)?; // x += [T, D]
                self.mlp.forward(g, Input::Rows(&h), Out::AddTo(&x), pass)?; // x += [T, D]
                Ok(x)
            }
        }
    }
}
