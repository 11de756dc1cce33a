//! The decoding loop: running ahead, rolling back, stopping, failing.

mod assistant;
mod batch;
mod cache;
mod config;
mod fork;
mod overflow;
mod pool;
mod processors;
mod refused;
mod saved;
mod snapkv;
mod speculate;
mod text;
mod timed;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{DeviceError, Error, GenerateError};
use webweft::generate::{FinishReason, GenerateOptions};
use webweft::managers::blocks::CachePolicy;
use webweft::managers::{CacheOptions, Dtype};
use webweft::session::{LoadOptions, Session};
use webweft::site::{OpClass, Site};

use crate::common::{device, here, sample_of};
use crate::models::reference_llama::{Shape, Synthetic};
use crate::models::{generate, open, rest};

const F32: LoadOptions = LoadOptions {
    dtype: Dtype::F32,
    context: None,
    prefill_chunk: None,
    cache: CacheOptions { dtype: None, policy: CachePolicy::Full },
    warm_up: false,
    weights_file: None,
    gpu_layers: None,
};

fn model() -> Synthetic {
    let shape = Shape {
        hidden: 48,
        ff: 80,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 12,
        vocab: 300,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, Stored::F32, 11)
}

fn options(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, ..GenerateOptions::default() }
}

/// However far the GPU runs ahead, and whoever samples, the tokens are the same: across a full turn of the ring and several
/// buckets of the cache.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn lookahead_and_host_sampling_change_nothing() {
    let mut session = open(&model().source(), &F32).await;
    let prompt = [5, 17, 255, 3];
    for sampling in [
        GenerateOptions::default(),
        GenerateOptions { temperature: 0.9, top_k: 50, top_p: 0.95, seed: 42, ..GenerateOptions::default() },
    ] {
        let long = GenerateOptions { max_new_tokens: here(300, 100), lookahead: 128, ..sampling.clone() };
        let want = generate(&mut session, &prompt, long.clone()).await;
        assert_eq!(want.len(), here(300, 100));
        for &lookahead in sample_of(2, &[7, 33, 1]) {
            // an awaited readback takes 100 ms in Firefox: as many of them as the claim needs
            let count = want.len().min(8 * lookahead.min(36));
            session.engine_mut().reset();
            let got = generate(
                &mut session,
                &prompt,
                GenerateOptions { max_new_tokens: count, lookahead, ..sampling.clone() },
            )
            .await;
            assert_eq!(got, want[..count], "lookahead {lookahead}, {sampling:?}");
        }
        session.engine_mut().reset();
        let on_host =
            generate(&mut session, &prompt, GenerateOptions { max_new_tokens: 24, lookahead: 0, ..sampling.clone() })
                .await;
        assert_eq!(on_host, want[..24], "sampled on the host, {sampling:?}");
    }
    let seeds = async |session: &mut Session, seed| {
        session.engine_mut().reset();
        generate(session, &prompt, GenerateOptions { temperature: 1.0, seed, ..options(32) }).await
    };
    assert_ne!(seeds(&mut session, 1).await, seeds(&mut session, 2).await, "another seed, another text");
}

/// What the GPU computed beyond an abandoned generation, or beyond an end token, is rolled back: going on is as if it never was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn rolled_back_past_a_stop() {
    let mut session = open(&model().source(), &F32).await;
    let prompt = [5, 17, 255, 3];
    let whole = generate(&mut session, &prompt, options(40)).await;

    session.engine_mut().reset();
    let mut generation = session.generate(&prompt, GenerateOptions { lookahead: 16, ..options(40) }).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(generation.next().await.unwrap().unwrap());
    }
    drop(generation); // the GPU is up to 16 tokens ahead
    assert_eq!(taken, whole[..7]);
    let so_far: Vec<u32> = prompt.iter().chain(&taken).copied().collect();
    assert_eq!(session.engine().cached(), &so_far[..so_far.len() - 1], "the last token was never fed");
    let mut generation = session.generate(&so_far, options(33)).await.unwrap();
    assert_eq!(generation.timing().prefill_tokens, 1, "the cache is used again");
    let left = rest(&mut generation).await;
    assert_eq!(generation.finish_reason(), Some(FinishReason::Length));
    drop(generation);
    assert_eq!(left, whole[7..]);

    // the first token that did not occur before: the text ends there
    let at = (1..whole.len()).rev().find(|&i| !whole[..i].contains(&whole[i])).unwrap();
    for lookahead in [0, 1, 5, 64] {
        session.engine_mut().reset();
        let stop = GenerateOptions { eos_token_id: vec![299, whole[at]], lookahead, ..options(40) };
        let mut generation = session.generate(&prompt, stop).await.unwrap();
        let ids = rest(&mut generation).await;
        assert_eq!(generation.finish_reason(), Some(FinishReason::Stop), "lookahead {lookahead}");
        assert_eq!(generation.next().await.unwrap(), None);
        drop(generation);
        assert_eq!(ids, whole[..=at], "the end token is part of the result");
        let all: Vec<u32> = prompt.iter().chain(&ids).copied().collect();
        let after = generate(&mut session, &all, options(4)).await;
        let end = (at + 5).min(whole.len());
        assert_eq!(after[..end - at - 1], whole[at + 1..end], "going on after the stop, lookahead {lookahead}");
    }
}

