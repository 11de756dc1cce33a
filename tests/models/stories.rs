//! stories260K, a real trained Llama: ids, logits, and what 4 bits cost.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};

use super::{Expected, assert_close, generate, negative_log_likelihood, open, shared_source, top2_margin};
use crate::common::{report, skipped};

const FOLDER: &str = "models/stories260K";

fn greedy(tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens: tokens, ..GenerateOptions::default() }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn f32_ids_and_logits_equal_transformers() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/models is absent") };
    let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
    let expected = Expected::of(FOLDER).await;
    for prompt in 0..4 {
        let ids = expected.ids(&format!("prompt{prompt}.input_ids"));
        let want = expected.ids(&format!("prompt{prompt}.greedy_ids"));
        assert_eq!(generate(&mut session, &ids, greedy(want.len())).await, want, "prompt {prompt}");
    }
    let got = session.forward(&expected.ids("prompt0.input_ids")).await.unwrap();
    assert_close("logits of prompt 0", &got.logits, &expected.floats("prompt0.logits"), 1e-3, 0.0);
}

/// Where f16 takes another way, rounding explains it: the two best tokens are nearer to one another than the error of their
/// logits. Which near ties fall the other way depends on the order of sums, that is on the driver; on Mesa's software driver the
/// ids of prompts 0, 2 and 3 are exactly transformers', and prompt 1 leaves them at a margin below 1e-3.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn f16_ids_equal_transformers_but_at_near_ties() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/models is absent") };
    let mut session = open(&source, &LoadOptions { dtype: Dtype::F16, ..LoadOptions::default() }).await;
    let mut exact = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
    let on_llvmpipe = session.engine().device().info().name.contains("llvmpipe");
    let vocab = session.engine().vocab_size() as usize;
    let expected = Expected::of(FOLDER).await;
    for prompt in 0..4 {
        let ids = expected.ids(&format!("prompt{prompt}.input_ids"));
        let want = expected.ids(&format!("prompt{prompt}.greedy_ids"));
        let got = generate(&mut session, &ids, greedy(want.len())).await;
        let Some(differs) = got.iter().zip(&want).position(|(a, b)| a != b) else { continue };
        let before: Vec<u32> = ids.iter().chain(&want[..differs]).copied().collect();
        let exact = exact.forward(&before).await.unwrap().logits;
        let rounded = session.forward(&before).await.unwrap().logits;
        let last = exact.len() - vocab;
        let margin = top2_margin(&exact[last..]);
        let error = exact[last..].iter().zip(&rounded[last..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        report(&format!("prompt {prompt}, f16: another token at {differs}; margin {margin}, error {error}"));
        assert!(error < 0.05, "prompt {prompt}, step {differs}: f16 is off by {error}");
        assert!(margin <= 2.0 * error, "prompt {prompt} differs at {differs}: margin {margin}, error {error}");
        assert!(
            !on_llvmpipe || (prompt == 1 && margin < 1e-3),
            "prompt {prompt} differs at {differs}: margin {margin}"
        );
    }
}

/// Perplexity of three greedy texts at q4 against f32, and the bytes of the linear layers against f16.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn q4_costs_little_and_takes_little() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/models is absent") };
    let expected = Expected::of(FOLDER).await;
    let mut perplexities = Vec::new();
    let mut linear_bytes = Vec::new();
    for dtype in [Dtype::F32, Dtype::Q4, Dtype::F16] {
        // a device of its own, whose ledger knows this model only
        let device = Device::open(&DeviceOptions::default()).await.unwrap();
        let options = LoadOptions { dtype, ..LoadOptions::default() };
        let mut session = Session::open(&device, &source, &options, |_| ()).await.unwrap();
        let (mut sum, mut count) = (0.0, 0);
        for prompt in 0..3 {
            let start = expected.ids(&format!("prompt{prompt}.input_ids"));
            let ids: Vec<u32> =
                start.iter().chain(&expected.ids(&format!("prompt{prompt}.greedy_ids"))).copied().collect();
            let logits = session.forward(&ids).await.unwrap().logits;
            sum += negative_log_likelihood(&logits, session.engine().vocab_size() as usize, &ids, start.len() - 1);
            count += ids.len() - start.len();
        }
        perplexities.push((sum / f64::from(count as u32)).exp());
        let linear = |e: &&webweft::device::Entry| e.category == Category::Weights && e.label.contains("_proj");
        linear_bytes.push(device.ledger().entries().iter().filter(linear).map(|e| e.size).sum::<u64>());
    }
    let ratio = perplexities[1] / perplexities[0];
    let share = linear_bytes[1] as f64 / linear_bytes[2] as f64;
    report(&format!(
        "perplexity f32 {:.4}, q4 {:.4}: {ratio:.4}; linear layers {share:.4} of f16",
        perplexities[0], perplexities[1]
    ));
    assert!(ratio <= 1.10, "perplexity at q4 is {ratio} times that of f32");
    assert!(share <= 0.30, "linear layers take {share} of f16");
}
