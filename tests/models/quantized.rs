//! Checkpoints that other tools quantized: those of `../shared/fixtures`, and those of `tests/quantized`, which `tools/quantized.py` made
//! with the formats' own libraries.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::generate::GenerateOptions;
use webweft::session::LoadOptions;

use super::{Expected, assert_close, generate, json, open, shared_source, top2_margin};
use crate::common::{read_shared, report, skipped};

const FIXTURES: [&str; 9] = [
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
        assert_eq!(session.extra_tensors(), [""; 0], "{name}");
        let expected = Expected::of(&folder).await;
        let tolerance = json(&format!("{folder}/meta.json")).await["tolerance"]["f32_abs"].as_f64().unwrap();
        let ids = expected.ids("input_ids");
        for chunk in [512, 1, 7] {
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
