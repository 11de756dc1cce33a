//! A Llama made of the scalar references, and random checkpoints for it: any shape, any setting.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use webweft::checkpoint::Dtype;
use webweft::models::{DecoderConfig, ModelConfig};
use webweft::reference;
use webweft::reference::activation::{activation, silu};
use webweft::source::{Memory, Source};

use crate::common::random;

/// A random checkpoint: its config, and its tensors as they read back from their stored type.
pub struct Synthetic {
    pub config: Value,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    pub dtype: Dtype,
}

pub struct Shape {
    pub hidden: usize,
    pub ff: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    pub tied: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
}

impl Synthetic {
    pub fn new(s: &Shape, dtype: Dtype, seed: u32) -> Self {
        let mut config = json!({
            "model_type": "llama", "hidden_size": s.hidden, "intermediate_size": s.ff, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "vocab_size": s.vocab,
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": s.tied,
            "attention_bias": s.attention_bias, "mlp_bias": s.mlp_bias, "bos_token_id": 1, "eos_token_id": 2,
            "rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"},
        });
        if s.head_dim * s.heads != s.hidden {
            config["head_dim"] = json!(s.head_dim);
        }
        let (q, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![s.vocab, s.hidden])];
        for i in 0..s.layers {
            let mut layer =
                |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{i}.{name}"), shape.to_vec()));
            layer("input_layernorm.weight", &[s.hidden]);
            layer("post_attention_layernorm.weight", &[s.hidden]);
            for (name, out, inputs, bias) in [
                ("self_attn.q_proj", q, s.hidden, s.attention_bias),
                ("self_attn.k_proj", kv, s.hidden, s.attention_bias),
                ("self_attn.v_proj", kv, s.hidden, s.attention_bias),
                ("self_attn.o_proj", s.hidden, q, s.attention_bias),
                ("mlp.gate_proj", s.ff, s.hidden, s.mlp_bias),
                ("mlp.up_proj", s.ff, s.hidden, s.mlp_bias),
                ("mlp.down_proj", s.hidden, s.ff, s.mlp_bias),
            ] {
                layer(&format!("{name}.weight"), &[out, inputs]);
                if bias {
                    layer(&format!("{name}.bias"), &[out]);
                }
            }
        }
        shapes.push(("model.norm.weight".into(), vec![s.hidden]));
        if !s.tied {
            shapes.push(("lm_head.weight".into(), vec![s.vocab, s.hidden]));
        }
        Self::of(config, shapes, dtype, seed)
    }

    /// Random tensors of those names and shapes; gains are about 1.
    pub fn of(config: Value, shapes: Vec<(String, Vec<usize>)>, dtype: Dtype, seed: u32) -> Self {
        let tensors = (seed..)
            .zip(shapes)
            .map(|(seed, (name, shape))| {
                let count = shape.iter().product();
                let norm = name.to_lowercase().contains("norm") && !name.ends_with("bias") && !name.ends_with("beta");
                let scale = if shape.len() == 2 { (*shape.last().unwrap() as f32).powf(-0.5) * 1.7 } else { 0.3 };
                let values = random(count, seed).into_iter().map(|v| v * scale + f32::from(u8::from(norm)));
                (name, (shape, values.map(|v| rounded(v, dtype)).collect()))
            })
            .collect();
        Self { config, tensors, dtype }
    }

    pub fn config(&self) -> DecoderConfig {
        let Ok(ModelConfig::Decoder(config)) = ModelConfig::from_json(&self.config) else { panic!("a llama") };
        config
    }

    /// `config.json` and `model.safetensors`.
    pub fn source(&self) -> Source {
        let stored = |v: &f32| match self.dtype {
            Dtype::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
            _ => v.to_le_bytes().to_vec(),
        };
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, (shape, values)) in &self.tensors {
            let begin = data.len();
            data.extend(values.iter().flat_map(stored));
            let entry = json!({"dtype": self.dtype.name(), "shape": shape, "data_offsets": [begin, data.len()]});
            header.insert(name.clone(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(data);
        let mut memory = Memory::new();
        memory.insert("config.json", serde_json::to_vec(&self.config).unwrap()).unwrap();
        memory.insert("model.safetensors", file).unwrap();
        Source::Memory(memory)
    }

    pub fn tensor(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    pub fn linear(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let (shape, weight) = &self.tensors[&format!("{name}.weight")];
        let bias = self.tensors.get(&format!("{name}.bias")).map(|(_, b)| b.as_slice());
        narrow(&reference::matmul::matmul(x, weight, shape[1], bias))
    }

    /// Last hidden state `[T, D]` and logits `[T, V]` of `ids`.
    pub fn forward(&self, ids: &[u32]) -> (Vec<f32>, Vec<f32>) {
        self.forward_with(ids, |q, k, v, heads, scale| {
            reference::attention::attention(q, k, v, heads, 0, [scale, 0.0], 0)
        })
    }

    /// As [`forward`](Self::forward), with another attention: of rotated queries, keys and values, `[T, H, E]` and `[T, K, E]`, H, K and
    /// E, and the factor of scores.
    pub fn forward_with(
        &self,
        ids: &[u32],
        attention: impl Fn(&[f32], &[f32], &[f32], [usize; 3], f32) -> Vec<f64>,
    ) -> (Vec<f32>, Vec<f32>) {
        let c = self.config();
        let heads = [c.heads.heads, c.heads.kv_heads, c.heads.head_dim].map(|n| n as usize);
        let dim = c.hidden_size as usize;
        let norm = |x: &[f64], name: &str| {
            let gain = self.tensor(name);
            let norm = reference::Norm { center: false, offset: 0.0, eps: c.norm.eps, gain, bias: None };
            narrow(&reference::norm::norm(&narrow(x), norm))
        };
        let mut x: Vec<f64> = ids
            .iter()
            .flat_map(|&id| &self.tensor("model.embed_tokens.weight")[id as usize * dim..(id as usize + 1) * dim])
            .map(|&v| f64::from(v))
            .collect();
        for i in 0..c.layers.len() {
            let layer = |name: &str| format!("model.layers.{i}.{name}");
            let h = norm(&x, &layer("input_layernorm.weight"));
            let parts: Vec<Vec<f32>> =
                ["q_proj", "k_proj", "v_proj"].map(|n| self.linear(&layer(&format!("self_attn.{n}")), &h)).to_vec();
            let widths = [heads[0] * heads[2], heads[1] * heads[2], heads[1] * heads[2]];
            let qkv: Vec<f32> = (0..ids.len())
                .flat_map(|t| (0..3).flat_map(move |p| (0..widths[p]).map(move |e| (t, p, e))))
                .map(|(t, p, e)| parts[p][t * widths[p] + e])
                .collect();
            let rotated = reference::rope_append::rope_append(
                &qkv,
                heads,
                (&c.ropes[0].inv_freq(c.heads.rotary, 0).0, false),
                1.0,
                0,
            );
            let (q, k, v) = (narrow(&rotated.q), narrow(&rotated.k), narrow(&rotated.v));
            let scale = (heads[2] as f32).powf(-0.5);
            let y = attention(&q, &k, &v, heads, scale);
            add(&mut x, &self.linear(&layer("self_attn.o_proj"), &narrow(&y)));
            let h = norm(&x, &layer("post_attention_layernorm.weight"));
            let (gate, up) = (self.linear(&layer("mlp.gate_proj"), &h), self.linear(&layer("mlp.up_proj"), &h));
            let ff = c.intermediate_size as usize;
            let gate_up: Vec<f32> = gate
                .chunks(ff)
                .zip(up.chunks(ff))
                .flat_map(|(g, u)| g.iter().chain(u).copied().collect::<Vec<_>>())
                .collect();
            add(&mut x, &self.linear(&layer("mlp.down_proj"), &narrow(&activation(&gate_up, silu, true, ff))));
        }
        let hidden = norm(&x, "model.norm.weight");
        let head = if c.tie_word_embeddings { "model.embed_tokens" } else { "lm_head" };
        let logits = self.linear(head, &hidden);
        (hidden, logits)
    }
}

fn rounded(v: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::from_f32(v).to_f32(),
        Dtype::BF16 => half::bf16::from_f32(v).to_f32(),
        _ => v,
    }
}

pub fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

pub fn add(x: &mut [f64], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, &y)| *x += f64::from(y));
}
