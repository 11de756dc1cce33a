//! The encoder-only transformer (Devlin et al. 2018): embeddings of tokens, positions and token types, layers of self-attention that sees
//! the whole text, each followed by a norm. What a family makes of it is in its [`EncoderConfig`].

use crate::device::Buffer;
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{
    Attention, AttentionConfig, AttentionNames, Embedding, Linear, Mlp, MlpConfig, MlpNames, Norm, Pass, WeightTypes,
};
use crate::ops::{self, Act, Heads, Input, NormConfig, Out, PoolKind, Result, Rows};
use crate::tensor::{Elem, Tensor};
use crate::weights::{self, Weights};

/// What an encoder is made of, every default resolved. Fields are called what transformers' configs call them.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// D.
    pub hidden_size: u32,
    /// V.
    pub vocab_size: u32,
    /// The longest text.
    pub max_position_embeddings: u32,
    /// Kinds of tokens: those of a first and of a second text.
    pub type_vocab_size: u32,
    /// H and E.
    pub heads: Heads,
    /// How many layers there are.
    pub num_hidden_layers: u32,
    /// Multiplies attention scores.
    pub scale: f32,
    /// All norms.
    pub norm: NormConfig,
    /// F.
    pub intermediate_size: u32,
    /// The feed-forward layer's nonlinearity.
    pub hidden_act: Act,
    /// What tensors are called.
    pub names: &'static Names,
}

/// What tensors are called.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// Scopes that may be around everything.
    pub base: &'static [&'static str],
    /// Embeddings of tokens, positions and types, and the norm of their sum.
    pub embeddings: [&'static str; 4],
    /// The layers' scope; their numbers follow.
    pub layers: &'static str,
    /// Scope of attention, its tensors, and the norm behind it.
    pub attention: (&'static str, AttentionNames, &'static str),
    /// The feed-forward layer's tensors, and the norm behind it.
    pub mlp: (MlpNames, &'static str),
    /// What is made of the first token.
    pub pooler: &'static str,
}

/// The weights of an encoder.
#[derive(Debug)]
pub struct Encoder {
    embeddings: [Embedding; 3],
    norm: Norm,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
}

#[derive(Debug)]
struct Layer {
    attention: Attention,
    after_attention: Norm,
    mlp: Mlp,
    after_mlp: Norm,
}

impl Encoder {
    /// Asks for all weights; for those of the pooler where the checkpoint has them.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, c: &EncoderConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, n) = (c.hidden_size, c.names);
        let [tokens, positions, kinds, norm] = n.embeddings;
        w.scoped(w.scope_of(n.base, &format!("{tokens}.weight")), |w| {
            let mut table = |name, rows| Embedding::load(w, name, [rows, dim], false, types.embedding);
            let embeddings = [
                table(tokens, c.vocab_size)?,
                table(positions, c.max_position_embeddings)?,
                table(kinds, c.type_vocab_size)?,
            ];
            let norm = Norm::load(w, norm, dim, c.norm)?;
            let layer = |i: u32| w.layer(i as usize, &format!("{}.{i}", n.layers), |w| Layer::load(w, c, types));
            let layers = (0..c.num_hidden_layers).map(layer).collect::<Result<_, Error>>()?;
            let rows = [weights::Rows::plain(n.pooler, dim)];
            let pooler = w.has(&format!("{}.weight", n.pooler));
            let pooler = pooler.then(|| Linear::load(w, &rows, dim, dim, true, types.linear)).transpose()?;
            Ok(Self { embeddings, norm, layers, pooler })
        })
    }

    /// Whether there are weights of a pooler.
    #[must_use]
    pub fn has_pooler(&self) -> bool {
        self.pooler.is_some()
    }

    /// The step's tokens, of the kinds `types` (as [`ops::embed_types`] takes them), to the last hidden state, `[T, D]` in f32. All layers
    /// keep their keys and values in the first layer of the pass's cache, one after another. `each` hears of what goes into the first layer,
    /// `[T, D]`, and of what comes out of every one.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`], those of `each`.
    pub fn forward<'g>(
        &self,
        g: &mut Graph<'g>,
        types: &Buffer,
        pass: &Pass<'_>,
        each: &mut dyn FnMut(&mut Graph<'g>, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let [tokens, positions, kinds] = &self.embeddings;
        let x = tokens.forward(g, 1.0, pass)?; // [T, D]
        kinds.add_types(g, &x, types, pass)?; // x += [T, D]
        positions.add_positions(g, &x, 0, pass)?; // x += [T, D]
        let mut x = self.norm.forward(g, &x, Rows::All, Out::New(Elem::F32), pass)?; // [T, D]
        each(g, &x)?;
        for (i, layer) in (0..).zip(&self.layers) {
            g.enter_layer(Some(i));
            x = layer.forward(g, &x, pass)?; // [T, D]
            each(g, &x)?;
        }
        g.enter_layer(None);
        Ok(x)
    }

    /// What the pooler makes of each text's first row of `x`, `[T, D]`: `tanh(W x + b)`, `[B, D]` in f32; nothing without its weights.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`]
    pub fn pool(&self, g: &mut Graph<'_>, x: &Tensor, pass: &Pass<'_>) -> Result<Option<Tensor>> {
        let Some(pooler) = &self.pooler else { return Ok(None) };
        let first = ops::pool(g, x, PoolKind::First, false, pass.slots, pass.step)?; // [B, D]
        let y = pooler.forward_rows(g, &first, Out::New(Elem::F32), Rows::Last(pass.slots), pass)?; // [B, D]
        ops::activation(g, &y, Act::Tanh, false, y.dim, pass.step).map(Some) // [B, D]
    }
}

impl Layer {
    fn load(w: &mut Weights<'_>, c: &EncoderConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, n) = (c.hidden_size, c.names);
        let (scope, names, after_attention) = n.attention;
        let attention = AttentionConfig {
            dim,
            heads: c.heads,
            scale: c.scale,
            softcap: 0.0,
            window: 0,
            causal: false,
            qkv_bias: true,
            o_bias: true,
            qk_norm: None,
            sub_norm: None,
            transposed: false,
            names,
        };
        let (names, after_mlp) = n.mlp;
        let mlp = MlpConfig {
            dim,
            hidden: c.intermediate_size,
            act: c.hidden_act,
            gated: false,
            bias: true,
            sub_norm: None,
            transposed: false,
            names,
        };
        Ok(Self {
            attention: w.scoped(scope, |w| Attention::load(w, attention, types.linear))?,
            after_attention: Norm::load(w, after_attention, dim, c.norm)?,
            mlp: Mlp::load(w, mlp, types.linear)?,
            after_mlp: Norm::load(w, after_mlp, dim, c.norm)?,
        })
    }

    /// `x`: `[T, D]`, which is added to; returns `[T, D]`.
    fn forward(&self, g: &mut Graph<'_>, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.attention.forward(g, Input::Rows(x), Out::AddTo(x), 0, None, pass)?; // x += [T, D]
        let x = self.after_attention.forward(g, x, Rows::All, Out::New(Elem::F32), pass)?; // [T, D]
        self.mlp.forward(g, Input::Rows(&x), Out::AddTo(&x), pass)?; // x += [T, D]
        self.after_mlp.forward(g, &x, Rows::All, Out::New(Elem::F32), pass) // [T, D]
    }
}
