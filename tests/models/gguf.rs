//! GGUF: the folder of `../shared/fixtures`, and the files of `tests/gguf`, which `tools/gguf_references.py` made.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::{Checkpoint, Dtype as Stored};
use webweft::error::{Error, WeightsError};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use super::{Expected, assert_close, generate, json, open, shared_source, top2_margin};
use crate::common::{device, read_shared, report, sample_of, skipped};

/// The files of a folder that is GGUF.
pub async fn gguf_source(folder: &str, names: &[&str]) -> Option<Source> {
    let mut memory = Memory::new();
    for name in names {
        memory.insert(*name, read_shared(&format!("{folder}/{name}")).await?).unwrap();
    }
    Some(Source::Memory(memory))
}

/// Logits in one prefill and in chunks.
async fn check_logits(name: &str, session: &mut Session, expected: &Expected, tolerance: f64) {
    let ids = expected.ids("input_ids");
    for &chunk in if cfg!(target_arch = "wasm32") { &[512][..] } else { &[512, 1, 7] } {
        session.engine_mut().set_prefill_chunk(chunk).unwrap();
        let got = session.forward(&ids).await.unwrap();
        let want = expected.floats("logits");
        let worst = got.logits.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        report(&format!("{name}, chunks of {chunk}: off by {worst:.2e} of {tolerance:.2e}"));
        assert_close(&format!("{name}, chunks of {chunk}"), &got.logits, &want, tolerance, 0.0);
    }
    session.engine_mut().set_prefill_chunk(512).unwrap();
}

async fn check_greedy(name: &str, session: &mut Session, expected: &Expected, [prompt, ids, logits]: [&str; 3]) {
    let want = expected.ids(ids);
    let options =
        GenerateOptions { max_new_tokens: want.len(), eos_token_id: Vec::new(), ..GenerateOptions::default() };
    let got = generate(session, &expected.ids(prompt), options).await;
    if let Some(differs) = got.iter().zip(&want).position(|(a, b)| a != b) {
        let vocab = session.engine().vocab_size() as usize;
        let margin = top2_margin(&expected.floats(logits)[differs * vocab..][..vocab]);
        panic!("{name}: another token at {differs}, margin {margin}");
    }
    assert_eq!(got.len(), want.len(), "{name}");
}

/// Eleven types of tensors, with no option at all, and its tokenizer.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_gguf_fixture_equals_transformers() {
    let folder = "fixtures/gguf_llama";
    let Some(source) = gguf_source(folder, &["model.gguf"]).await else {
        return skipped("../shared/fixtures is absent");
    };
    let mut session = open(&source, &LoadOptions::default()).await;
    assert_eq!((session.quantization(), session.model_type()), (Some("gguf"), "llama"));
    assert_eq!(session.extra_tensors(), [""; 0]);
    let expected = Expected::of(folder).await;
    let tolerance = json(&format!("{folder}/meta.json")).await["tolerance"]["f32_abs"].as_f64().unwrap();
    check_logits(folder, &mut session, &expected, tolerance).await;
    check_greedy(folder, &mut session, &expected, ["input_ids", "greedy_ids", "greedy_logits"]).await;
    let tokenizer = session.tokenizer().unwrap();
    let cases = json(&format!("{folder}/tokenizer_cases.json")).await;
    let list = |ids: &serde_json::Value| -> Vec<u32> {
        ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    for case in cases["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let (ids, bare) = (list(&case["ids"]), list(&case["ids_no_special"]));
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.encode(text, false).unwrap(), bare, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), case["decoded"], "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded_with_special"], "{text:?}");
    }
}

/// A browser cannot list folders.
const CASES: [&str; 26] = [
    "gemma",
    "gemma2",
    "gemma3",
    "gpt2",
    "llama_align64",
    "llama_biases",
    "llama_f16",
    "llama_iq4_nl",
    "llama_odd",
    "llama_q2_k",
    "llama_q3_k",
    "llama_q4_k_m",
    "llama_q5_k",
    "llama_rope_linear",
    "llama_rope_llama3",
    "llama_rope_yarn",
    "llama_split",
    "llama_spm",
    "llama_v2",
    "mistral",
    "phi2",
    "phi3",
    "phi3_longrope",
    "qwen2",
    "qwen3",
    "smollm3",
];

