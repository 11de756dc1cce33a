//! Every folder of `tests/references`: settings that no other material has, made by `tools/references.py` with transformers.

use safetensors::SafeTensors;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use super::{Expected, assert_close, generate, json, open, shared_source};
use crate::common::read_shared;

/// A browser cannot list folders.
const FOLDERS: [&str; 16] = [
    "bitnet_master",
    "gemma",
    "gemma2_uncapped",
    "gemma3_nested",
    "gpt2_scaled",
    "llama_odd",
    "opt_no_bias",
    "opt_post_norm",
    "phi_qk_layernorm",
    "qwen3_bias",
    "rope_dynamic",
    "rope_dynamic_inside",
    "rope_longrope",
    "rope_longrope_partial",
    "rope_yarn",
    "rope_yarn_mscale",
];

/// Browsers take most of a second for each, and show the same kernels.
const CHUNKS: &[u32] = if cfg!(target_arch = "wasm32") { &[512, 16] } else { &[512, 1, 3, 7] };
const LOOKAHEADS: &[usize] = if cfg!(target_arch = "wasm32") { &[8] } else { &[8, 1, 0] };

async fn load(name: &str) -> (Session, Expected, f64) {
    let folder = format!("references/{name}");
    let source = shared_source(&folder).await.unwrap();
    let session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
    let tolerance = json(&format!("{folder}/tolerance.json")).await["f32_abs"].as_f64().unwrap();
    (session, Expected::of(&folder).await, tolerance)
}

/// Logits of a prompt, also beyond the length at which frequencies change.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn prompts_equal_transformers_in_chunks_of_any_size() {
    for name in FOLDERS {
        let (mut session, expected, tolerance) = load(name).await;
        let ids = expected.ids("input_ids");
        for &chunk in CHUNKS {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward(&ids).await.unwrap();
            let what = format!("{name}, chunks of {chunk}");
            assert_close(&what, &got.logits, &expected.floats("logits"), tolerance, 0.0);
            assert_close(&what, &got.last_hidden_state, &expected.floats("last_hidden_state"), tolerance, 0.0);
        }
    }
}

/// Greedy tokens across that length, on the GPU and on the host; then from a cache that holds another length's keys.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn tokens_equal_transformers_across_the_boundary() {
    for name in FOLDERS {
        let (mut session, expected, _) = load(name).await;
        let (ids, want) = (expected.ids("short.input_ids"), expected.ids("short.greedy_ids"));
        for &lookahead in LOOKAHEADS {
            let options = GenerateOptions { max_new_tokens: want.len(), lookahead, ..GenerateOptions::default() };
            session.engine_mut().reset();
            assert_eq!(generate(&mut session, &ids, options.clone()).await, want, "{name}, lookahead {lookahead}");
            assert_eq!(generate(&mut session, &ids, options).await, want, "{name}, cached, lookahead {lookahead}");
        }
    }
}

/// A second turn that goes on from the first: what the cache kept gives what a fresh start gives.
#[cfg(not(target_arch = "wasm32"))]
#[pollster::test]
async fn a_cache_across_the_boundary_gives_what_a_fresh_start_gives() {
    for name in ["rope_dynamic", "rope_longrope", "gemma3_nested"] {
        let (mut session, expected, _) = load(name).await;
        let ids = expected.ids("short.input_ids");
        let options = |max_new_tokens| GenerateOptions { max_new_tokens, ..GenerateOptions::default() };
        for first in [3, 8, 16] {
            session.engine_mut().reset();
            let mut turn = ids.clone();
            turn.extend(generate(&mut session, &ids, options(first)).await);
            turn.extend([5, 9]);
            let kept = generate(&mut session, &turn, options(6)).await;
            session.engine_mut().reset();
            assert_eq!(kept, generate(&mut session, &turn, options(6)).await, "{name}, {first} tokens before");
        }
    }
}

/// Checkpoints of a bare model lack the scope that one with a head has; multimodal ones have another, a config around the text
/// model's, and tensors that are no concern of it.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_model_is_found_in_any_of_its_scopes() {
    for (name, from, to) in [
        ("gpt2_scaled", "transformer.", ""),
        ("opt_post_norm", "model.decoder.", "decoder."),
        ("gemma2_uncapped", "model.", ""),
        ("gemma3_nested", "model.", "language_model.model."),
        ("gemma3_nested", "model.", "model.language_model."),
    ] {
        let folder = format!("references/{name}");
        let bytes = read_shared(&format!("{folder}/model.safetensors")).await.unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let renamed = tensors.tensors().into_iter().map(|(n, t)| (n.replacen(from, to, 1), t));
        let file = safetensors::serialize(renamed, None).unwrap();
        let mut config = json(&format!("{folder}/config.json")).await;
        if to.contains("language_model") {
            config = serde_json::json!({"model_type": "gemma3", "text_config": config, "vision_config": {}});
        }
        let mut memory = Memory::new();
        memory.insert("config.json", config.to_string().into_bytes()).unwrap();
        memory.insert("model.safetensors", file).unwrap();
        let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
        let mut session = open(&Source::Memory(memory), &options).await;
        assert_eq!(session.extra_tensors(), [""; 0], "{name} in {to:?}");
        let expected = Expected::of(&folder).await;
        let tolerance = json(&format!("{folder}/tolerance.json")).await["f32_abs"].as_f64().unwrap();
        let got = session.forward(&expected.ids("input_ids")).await.unwrap();
        assert_close(&format!("{name} in {to:?}"), &got.logits, &expected.floats("logits"), tolerance, 0.0);
    }
}