/// The host's door: what a processor does to the logits is what is sampled from.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn processors_have_a_say_on_the_host() {
    let mut session = open(&model().source(), &F32).await;
    let prompt = [5, 17, 255, 3];
    let plain = generate(&mut session, &prompt, options(6)).await;
    session.engine_mut().reset();
    let mut generation = session.generate(&prompt, GenerateOptions { lookahead: 0, ..options(6) }).await.unwrap();
    let mut ids = Vec::new();
    let mut seen = Vec::new();
    let forbid = |tokens: &[u32], logits: &mut [f32]| {
        assert_eq!(logits.len(), 300);
        seen.push(tokens.len());
        logits[plain[0] as usize] = f32::NEG_INFINITY;
    };
    let mut forbid = forbid;
    while let Some(id) = generation.next_with(&mut forbid).await.unwrap() {
        ids.push(id);
    }
    assert!(!ids.contains(&plain[0]), "{ids:?}");
    assert_eq!(seen, [4, 5, 6, 7, 8, 9]);
    drop(generation);
    let mut on_gpu = session.generate(&prompt, options(1)).await.unwrap();
    let error = on_gpu.next_with(|_, _| ()).await.unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Setting { name: "lookahead", .. })), "{error}");
}

/// Logits that are no numbers end a generation with an error, never with token 0.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn logits_that_are_no_numbers_are_an_error() {
    let mut broken = model();
    broken.tensors.get_mut("lm_head.weight").unwrap().1.iter_mut().for_each(|v| *v = 3e38);
    let mut session = open(&broken.source(), &F32).await;
    for lookahead in [0, 1, 8] {
        for temperature in [0.0, 1.0] {
            session.engine_mut().reset();
            let request = GenerateOptions { lookahead, temperature, ..options(5) };
            let mut generation = session.generate(&[1, 2, 3], request).await.unwrap();
            let error = generation.next().await.unwrap_err();
            let site = Site { class: OpClass::Head, layer: None };
            let is_told =
                matches!(error, Error::Generate(GenerateError::NotFinite { site: at, position: 3 }) if at == site);
            assert!(is_told, "{lookahead}: {error}");
        }
    }
}

/// A conversation that changes its mind: the common beginning stays in the cache, the rest is computed.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_common_beginning_is_not_computed_twice() {
    let mut session = open(&model().source(), &F32).await;
    let long: Vec<u32> = (0..90).map(|i| (i * 37 + 11) % 300).collect();
    generate(&mut session, &long, options(4)).await;
    let mut other = long.clone();
    other.truncate(60);
    other.extend([7, 8, 9]);
    let mut generation = session.generate(&other, options(12)).await.unwrap();
    assert_eq!(generation.timing().prefill_tokens, 3);
    let ids = rest(&mut generation).await;
    drop(generation);
    session.engine_mut().reset();
    assert_eq!(generate(&mut session, &other, options(12)).await, ids);
}