const SPLIT: [&str; 3] = ["model-00001-of-00003.gguf", "model-00002-of-00003.gguf", "model-00003-of-00003.gguf"];

fn files(name: &str) -> &'static [&'static str] {
    if name == "llama_split" { &SPLIT } else { &["model.gguf"] }
}

/// Every type, every architecture, ropes, alignments, split files.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_pythons_gguf_decodes_is_what_is_computed() {
    for &name in sample_of(14, &CASES) {
        let folder = format!("gguf/{name}");
        let Some(source) = gguf_source(&folder, files(name)).await else { panic!("{folder} is missing") };
        let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        assert_eq!(session.extra_tensors(), [""; 0], "{name}");
        let expected = Expected::of(&folder).await;
        let tolerance = json(&format!("{folder}/tolerance.json")).await["f32_abs"].as_f64().unwrap();
        check_logits(name, &mut session, &expected, tolerance).await;
        session.engine_mut().reset();
        check_greedy(name, &mut session, &expected, ["short.input_ids", "short.greedy_ids", "short.greedy_logits"])
            .await;
        assert!(session.tokenizer().is_ok(), "{name}");
    }
}

/// The same weights in both containers: tensors under other names, queries and keys in another order.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_llama_in_gguf_is_the_same_in_safetensors() {
    let folder = "gguf/llama_f16";
    let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
    let mut gguf = open(&gguf_source(folder, &["model.gguf"]).await.unwrap(), &options).await;
    let mut safetensors = open(&shared_source(folder).await.unwrap(), &options).await;
    assert_eq!((gguf.quantization(), safetensors.quantization()), (None, None));
    let vocab = gguf.engine().vocab_size();
    for seed in 0..6 {
        let prompt: Vec<u32> = (0..5 + 3 * seed).map(|i| (37 * i + 11 * seed + 5) % vocab).collect();
        let greedy = GenerateOptions { max_new_tokens: 40, eos_token_id: Vec::new(), ..GenerateOptions::default() };
        let want = generate(&mut safetensors, &prompt, greedy.clone()).await;
        assert_eq!(generate(&mut gguf, &prompt, greedy).await, want, "prompt {seed}");
    }
}

/// A scale that is no number, in the last block of a tensor of each type, is told with the tensor's name.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn scales_that_are_no_numbers_are_refused() {
    let device = device().await;
    let mut tried = Vec::new();
    for name in ["llama_q4_k_m", "llama_odd", "llama_q2_k", "llama_q3_k", "llama_q5_k", "llama_iq4_nl"] {
        let bytes = read_shared(&format!("gguf/{name}/model.gguf")).await.unwrap();
        let source = |bytes: Vec<u8>| {
            let mut memory = Memory::new();
            memory.insert("model.gguf", bytes).unwrap();
            Source::Memory(memory)
        };
        let (checkpoint, _) = Checkpoint::open_gguf(&source(bytes.clone()), "model.gguf").await.unwrap();
        for info in checkpoint.in_byte_order() {
            if !Stored::GGML.contains(&info.dtype) || tried.contains(&info.dtype) {
                continue;
            }
            tried.push(info.dtype);
            // where a block has its last f16
            let at = match info.dtype {
                Stored::Q4_1 | Stored::Q5_1 | Stored::Q4_K | Stored::Q5_K => 2,
                Stored::Q2_K => 82,
                Stored::Q3_K => 108,
                Stored::Q6_K => 208,
                _ => 0,
            };
            let at = (info.range.end - info.dtype.block().1) as usize + at;
            for nan in [0x7c00_u16, 0xfe01] {
                let mut spoilt = bytes.clone();
                spoilt[at..at + 2].copy_from_slice(&nan.to_le_bytes());
                let opened = Session::open(&device, &source(spoilt), &LoadOptions::default(), |_| ()).await;
                let is_told = |error: &Error| matches!(error, Error::Weights(WeightsError::NotFinite { tensor }) if *tensor == info.name);
                assert!(opened.as_ref().is_err_and(is_told), "{} of {name}: {:?}", info.dtype, opened.err());
            }
        }
    }
    assert_eq!(tried.len(), Stored::GGML.len(), "{tried:?}");
}
