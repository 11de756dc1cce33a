//! Checkpoints that other tools quantized: those of `../shared/fixtures`, and those of `tests/quantized`, which `tools/quantized.py` made
//! with the formats' own libraries.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::generate::GenerateOptions;
use webweft::session::LoadOptions;
use webweft::source::{Memory, Source};

use super::{Expected, assert_close, generate, json, open, shared_source, top2_margin};
use crate::common::{read_shared, report, skipped};

const FIXTURES: [&str; 10] = [
    "bitnet",
    "q_awq",
    "q_bnb_int8",
    "q_bnb_nf4",
    "q_bnb_nf4_dq",
    "q_compressed_w4",
    "q_fp8_block",
    "q_gptq_8bit",
    "q_gptq_asym_act",
    "q_gptq_sym",
];

/// With no option at all: logits in one prefill and in chunks, and greedy ids.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn fixtures_equal_transformers_as_they_are() {
    if read_shared("fixtures/index.json").await.is_none() {
        return skipped("../shared/fixtures is absent");
    }
    for name in FIXTURES {
        let folder = format!("fixtures/{name}");
        let source = shared_source(&folder).await.unwrap();
        let mut session = open(&source, &LoadOptions::default()).await;
        // the head of that one is stored, though it is the embedding
        let extra: &[&str] = if name == "bitnet" { &["lm_head.weight"] } else { &[] };
        assert_eq!(session.extra_tensors(), extra, "{name}");
        let expected = Expected::of(&folder).await;
        let tolerance = json(&format!("{folder}/meta.json")).await["tolerance"]["f32_abs"].as_f64().unwrap();
        let ids = expected.ids("input_ids");
        for &chunk in if cfg!(target_arch = "wasm32") { &[512, 1][..] } else { &[512, 1, 7] } {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward(&ids).await.unwrap();
            let worst =
                got.logits.iter().zip(expected.floats("logits")).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            report(&format!("{name}, chunks of {chunk}: off by {worst:.2e} of {tolerance:.2e}"));
            assert_close(
                &format!("{name}, chunks of {chunk}"),
                &got.logits,
                &expected.floats("logits"),
                tolerance,
                0.0,
            );
            let vocab = session.engine().vocab_size() as usize;
            let best = |logits: &[f32]| logits.chunks_exact(vocab).map(argmax).collect::<Vec<_>>();
            assert_eq!(best(&got.logits), best(&expected.floats("logits")), "{name}, chunks of {chunk}");
        }
        session.engine_mut().set_prefill_chunk(512).unwrap();
        let want = expected.ids("greedy_ids");
        let options = GenerateOptions { max_new_tokens: want.len(), ..GenerateOptions::default() };
        let got = generate(&mut session, &ids, options).await;
        if let Some(differs) = got.iter().zip(&want).position(|(a, b)| a != b) {
            let vocab = session.engine().vocab_size() as usize;
            let margin = top2_margin(&expected.floats("greedy_logits")[differs * vocab..][..vocab]);
            panic!("{name}: another token at {differs}, margin {margin}");
        }
    }
}

fn argmax(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

/// A browser cannot list folders.
const CASES: [&str; 30] = [
    "awq_g32",
    "awq_odd_heads",
    "bitnet_divides",
    "bitnet_head",
    "bitnet_odd",
    "bnb_fp4",
    "bnb_fp4_nested",
    "bnb_int8",
    "bnb_nf4_128",
    "bnb_nf4_odd",
    "ct_fp8_channel",
    "ct_fp8_tensor",
    "ct_int8",
    "ct_mixed_bits",
    "ct_mixed_formats",
    "ct_w4_actorder",
    "ct_w4_asym",
    "ct_w4_channel",
    "ct_w8_packed",
    "ct_w8a8",
    "fbgemm_fp8",
    "fp8_block_odd",
    "fp8_tensor",
    "gptq_8bit_act",
    "gptq_act_shared",
    "gptq_borrow",
    "gptq_channel4",
    "gptq_g16",
    "gptq_tail",
    "gptq_v2",
];

/// Odd shapes, group sizes, orders, blocks over the ends of rows, nested statistics, layers that are not quantized or not alike.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_libraries_decode_is_what_is_computed() {
    for name in CASES {
        let folder = format!("quantized/{name}");
        let Some(source) = shared_source(&folder).await else { panic!("{folder} is missing") };
        let mut session = open(&source, &LoadOptions::default()).await;
        assert_eq!(session.extra_tensors(), [""; 0], "{name}");
        let expected = Expected::of(&folder).await;
        let tolerance = json(&format!("{folder}/tolerance.json")).await["f32_abs"].as_f64().unwrap();
        let ids = expected.ids("input_ids");
        for &chunk in if cfg!(target_arch = "wasm32") { &[512][..] } else { &[512, 3] } {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward(&ids).await.unwrap();
            let worst =
                got.logits.iter().zip(expected.floats("logits")).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            report(&format!("{name}, chunks of {chunk}: off by {worst:.2e} of {tolerance:.2e}"));
            assert_close(
                &format!("{name}, chunks of {chunk}"),
                &got.logits,
                &expected.floats("logits"),
                tolerance,
                0.0,
            );
        }
        session.engine_mut().reset();
        let want = expected.ids("short.greedy_ids");
        let options = GenerateOptions { max_new_tokens: want.len(), ..GenerateOptions::default() };
        assert_eq!(generate(&mut session, &expected.ids("short.input_ids"), options).await, want, "{name}");
    }
}

/// The same bytes under other names: 4-bit codes of bitsandbytes stored as bf16, blocks of 8-bit floats by compressed-tensors.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn other_names_of_the_same_bytes() {
    for name in ["bnb_nf4_128", "fp8_block_odd"] {
        let folder = format!("quantized/{name}");
        let bytes = read_shared(&format!("{folder}/model.safetensors")).await.unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let renamed = file.tensors().into_iter().map(|(name, t)| match t.dtype() {
            Dtype::U8 if name.ends_with("_proj.weight") => {
                let shape = vec![t.data().len() / 2, 1];
                (name, TensorView::new(Dtype::BF16, shape, t.data()).unwrap())
            }
            _ => (name.replace("weight_scale_inv", "weight_scale"), t),
        });
        let file = safetensors::serialize(renamed, None).unwrap();
        let mut config = json(&format!("{folder}/config.json")).await;
        if name == "fp8_block_odd" {
            let block = config["quantization_config"]["weight_block_size"].clone();
            let weights =
                serde_json::json!({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": block});
            config["quantization_config"] = serde_json::json!({
                "quant_method": "compressed-tensors", "format": "float-quantized",
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            });
        }
        let mut memory = Memory::new();
        memory.insert("config.json", config.to_string().into_bytes()).unwrap();
        memory.insert("model.safetensors", file).unwrap();
        let mut session = open(&Source::Memory(memory), &LoadOptions::default()).await;
        let expected = Expected::of(&folder).await;
        let tolerance = json(&format!("{folder}/tolerance.json")).await["f32_abs"].as_f64().unwrap();
        let got = session.forward(&expected.ids("input_ids")).await.unwrap();
        assert_close(name, &got.logits, &expected.floats("logits"), tolerance, 0.0);
    }
}
