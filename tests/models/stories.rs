//! stories260K, a real trained Llama: ids, logits, and what 4 bits cost.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::generate::GenerateOptions;
use webweft::managers::{CacheOptions, Dtype};
use webweft::session::{LoadOptions, Session};
use webweft::source::Source;
use webweft::tensor::CacheDtype;

use super::{Expected, assert_close, generate, negative_log_likelihood, open, shared_source, top2_margin};
use crate::common::{here, report, sample_of, skipped};

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
    for prompt in sample_of(2, &[2, 0, 1, 3]) {
        let ids = expected.ids(&format!("prompt{prompt}.input_ids"));
        let want = expected.ids(&format!("prompt{prompt}.greedy_ids"));
        let want = sample_of(64, &want);
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
    for &prompt in sample_of(2, &[1, 2, 0, 3]) {
        let ids = expected.ids(&format!("prompt{prompt}.input_ids"));
        let want = expected.ids(&format!("prompt{prompt}.greedy_ids"));
        let want = sample_of(64, &want);
        let got = generate(&mut session, &ids, greedy(want.len())).await;
        let Some(differs) = got.iter().zip(want).position(|(a, b)| a != b) else { continue };
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

/// What a dtype may cost, against f32 and f16: perplexity, and bytes of the linear layers.
struct Bar {
    dtype: Dtype,
    perplexity: f64,
    linear: f64,
}

/// Perplexity of three greedy texts against f32, and bytes of weights against f16. Embedding and output head are f16 in all of these,
/// which on a model this small is an eighth of the weights.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn few_bits_cost_little_and_take_little() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/models is absent") };
    let expected = Expected::of(FOLDER).await;
    let mut bars = vec![
        // scales by the extreme alone, without a search, cost 1.073
        Bar { dtype: Dtype::Q4, perplexity: 1.070, linear: 0.30 },
        Bar { dtype: Dtype::Q4a, perplexity: 1.060, linear: 0.33 },
        Bar { dtype: Dtype::Nf4, perplexity: 1.075, linear: 0.30 },
        Bar { dtype: Dtype::Q8, perplexity: 1.002, linear: 0.55 },
    ];
    if cfg!(target_arch = "wasm32") {
        bars.truncate(1); // the others are this one with other constants, and browsers are slow to compile them
    }
    let texts: Vec<_> = (0..3)
        .map(|prompt| {
            let start = expected.ids(&format!("prompt{prompt}.input_ids"));
            let ids = start.iter().chain(&expected.ids(&format!("prompt{prompt}.greedy_ids"))).copied().collect();
            (ids, start.len())
        })
        .collect();
    let (exact, _) = perplexity_and_bytes(&source, &texts, Dtype::F32).await;
    let (half, half_bytes) = perplexity_and_bytes(&source, &texts, Dtype::F16).await;
    report(&format!("perplexity: f32 {exact:.4}, f16 {half:.4}, {:.4} of it", half / exact));
    for Bar { dtype, perplexity, linear } in bars {
        let (of_dtype, bytes) = perplexity_and_bytes(&source, &texts, dtype).await;
        let ratio = of_dtype / exact;
        let [share, of_all] = [0, 1].map(|i| bytes[i] as f64 / half_bytes[i] as f64);
        let name = dtype.name();
        report(&format!(
            "{name}: {ratio:.4} of the perplexity; linear layers {share:.4} of f16, all weights {of_all:.4}"
        ));
        assert!(ratio <= perplexity, "perplexity at {name} is {ratio} times that of f32");
        assert!(share <= linear, "linear layers at {name} take {share} of f16");
    }
}

/// The built-in model, on stories that it tells itself, drawn at f32: four times as many weights, and trained for four bits.
#[cfg(not(target_arch = "wasm32"))]
#[pollster::test]
async fn few_bits_cost_the_built_in_model_next_to_nothing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories");
    let source = Source::Folder(webweft::source::Folder::open(folder).unwrap());
    let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
    let start = session.encode("Once upon a time").unwrap();
    let mut texts = Vec::new();
    for seed in 0..6 {
        let options = GenerateOptions { temperature: 1.0, seed, max_new_tokens: 160, ..GenerateOptions::default() };
        let mut ids = start.clone();
        ids.extend(generate(&mut session, &start, options).await);
        texts.push((ids, start.len()));
    }
    let (exact, full) = perplexity_and_bytes(&source, &texts, Dtype::F32).await;
    for dtype in Dtype::ALL {
        let (of_dtype, bytes) = perplexity_and_bytes(&source, &texts, dtype).await;
        let (ratio, name) = (of_dtype / exact, dtype.name());
        let [share, of_all] = [0, 1].map(|i| 2.0 * bytes[i] as f64 / full[i] as f64);
        report(&format!(
            "built-in, {name}: {ratio:.4} of {exact:.4}; linear layers {share:.4} of f16, all weights {of_all:.4}"
        ));
        assert!(ratio <= 1.02, "perplexity at {name} is {ratio} times that of f32");
    }
}

