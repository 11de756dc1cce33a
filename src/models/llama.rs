//! Llama (Touvron et al. 2023) and what shares its architecture: `model_type` `llama`.

use super::config::LlamaConfig;
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Attention, Embedding, GatedMlp, Pass, RmsNorm, Rope, WeightTypes};
use crate::ops::{Result, Rows};
use crate::tensor::Tensor;
use crate::weights::Weights;

/// The weights of a Llama.
#[derive(Debug)]
pub struct Llama {
    embed: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// The output head; `None` where it is the embedding.
    head: Option<Embedding>,
}

#[derive(Debug)]
struct Layer {
    input_norm: RmsNorm,
    attention: Attention,
    post_attention_norm: RmsNorm,
    mlp: GatedMlp,
}

impl Llama {
    /// Asks for all weights.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn load(w: &mut Weights<'_>, c: &LlamaConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, vocab) = (c.hidden_size, c.vocab_size);
        let (embed, layers, norm) = w.scoped("model", |w| {
            let embed = Embedding::load(w, "embed_tokens", vocab, dim, types.embedding)?;
            let layers = (0..c.num_hidden_layers)
                .map(|i| w.scoped(&format!("layers.{i}"), |w| Layer::load(w, c, types)))
                .collect::<Result<Vec<_>, Error>>()?;
            Ok::<_, Error>((embed, layers, RmsNorm::load(w, "norm", dim, c.rms_norm_eps)?))
        })?;
        let head = match c.tie_word_embeddings {
            true => None,
            false => Some(Embedding::load(w, "lm_head", vocab, dim, types.embedding)?),
        };
        Ok(Self { embed, layers, norm, head })
    }

    /// The step's tokens to the last hidden state, `[T, D]` (`[1, D]` where the last row is wanted), after the final norm.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`]
    pub fn forward(&self, g: &mut Graph<'_>, rope: &Rope, pass: &Pass<'_>) -> Result<Tensor> {
        let x = self.embed.forward(g, pass)?; // [T, D], the residual stream
        for (i, layer) in self.layers.iter().enumerate() {
            let h = layer.input_norm.forward(g, &x, Rows::All, pass)?; // [T, D]
            layer.attention.forward(g, &h, &x, i, rope, pass)?; // x += [T, D]
            let h = layer.post_attention_norm.forward(g, &x, Rows::All, pass)?; // [T, D]
            layer.mlp.forward(g, &h, &x, pass)?; // x += [T, D]
        }
        self.norm.forward(g, &x, pass.wanted, pass)
    }

    /// Hidden states, `[T, D]`, to logits, `[T, V]`.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`]
    pub fn logits(&self, g: &mut Graph<'_>, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.head.as_ref().unwrap_or(&self.embed).logits(g, hidden, pass)
    }
}

impl Layer {
    fn load(w: &mut Weights<'_>, c: &LlamaConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, eps, storage) = (c.hidden_size, c.rms_norm_eps, types.linear);
        Ok(Self {
            input_norm: RmsNorm::load(w, "input_layernorm", dim, eps)?,
            attention: w.scoped("self_attn", |w| Attention::load(w, dim, c.heads, c.attention_bias, storage))?,
            post_attention_norm: RmsNorm::load(w, "post_attention_layernorm", dim, eps)?,
            mlp: w.scoped("mlp", |w| GatedMlp::load(w, dim, c.intermediate_size, c.mlp_bias, storage))?,
        })
    }
}
