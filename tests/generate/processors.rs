//! The processors against what transformers' own make of the same scores, on the host and on the GPU.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::Memory;
use webweft::generate::{GenerateOptions, Processors};
use webweft::ops;
use webweft::reference::sample;
use webweft::reference::sample::{probabilities, warp};
use webweft::shaders;
use webweft::step::{History, Step, StepSize};
use webweft::tensor::Elem;

use crate::common::{assert_close, device, read_shared, skipped};
use crate::models::Expected;
use crate::ops::Bench;

const FOLDER: &str = "fixtures/logits_processors";
const ROWS: usize = 3;
const LENGTH: usize = 15;
const VOCAB: usize = 97;
/// How transformers' minus infinity is stored.
const EXCLUDED: f32 = -3e38;
/// f32's rounding, of transformers' sums and ours.
const NEAR: f32 = 1e-5;

/// Each case of the fixture, with the prompt's length, as its `meta.json` describes it. `forced_bos` is left out: nothing of
/// this kind is supported.
fn cases() -> Vec<(&'static str, usize, GenerateOptions)> {
    let greedy = GenerateOptions::default;
    let random = || GenerateOptions { temperature: 1.0, seed: 5, ..greedy() };
    vec![
        ("temperature_0.7", LENGTH, GenerateOptions { temperature: 0.7, ..random() }),
        ("top_k_7", LENGTH, GenerateOptions { top_k: 7, ..random() }),
        ("top_p_0.8", LENGTH, GenerateOptions { top_p: 0.8, ..random() }),
        ("min_p_0.1", LENGTH, GenerateOptions { min_p: 0.1, ..random() }),
        ("typical_p_0.6", LENGTH, GenerateOptions { typical_p: 0.6, ..random() }),
        ("epsilon_0.01", LENGTH, GenerateOptions { epsilon_cutoff: 0.01, ..random() }),
        ("eta_0.02", LENGTH, GenerateOptions { eta_cutoff: 0.02, ..random() }),
        ("chain_t0.8_k20_p0.9", LENGTH, GenerateOptions { temperature: 0.8, top_k: 20, top_p: 0.9, ..random() }),
        ("repetition_1.3", LENGTH, GenerateOptions { repetition_penalty: 1.3, ..greedy() }),
        ("no_repeat_ngram_2", LENGTH, GenerateOptions { no_repeat_ngram_size: 2, ..greedy() }),
        ("no_repeat_ngram_3", LENGTH, GenerateOptions { no_repeat_ngram_size: 3, ..greedy() }),
        ("min_length_eos", LENGTH, GenerateOptions { min_length: 20, eos_token_id: vec![3], ..greedy() }),
        ("min_new_tokens_eos", 12, GenerateOptions { min_new_tokens: 5, eos_token_id: vec![3], ..greedy() }),
        ("bad_words", LENGTH, GenerateOptions { bad_words_ids: vec![vec![5], vec![9, 9]], ..greedy() }),
        ("suppress", LENGTH, GenerateOptions { suppress_tokens: vec![1, 4, 8], ..greedy() }),
        (
            "logit_bias",
            LENGTH,
            GenerateOptions { sequence_bias: vec![(vec![7], 2.5), (vec![8, 11], -4.0)], ..greedy() },
        ),
    ]
}

async fn expected() -> Option<Expected> {
    if read_shared(&format!("{FOLDER}/meta.json")).await.is_none() {
        skipped("../shared/fixtures/logits_processors is absent");
        return None;
    }
    Some(Expected::of(FOLDER).await)
}