/// What keys and values in few bits cost, against f16: texts that the model tells itself, of some 400 tokens, so that most of what a
/// token sees is quantized. stories260K has heads of 8 elements: there the keys' scales by channel show.
async fn caches_cost(name: &str, source: &Source) {
    let mut session = open(source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
    let start = session.encode("Once upon a time").unwrap();
    let mut texts = Vec::new();
    for &seed in sample_of(1, &[0, 1, 2, 3, 4, 5]) {
        let options = GenerateOptions {
            temperature: 1.0,
            seed,
            max_new_tokens: here(400, 250),
            eos_token_id: Vec::new(),
            ..GenerateOptions::default()
        };
        let mut ids = start.clone();
        ids.extend(generate(&mut session, &start, options).await);
        texts.push((ids, start.len()));
    }
    let mut of_f16 = None;
    for (dtype, most) in [(CacheDtype::F16, 1.0), (CacheDtype::Q8, 1.003), (CacheDtype::Q4, 1.04)] {
        let cache = CacheOptions { dtype: Some(dtype), ..CacheOptions::default() };
        let options = LoadOptions { dtype: Dtype::F32, cache, ..LoadOptions::default() };
        let mut session = open(source, &options).await;
        let perplexity = perplexity(&mut session, &texts).await;
        let ratio = perplexity / *of_f16.get_or_insert(perplexity);
        report(&format!("{name}, cache of {}: {ratio:.5} of the perplexity with f16", dtype.name()));
        assert!(ratio <= most, "{name}: perplexity with a cache of {} is {ratio} times that with f16", dtype.name());
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_cache_in_few_bits_costs_little() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/models is absent") };
    caches_cost("stories260K", &source).await;
}

#[cfg(not(target_arch = "wasm32"))]
#[pollster::test]
async fn a_cache_in_few_bits_costs_the_built_in_model_little() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories");
    caches_cost("built-in", &Source::Folder(webweft::source::Folder::open(folder).unwrap())).await;
}

/// Perplexity of texts, each from its start on.
async fn perplexity(session: &mut Session, texts: &[(Vec<u32>, usize)]) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for (ids, start) in texts {
        let logits = session.forward(ids).await.unwrap().logits;
        sum += negative_log_likelihood(&logits, session.engine().vocab_size() as usize, ids, start - 1);
        count += ids.len() - start;
    }
    (sum / f64::from(count as u32)).exp()
}

/// Perplexity of texts, and bytes of linear layers and of all weights.
async fn perplexity_and_bytes(source: &Source, texts: &[(Vec<u32>, usize)], dtype: Dtype) -> (f64, [u64; 2]) {
    // a device of its own, whose ledger knows this model only
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    let mut session = Session::open(&device, source, &options, |_| ()).await.unwrap();
    let perplexity = perplexity(&mut session, texts).await;
    let weights: Vec<_> =
        device.ledger().entries().into_iter().filter(|entry| entry.category == Category::Weights).collect();
    let linear = weights.iter().filter(|entry| entry.label.contains("_proj")).map(|entry| entry.size).sum();
    (perplexity, [linear, weights.iter().map(|entry| entry.size).sum()])
}
