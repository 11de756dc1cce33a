//! Llama (Touvron et al. 2023) and its kin: Mistral (Jiang et al. 2023; sliding window), Phi-3 (Abdin et al. 2024; fused weights),
//! Qwen2 (Yang et al. 2024; biases in q, k, v), Qwen3 (2025; normalized heads), SmolLM3 (2025; some layers without rotation).

use super::config::{LayerConfig, LlamaConfig};
use crate::error::Error;
use crate::graph::Graph;
use crate::nn::{Attention, AttentionConfig, Embedding, GatedMlp, Pass, RmsNorm, Rope, WeightTypes};
use crate::ops::{Heads, Result, Rows};
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
            let layers = (c.layers.iter().enumerate())
                .map(|(i, layer)| w.scoped(&format!("layers.{i}"), |w| Layer::load(w, c, layer, types)))
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
    fn load(w: &mut Weights<'_>, c: &LlamaConfig, layer: &LayerConfig, types: WeightTypes) -> Result<Self, Error> {
        let (dim, eps, storage) = (c.hidden_size, c.rms_norm_eps, types.linear);
        let attention = AttentionConfig {
            dim,
            heads: Heads { rotary: if layer.rope { c.heads.rotary } else { 0 }, ..c.heads },
            window: layer.window,
            qkv_bias: c.qkv_bias,
            o_bias: c.o_bias,
            qk_norm: c.qk_norm.then_some(eps),
            fused: c.fused,
        };
        Ok(Self {
            input_norm: RmsNorm::load(w, "input_layernorm", dim, eps)?,
            attention: w.scoped("self_attn", |w| Attention::load(w, &attention, storage))?,
            post_attention_norm: RmsNorm::load(w, "post_attention_layernorm", dim, eps)?,
            mlp: w.scoped("mlp", |w| GatedMlp::load(w, dim, c.intermediate_size, c.mlp_bias, c.fused, storage))?,
        })
    }
}
