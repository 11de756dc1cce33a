//! Every folder of `../shared/fixtures` of a supported `model_type` that is not quantized, at f32 and f16.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::models::config::SUPPORTED;
use webweft::session::LoadOptions;

use super::{Expected, assert_close, generate, json, open, shared_source, top2_margin};
use crate::common::{read_shared, report, sample_of, skipped};

/// Folders by their configs alone: a decoder that we have, in f32, f16 or bf16.
pub async fn folders() -> Vec<String> {
    let Some(index) = read_shared("fixtures/index.json").await else {
        skipped("../shared/fixtures is absent");
        return Vec::new();
    };
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let mut found = Vec::new();
    for name in index.as_object().unwrap().keys() {
        let folder = format!("fixtures/{name}");
        // a folder without config.json is a GGUF
        let Some(config) = read_shared(&format!("{folder}/config.json")).await else { continue };
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let model_type = config["model_type"].as_str().unwrap_or_default();
        if model_type != "bert" && SUPPORTED.contains(&model_type) && config["quantization_config"].is_null() {
            found.push(folder);
        }
    }
    assert!(found.len() >= 14, "{found:?}");
    found
}

async fn check(folders: &[String], dtype: Dtype, tolerance: &str, chunks: &[u32]) {
    for folder in folders {
        let source = shared_source(folder).await.unwrap();
        let mut session = open(&source, &LoadOptions { dtype, ..LoadOptions::default() }).await;
        let expected = Expected::of(folder).await;
        let tolerance = json(&format!("{folder}/meta.json")).await["tolerance"][tolerance].as_f64().unwrap();
        let ids = expected.ids("input_ids");
        for &chunk in chunks {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward(&ids).await.unwrap();
            assert_close(
                &format!("{folder}, chunks of {chunk}"),
                &got.logits,
                &expected.floats("logits"),
                tolerance,
                0.0,
            );
            let hidden = expected.floats("last_hidden_state");
            assert_close(&format!("{folder}, hidden"), &got.last_hidden_state, &hidden, tolerance, 0.0);
        }
        session.engine_mut().set_prefill_chunk(512).unwrap();
        let want = expected.ids("greedy_ids");
        let options = GenerateOptions { max_new_tokens: want.len(), ..GenerateOptions::default() };
        let got = generate(&mut session, &ids, options).await;
        // within the tolerance, another token is right where the two best are that near to one another
        if let Some(differs) = got.iter().zip(&want).position(|(a, b)| a != b) {
            let vocab = session.engine().vocab_size() as usize;
            let margin = top2_margin(&expected.floats("greedy_logits")[differs * vocab..][..vocab]);
            report(&format!("{folder}, {dtype:?}: another token at {differs}, margin {margin}"));
            assert!(f64::from(margin) < 2.0 * tolerance, "{folder}: another token at {differs}, margin {margin}");
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn f32_equals_transformers_in_chunks_of_any_size() {
    check(&folders().await, Dtype::F32, "f32_abs", sample_of(2, &[512, 7, 1, 3])).await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn f16_equals_transformers_within_its_tolerance() {
    check(sample_of(8, &folders().await), Dtype::F16, "f16_abs", sample_of(1, &[7, 512])).await;
}

/// `output_hidden_states=True`: the residual stream before every layer, and what the final norm makes of it after the last one.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn hidden_states_equal_transformers_layer_by_layer() {
    for folder in sample_of(8, &folders().await) {
        let source = shared_source(folder).await.unwrap();
        let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        let expected = Expected::of(folder).await;
        let tolerance = json(&format!("{folder}/meta.json")).await["tolerance"]["f32_abs"].as_f64().unwrap();
        let (ids, want) = (expected.ids("input_ids"), expected.floats("hidden_states"));
        for &chunk in sample_of(1, &[7, 512]) {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward_with_hidden_states(&ids).await.unwrap();
            let (after_last, before) = got.hidden_states.split_last().unwrap();
            assert_eq!(want.len(), got.hidden_states.len() * after_last.len(), "{folder}: one state more than layers");
            let states = before.iter().chain([&got.last_hidden_state]);
            for (layer, (got, want)) in states.zip(want.chunks(after_last.len())).enumerate() {
                assert_close(&format!("{folder}, state {layer}, chunks of {chunk}"), got, want, tolerance, 0.0);
            }
            assert_ne!(Some(after_last), before.last(), "{folder}: the last layer adds nothing");
            let plain = session.forward(&ids).await.unwrap();
            assert!(plain.hidden_states.is_empty(), "nobody asked for them");
            assert_eq!((plain.logits, plain.last_hidden_state), (got.logits, got.last_hidden_state), "{folder}");
        }
    }
}

/// Greedy with a repetition penalty, and without repeated n-grams: on the GPU, several steps ahead, and on the host.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn penalized_ids_equal_transformers() {
    let mut found = 0;
    for folder in folders().await {
        let expected = Expected::of(&folder).await;
        let repetition = GenerateOptions { repetition_penalty: 1.3, ..GenerateOptions::default() };
        let ngrams = GenerateOptions { no_repeat_ngram_size: 3, ..GenerateOptions::default() };
        let modes: Vec<_> = [("rep13_ids", repetition), ("ng3_ids", ngrams)]
            .into_iter()
            .filter(|(name, _)| expected.has(name))
            .collect();
        if modes.is_empty() {
            continue;
        }
        let source = shared_source(&folder).await.unwrap();
        let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        let ids = expected.ids("input_ids");
        for (name, options) in modes {
            let want = expected.ids(name);
            // (n-grams of 3 do not come twice within these 32 tokens anyway: tests/generate has a model where they do)
            if name == "rep13_ids" {
                assert_ne!(want, expected.ids("greedy_ids"), "{folder}: {name} shows nothing");
            }
            for &lookahead in sample_of(1, &[8, 0]) {
                let options = GenerateOptions { max_new_tokens: want.len(), lookahead, ..options.clone() };
                assert_eq!(
                    generate(&mut session, &ids, options).await,
                    want,
                    "{folder}, {name}, lookahead {lookahead}"
                );
            }
            found += 1;
        }
    }
    assert!(found >= 2 || read_shared("fixtures/index.json").await.is_none(), "llama_mha has both");
}

/// Left-padded batches: one sequence at a time, the padding left out.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn batches_equal_transformers_row_by_row() {
    let mut tried = 0;
    for folder in folders().await {
        let expected = Expected::of(&folder).await;
        if !expected.has("batch.input_ids") {
            continue;
        }
        tried += 1;
        let source = shared_source(&folder).await.unwrap();
        let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        let tolerance = json(&format!("{folder}/meta.json")).await["tolerance"]["f32_abs"].as_f64().unwrap();
        let (ids, mask) = (expected.ids("batch.input_ids"), expected.ids("batch.attention_mask"));
        let (logits, greedy) = (expected.floats("batch.logits"), expected.ids("batch.greedy_ids"));
        let vocab = session.engine().vocab_size() as usize;
        let (length, new) = (ids.len() / 2, greedy.len() / 2);
        for row in 0..2 {
            let of_row = row * length..(row + 1) * length;
            let first = mask[of_row.clone()].iter().position(|&m| m == 1).unwrap();
            let ids = &ids[of_row.clone()][first..];
            let got = session.forward(ids).await.unwrap();
            let want = &logits[(row * length + first) * vocab..(row + 1) * length * vocab];
            assert_close(&format!("{folder}, row {row}"), &got.logits, want, tolerance, 0.0);
            let options = GenerateOptions { max_new_tokens: new, ..GenerateOptions::default() };
            let got = generate(&mut session, ids, options).await;
            assert_eq!(got, greedy[row * new..(row + 1) * new], "{folder}, row {row}");
        }
    }
    if read_shared("fixtures/index.json").await.is_some() {
        assert!(tried > 0, "no folder has a batch");
    }
}