fn row(of: &[f32], row: usize) -> &[f32] {
    &of[row * VOCAB..(row + 1) * VOCAB]
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_host_equals_transformers() {
    let Some(expected) = expected().await else { return };
    let (raw, ids) = (expected.floats("logits"), expected.ids("input_ids"));
    for (name, prompt, options) in cases() {
        options.check().unwrap();
        let sampling = options.sampling(prompt);
        let (scores, probs) = (expected.floats(&format!("{name}.logits")), expected.floats(&format!("{name}.probs")));
        for (i, ids) in ids.chunks(LENGTH).enumerate() {
            let mut logits = row(&raw, i).to_vec();
            let processors = Processors::new(&options, &sampling, &ids[..prompt], VOCAB as u32).unwrap();
            assert_eq!(processors.is_some(), options.temperature == 0.0, "{name}");
            if let Some(processors) = processors {
                processors.process(&mut logits, &sampling, ids, LENGTH - prompt);
            }
            let got: Vec<f32> = warp(&logits, &sampling).iter().map(|&v| (v as f32).max(EXCLUDED)).collect();
            let want: Vec<f64> = row(&scores, i).iter().map(|&v| f64::from(v)).collect();
            assert_close(&format!("{name}, row {i}"), &got, &want, f64::from(NEAR), 1e-6);
            let got: Vec<f32> = probabilities(&logits, &sampling).iter().map(|&v| v as f32).collect();
            let want: Vec<f64> = row(&probs, i).iter().map(|&v| f64::from(v)).collect();
            assert_close(&format!("{name}, probabilities of row {i}"), &got, &want, 1e-6, 1e-5);
        }
    }
}

/// Processors: the kernels leave transformers' scores. Cut-offs: the sampler draws what the host draws from transformers' scores.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_gpu_equals_transformers() {
    const DRAWS: u32 = 150;
    let Some(expected) = expected().await else { return };
    let (raw, ids) = (expected.floats("logits"), expected.ids("input_ids"));
    let mut bench = Bench::new(&device().await);
    for (name, prompt, options) in cases() {
        let sampling = options.sampling(prompt);
        let scores = expected.floats(&format!("{name}.logits"));
        for (i, ids) in ids.chunks(LENGTH).enumerate() {
            let (logits, want) = (row(&raw, i), row(&scores, i).to_vec());
            let size = StepSize { rows: 1, slots: 1, tables: 1, pages: 1, ring: DRAWS };
            let step = Step::new(Memory::Device(&bench.device), size).unwrap();
            let at = LENGTH as u32 - 1;
            let sampled = (LENGTH - prompt) as u32;
            step.set(
                &bench.device,
                &[shaders::Slot { position: at, rows: 1, sampled, limit: u32::MAX, ..Default::default() }],
            );
            step.set_sampling(&bench.device, 0, sampling, &[]);
            let name = format!("{name}, row {i}");
            if let Some(processors) = Processors::new(&options, &sampling, &ids[..prompt], VOCAB as u32).unwrap() {
                let history = History::new(&bench.device, VOCAB as u32, 64, 1).unwrap();
                processors.upload(&bench.device, &history, 0, ids);
                bench.case(|case| {
                    let made = case.input(logits, 1, VOCAB, Elem::F32);
                    ops::penalize(&mut case.g, &made, ops::Rows::Last(made.rows), &step, &history).unwrap();
                    ops::no_repeat_ngram(&mut case.g, &made, ops::Rows::Last(made.rows), &step, &history, 64).unwrap();
                    case.output(&made, 1, name, move |name, got| {
                        let got: Vec<f32> = got.iter().map(|v| v.max(EXCLUDED)).collect();
                        let want: Vec<f64> = want.iter().map(|&v| f64::from(v)).collect();
                        assert_close(name, &got, &want, f64::from(NEAR), 1e-6);
                    });
                });
                continue;
            }
            bench.case(|case| {
                case.runs = DRAWS;
                let made = case.input(logits, 1, VOCAB, Elem::F32);
                ops::sample(&mut case.g, &made, &step, None).unwrap();
            });
            bench.read(&[&step.ring], move |bytes| {
                let ring = bytemuck::pod_collect_to_vec::<u8, u32>(bytes[0]);
                // transformers' scores, to which only the noise is to be added
                let fixed = GenerateOptions { temperature: 1.0, seed: options.seed, ..GenerateOptions::default() };
                let want: Vec<f32> = want.iter().map(|&v| if v > EXCLUDED { v } else { f32::NEG_INFINITY }).collect();
                let host = (0..DRAWS).map(|n| sample(&want, &fixed.sampling(LENGTH), LENGTH as u32 + n).unwrap());
                let same = host.zip(&ring).filter(|(a, b)| a == *b).count() as u32;
                assert!(same + 1 >= DRAWS, "{name}: {same} of {DRAWS} draws are those from transformers' scores");
                assert!(ring.iter().all(|&id| want[id as usize].is_finite()), "{name}: one that is cut off was drawn");
            });
        }
    }
    assert_eq!(ids.len(), ROWS * LENGTH);
    bench.run().await;
}
