//! Models of random weights, made in memory: speed and memory go by shapes, not by what a model knows. `web/demo/src/bench/shapes.ts` makes
//! the same ones, bit for bit.

use std::str::FromStr;

use serde_json::{Map, Value, json};
use webweft::error::SourceError;
use webweft::source::{Memory, Source};

use crate::built_in;

/// The most positions that Llamas say to have been trained for: more than is measured.
pub const CONTEXT: usize = 1 << 15;
/// Those of the encoder, and of the built-in model.
const SHORT_CONTEXT: usize = 512;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What it is called: Llamas by their parameters.
    pub name: &'static str,
    architecture: Architecture,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    intermediate: usize,
    vocab: usize,
    /// Whether the embedding is the output head, too.
    is_tied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Architecture {
    Llama,
    /// An encoder: there is nothing to decode.
    Bert,
    /// Not random: the model that the program carries.
    BuiltIn,
}
use Architecture::{Bert, BuiltIn, Llama};

#[rustfmt::skip] // a table
const SHAPES: [Shape; 8] = [
    Shape { name: "tiny", architecture: Llama, layers: 2, hidden: 64, heads: 2, kv_heads: 2, intermediate: 128, vocab: 512, is_tied: true },
    Shape { name: "26M", architecture: Llama, layers: 8, hidden: 384, heads: 6, kv_heads: 6, intermediate: 1024, vocab: 32_000, is_tied: true },
    // as tools/random_llama.py makes it
    Shape { name: "110M", architecture: Llama, layers: 12, hidden: 768, heads: 12, kv_heads: 12, intermediate: 2048, vocab: 32_000, is_tied: true },
    // of Qwen2.5 0.5B, Llama 3.2 1B and Llama 2 7B
    Shape { name: "0.5B", architecture: Llama, layers: 24, hidden: 896, heads: 14, kv_heads: 2, intermediate: 4864, vocab: 151_936, is_tied: true },
    Shape { name: "1B", architecture: Llama, layers: 16, hidden: 2048, heads: 32, kv_heads: 8, intermediate: 8192, vocab: 128_256, is_tied: true },
    Shape { name: "7B", architecture: Llama, layers: 32, hidden: 4096, heads: 32, kv_heads: 32, intermediate: 11_008, vocab: 32_000, is_tied: false },
    // of all-MiniLM-L6-v2
    Shape { name: "MiniLM", architecture: Bert, layers: 6, hidden: 384, heads: 12, kv_heads: 12, intermediate: 1536, vocab: 30_522, is_tied: true },
    Shape { name: "Stories", architecture: BuiltIn, layers: 0, hidden: 0, heads: 1, kv_heads: 1, intermediate: 0, vocab: 0, is_tied: true },
];

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = SHAPES.into_iter().find(|shape| shape.name.eq_ignore_ascii_case(name.trim()));
        found.ok_or_else(|| "it is none of 26M, 110M, 0.5B, 1B, 7B, MiniLM, Stories".to_owned())
    }
}

