//! Every folder of `tests/references`: settings that no other material has, made by `tools/references.py` with transformers.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};

use super::{Expected, assert_close, generate, json, open, shared_source};

/// A browser cannot list folders.
const FOLDERS: [&str; 15] = [
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
const CHUNKS: &[u32] = if cfg!(target_arch = "wasm32") { &[512, 3] } else { &[512, 1, 3, 7] };
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
