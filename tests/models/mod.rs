//! Whole models against transformers' outputs, and against a scalar model in f64.

mod bitnet;
mod chat;
mod concede;
mod encoders;
pub mod fixtures;
mod gguf;
mod hostile;
mod hostile_quantized;
mod inspect;
mod kv_cache;
mod large;
#[cfg(not(target_arch = "wasm32"))]
mod long;
mod offload;
mod packed;
mod quantized;
mod recommend;
mod reference_bert;
pub mod reference_llama;
mod references;
mod stories;
mod synthetic;
mod transposed;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use crate::common;

/// A folder of `../shared` as a source, read file by file, so that browsers run the same test.
pub async fn shared_source(folder: &str) -> Option<Source> {
    common::read_shared(&format!("{folder}/config.json")).await?;
    let mut names: Vec<String> = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "model.safetensors.index.json",
    ]
    .map(String::from)
    .to_vec();
    let mut memory = Memory::new();
    let mut i = 0;
    while i < names.len() {
        if let Some(bytes) = common::read_shared(&format!("{folder}/{}", names[i])).await {
            if names[i].ends_with("index.json") {
                let index: Value = serde_json::from_slice(&bytes).unwrap();
                let shards = index["weight_map"].as_object().unwrap().values();
                names.extend(shards.map(|s| s.as_str().unwrap().to_owned()));
                names.dedup();
            }
            memory.insert(names[i].clone(), bytes).unwrap();
        }
        i += 1;
    }
    Some(Source::Memory(memory))
}

pub async fn json(path: &str) -> Value {
    serde_json::from_slice(&common::read_shared(path).await.unwrap()).unwrap()
}

/// The tensors of an `expected.safetensors`.
pub struct Expected(Vec<u8>);

impl Expected {
    pub async fn of(folder: &str) -> Self {
        Self(common::read_shared(&format!("{folder}/expected.safetensors")).await.unwrap())
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).is_ok()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I64);
        tensor.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

pub async fn open(source: &Source, options: &LoadOptions) -> Session {
    Session::open(&common::device().await, source, options, |_| ()).await.unwrap()
}

/// All tokens of a generation.
pub async fn generate(session: &mut Session, prompt: &[u32], options: webweft::generate::GenerateOptions) -> Vec<u32> {
    rest(&mut session.generate(prompt, options).await.unwrap()).await
}

/// The tokens that are left of it.
pub async fn rest(generation: &mut webweft::generate::Generation<'_>) -> Vec<u32> {
    let mut ids = Vec::new();
    while let Some(id) = generation.next().await.unwrap() {
        ids.push(id);
    }
    ids
}

/// As [`common::assert_close`], against what transformers or the scalar model gave in f32.
pub fn assert_close(name: &str, got: &[f32], want: &[f32], abs: f64, rel: f64) {
    let want: Vec<f64> = want.iter().map(|&v| f64::from(v)).collect();
    common::assert_close(name, got, &want, abs, rel);
}

/// The difference between the two greatest.
pub fn top2_margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[0] - sorted[1]
}

/// Sum of `-ln p(ids[i + 1])` under `logits` `[T, V]`, over predictions from row `from` on.
pub fn negative_log_likelihood(logits: &[f32], vocab: usize, ids: &[u32], from: usize) -> f64 {
    (from..ids.len() - 1)
        .map(|i| {
            let row = &logits[i * vocab..(i + 1) * vocab];
            let most = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
            let sum: f64 = row.iter().map(|&v| (f64::from(v) - most).exp()).sum();
            sum.ln() + most - f64::from(row[ids[i + 1] as usize])
        })
        .sum()
}