impl Shape {
    /// Number of its weights; those of the built-in model are not counted.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|(_, shape)| elements(shape) as u64).sum()
    }

    /// Whether it makes vectors and no text.
    pub fn is_encoder(&self) -> bool {
        self.architecture == Bert
    }

    /// The most tokens of a sequence.
    pub fn context(&self) -> usize {
        if self.architecture == Llama { CONTEXT } else { SHORT_CONTEXT }
    }

    /// Size of its vocabulary, and multiplications and additions of its layers for a token, attention apart: of an encoder.
    pub fn encoder_sizes(&self) -> (u32, u64) {
        let Self { layers, hidden, intermediate, vocab, .. } = *self;
        (vocab as u32, 2 * (layers * (4 * hidden * hidden + 2 * hidden * intermediate)) as u64)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self.architecture {
            Llama => self.llama(),
            Bert => self.bert(),
            BuiltIn => Vec::new(),
        }
    }

    /// Names and shapes, in the order that transformers writes them.
    fn bert(&self) -> Vec<(String, Vec<usize>)> {
        let Self { layers, hidden, intermediate, vocab, .. } = *self;
        let embeddings = [("word", vocab), ("position", SHORT_CONTEXT), ("token_type", 2)];
        let mut tensors: Vec<_> = embeddings
            .map(|(name, rows)| (format!("embeddings.{name}_embeddings.weight"), vec![rows, hidden]))
            .into_iter()
            .collect();
        let mut biased = |name: String, shape: Vec<usize>| {
            let rows = shape[0];
            tensors.push((format!("{name}.weight"), shape));
            tensors.push((format!("{name}.bias"), vec![rows]));
        };
        biased("embeddings.LayerNorm".to_owned(), vec![hidden]);
        for layer in 0..layers {
            for (name, shape) in [
                ("attention.self.query", vec![hidden, hidden]),
                ("attention.self.key", vec![hidden, hidden]),
                ("attention.self.value", vec![hidden, hidden]),
                ("attention.output.dense", vec![hidden, hidden]),
                ("attention.output.LayerNorm", vec![hidden]),
                ("intermediate.dense", vec![intermediate, hidden]),
                ("output.dense", vec![hidden, intermediate]),
                ("output.LayerNorm", vec![hidden]),
            ] {
                biased(format!("encoder.layer.{layer}.{name}"), shape);
            }
        }
        tensors
    }

    /// The same.
    fn llama(&self) -> Vec<(String, Vec<usize>)> {
        let Self { layers, hidden, heads, kv_heads, intermediate, vocab, is_tied, .. } = *self;
        let kv = kv_heads * hidden / heads;
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
        for layer in 0..layers {
            for (name, shape) in [
                ("input_layernorm", vec![hidden]),
                ("post_attention_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![hidden, hidden]),
                ("self_attn.k_proj", vec![kv, hidden]),
                ("self_attn.v_proj", vec![kv, hidden]),
                ("self_attn.o_proj", vec![hidden, hidden]),
                ("mlp.gate_proj", vec![intermediate, hidden]),
                ("mlp.up_proj", vec![intermediate, hidden]),
                ("mlp.down_proj", vec![hidden, intermediate]),
            ] {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !is_tied {
            tensors.push(("lm_head.weight".to_owned(), vec![vocab, hidden]));
        }
        tensors
    }

    /// The checkpoint, in bf16.
    pub fn source(&self) -> Result<Source, SourceError> {
        let config = match self.architecture {
            Llama => self.llama_config(),
            Bert => self.bert_config(),
            BuiltIn => return Ok(built_in::source()),
        };
        let mut memory = Memory::new();
        memory.insert("config.json", config.to_string())?;
        memory.insert("model.safetensors", self.file())?;
        Ok(Source::Memory(memory))
    }

    fn bert_config(&self) -> Value {
        json!({
            "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": self.hidden,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "intermediate_size": self.intermediate,
            "vocab_size": self.vocab, "max_position_embeddings": SHORT_CONTEXT, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        })
    }

    fn llama_config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": self.hidden,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate, "vocab_size": self.vocab, "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": self.is_tied, "bos_token_id": 1,
            "eos_token_id": 2,
        })
    }

    /// `model.safetensors`
    fn file(&self) -> Vec<u8> {
        let tensors = self.tensors();
        let mut header = Map::new();
        let mut end = 0;
        for (name, shape) in &tensors {
            let begin = end;
            end += 2 * elements(shape);
            header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] }));
        }
        let mut header = json!(header).to_string();
        header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
        let mut file = Vec::with_capacity(8 + header.len() + end);
        file.extend((header.len() as u64).to_le_bytes());
        file.extend(header.as_bytes());
        let mut state = 1;
        for (name, shape) in &tensors {
            match shape[..] {
                [count] if name.ends_with("bias") => file.resize(file.len() + 2 * count, 0),
                // ones
                [count] => file.extend([0x80_u8, 0x3f].iter().cycle().take(2 * count)),
                _ => noise(&mut file, elements(shape), shape[1], &mut state),
            }
        }
        file
    }
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// `count` numbers in bf16 (an even count) of which rows of `dim` keep the size of what they are multiplied by: random signs and mantissas, all
/// with the exponent for which the root of the mean square comes nearest to `1 / sqrt(dim)`.
fn noise(file: &mut Vec<u8>, count: usize, dim: usize, state: &mut u64) {
    // mantissas from 1 to 2 have one of 1.53
    let exponent = 127 - (1.53 * (dim as f64).sqrt()).log2().round() as u64;
    let mut left = 2 * count;
    while left > 0 {
        // SplitMix64 (Steele, Lea & Flood 2014): four numbers at once
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let four = (z & 0x807f_807f_807f_807f) | ((exponent << 7) * 0x0001_0001_0001_0001);
        let bytes = four.to_le_bytes();
        let taken = left.min(bytes.len());
        file.extend(&bytes[..taken]);
        left -= taken;
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn names_tell_parameters() {
        for (name, parameters) in [
            ("26M", 26_450_304),
            ("110M", 109_529_856),
            ("0.5b", 494_005_120),
            ("1B", 1_235_814_400),
            ("7B", 6_738_415_616),
            ("MiniLM", 22_565_376),
        ] {
            assert_eq!(name.parse::<Shape>().expect("a shape").parameters(), parameters, "{name}");
        }
        assert!("2B".parse::<Shape>().expect_err("none").contains("110M"));
    }

    /// The hashes that `web/tests/e2e/cases/bench.mjs` has, too.
    #[test]
    fn checkpoints_are_those_of_the_page() {
        for (name, wanted) in [
            ("tiny", "59f77f44b8e807faf0678ae0451184ec2880201d6a0455d190a7bcaa3c7800ab"),
            ("MiniLM", "918abca7ce331dcc10fcc65dcf949125293f466757ea8f5026c779a3a8e9e367"),
        ] {
            let digest = Sha256::digest(name.parse::<Shape>().expect("a shape").file());
            assert_eq!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), wanted, "{name}");
        }
    }

    #[test]
    fn noise_keeps_the_size_of_what_it_multiplies() {
        for dim in [64, 384, 768, 4096] {
            let mut bytes = Vec::new();
            noise(&mut bytes, 4098, dim, &mut 1);
            let values = bytes.as_chunks().0.iter().map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
            let values: Vec<f32> = values.collect();
            assert_eq!(values.len(), 4098);
            let squares: f32 = values.iter().map(|v| v * v).sum();
            let size = (squares / 4098.0 * dim as f32).sqrt();
            assert!((0.7..1.5).contains(&size), "{dim}: {size}");
            assert!((values.iter().sum::<f32>() / 4098.0 * (dim as f32).sqrt()).abs() < 0.1);
        }
    }
}