/// A conversation that outgrows its cache takes it along; where memory does not hold both, it is computed again.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_cache_that_grows_keeps_what_it_holds() {
    let source = model().source();
    let limit = 16 << 20;
    for (tight, computed) in [(false, 601), (true, 1220)] {
        let own = Device::open(&DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() }).await.unwrap();
        let load = LoadOptions { prefill_chunk: Some(16), ..F32 };
        let mut session = Session::open(&own, &source, &load, |_| ()).await.unwrap();
        let short: Vec<u32> = (0..600).map(|i| (i * 37 + 11) % 300).collect();
        let new = generate(&mut session, &short, options(20)).await;
        let mut long: Vec<u32> = short.iter().chain(&new).copied().collect();
        long.extend((0..600).map(|i| (i * 7 + 5) % 300));
        // 384 bytes a position: the cache grows from 384 to 768 KiB, and 700 KiB are left
        let left = if tight { 700 << 10 } else { limit / 2 };
        let ballast = limit - own.ledger().snapshot().total - left;
        let _ballast = own.storage("ballast", webweft::device::Category::Staging, ballast).unwrap();
        let mut generation = session.generate(&long, options(5)).await.unwrap();
        assert_eq!(generation.timing().prefill_tokens, computed, "619 tokens were in the cache");
        let ids = rest(&mut generation).await;
        drop(generation);
        session.engine_mut().reset();
        assert_eq!(generate(&mut session, &long, options(5)).await, ids);
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn requests_that_cannot_be_are_refused() {
    let mut session = open(&model().source(), &LoadOptions { context: Some(20), ..F32 }).await;
    let refused = async |session: &mut Session, prompt: &[u32], options: GenerateOptions| match session
        .generate(prompt, options)
        .await
        .map(|_| ())
    {
        Err(Error::Generate(error)) => error,
        other => panic!("{other:?}"),
    };
    let error = refused(&mut session, &[], options(1)).await;
    assert!(matches!(error, GenerateError::EmptyPrompt), "{error}");
    let error = refused(&mut session, &[1; 21], options(1)).await;
    assert!(matches!(error, GenerateError::PromptTooLong { tokens: 21, context: 20, .. }), "{error}");
    let error = refused(&mut session, &[1; 20], options(1)).await;
    assert!(matches!(error, GenerateError::PromptTooLong { .. }), "{error}");
    let error = refused(&mut session, &[1, 300], options(1)).await;
    assert!(matches!(error, GenerateError::TokenOutOfRange { id: 300, vocab: 300, .. }), "{error}");
    for bad in [
        GenerateOptions { temperature: -1.0, ..options(1) },
        GenerateOptions { temperature: f32::NAN, ..options(1) },
        GenerateOptions { top_p: 0.0, ..options(1) },
        GenerateOptions { lookahead: 129, ..options(1) },
        options(0),
    ] {
        let error = refused(&mut session, &[1], bad).await;
        assert!(matches!(error, GenerateError::Setting { .. }), "{error}");
    }
    // a context whose cache no binding shows: told when it is asked for, as a size, not as a failure inside
    let mut wide = model();
    wide.config["max_position_embeddings"] = serde_json::json!(1 << 26);
    let mut long = open(&wide.source(), &LoadOptions { context: Some(1 << 26), ..F32 }).await;
    let error = long.generate(&[1], options(1 << 25)).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Device(DeviceError::BufferTooLarge { .. })), "{error}");
    assert_eq!(generate(&mut long, &[1], options(3)).await.len(), 3, "a shorter one still works");
    // the context bounds the result
    let mut generation = session.generate(&[1; 15], options(100)).await.unwrap();
    let mut count = 0;
    while generation.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, generation.finish_reason()), (5, Some(FinishReason::Length)));
}

/// A lost device is an error, at whatever comes next, and a new device opens the model again.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_lost_device_is_a_typed_error() {
    let own = Device::open(&DeviceOptions::default()).await.unwrap();
    let source = model().source();
    let mut session = Session::open(&own, &source, &F32, |_| ()).await.unwrap();
    let mut generation = session.generate(&[1, 2, 3], options(50)).await.unwrap();
    let first = generation.next().await.unwrap();
    own.destroy();
    let error = loop {
        match generation.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended as if nothing had happened"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Device(DeviceError::Lost { .. })), "{error}");
    drop(generation);
    assert!(session.forward(&[1]).await.is_err());
    let mut again = Session::open(&device().await, &source, &F32, |_| ()).await.unwrap();
    assert_eq!(generate(&mut again, &[1, 2, 3], options(1)).await.first().copied(), first);
}

/// A budget that is too small is an error that names what did not fit, at every stage, and nothing stays allocated.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn out_of_memory_is_a_typed_error() {
    let source = model().source();
    let mut failures = 0;
    for limit in (0..13 << 20).step_by(1 << 20) {
        let own = Device::open(&DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() }).await.unwrap();
        let result = async {
            let mut session = Session::open(&own, &source, &LoadOptions { context: Some(2048), ..F32 }, |_| ()).await?;
            let mut generation = session.generate(&[1; 1500], options(500)).await?;
            generation.next().await
        };
        if let Err(error) = result.await {
            let is_typed = match &error {
                Error::Device(DeviceError::OutOfMemory { label, .. }) => !label.is_empty(),
                Error::Device(DeviceError::NothingFits { reason }) => reason.contains(&format!("({limit} bytes)")),
                _ => false,
            };
            assert!(is_typed, "{error}");
            failures += 1;
        }
        assert_eq!(own.ledger().snapshot().total, 0, "all is given back");
    }
    assert!(failures >= 8, "{failures}");
    let own = Device::open(&DeviceOptions::default()).await.unwrap();
    let too_large = own.storage("huge", webweft::device::Category::Cache, u64::MAX / 2);
    assert!(matches!(too_large, Err(DeviceError::BufferTooLarge { .. })), "{too_large:?}");
}
