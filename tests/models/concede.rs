//! Memory that runs short: what is given up, in which order, and that what comes is right nevertheless.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{DeviceError, Error};
use webweft::generate::{Event, FinishReason, GenerateOptions};
use webweft::managers::{CacheOptions, Concession, Dtype};
use webweft::session::{LoadOptions, Session};
use webweft::source::Source;
use webweft::tensor::CacheDtype;

use super::reference_llama::{Shape, Synthetic};
use super::{generate, rest};
use crate::common::{assert_close, here, report};

/// 1.2 MB at f32 in each of the layers, and 1.5 kB for each position.
fn model(layers: usize) -> Source {
    model_with(layers, 6)
}

fn model_with(layers: usize, heads: usize) -> Source {
    let shape = Shape {
        hidden: 192,
        ff: 256,
        layers,
        heads,
        kv_heads: heads,
        head_dim: 32,
        vocab: 300,
        tied: true,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, webweft::checkpoint::Dtype::F32, 7).source()
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 41 + 5) % 250).collect()
}

fn load(cache: Option<CacheDtype>, context: Option<u32>) -> LoadOptions {
    let cache = CacheOptions { dtype: cache, ..CacheOptions::default() };
    LoadOptions { dtype: Dtype::F32, cache, context, prefill_chunk: Some(32), ..LoadOptions::default() }
}

/// Room for many more than are taken.
fn options(most: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens: most, ..GenerateOptions::default() }
}

/// An adapter that has so much memory.
async fn adapter_of(bytes: Option<u64>) -> Device {
    Device::open(&DeviceOptions { adapter_memory: bytes, ..DeviceOptions::default() }).await.unwrap()
}

async fn open(device: &Device, source: &Source, load: &LoadOptions) -> Session {
    Session::open(device, source, load, |_| ()).await.unwrap()
}

/// The first `count` tokens.
async fn first(session: &mut Session, prompt: &[u32], options: GenerateOptions, count: usize) -> Vec<u32> {
    let mut generation = session.generate(prompt, options).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(generation.next().await.unwrap().expect("there is room for more"));
    }
    ids
}

/// What a model had at most once it was loaded, and once it had generated.
async fn peaks(source: &Source, load: &LoadOptions, most: usize) -> (u64, u64, Vec<u32>) {
    let device = adapter_of(None).await;
    let mut session = open(&device, source, load).await;
    let loaded = device.ledger().snapshot().peak_total;
    let ids = first(&mut session, &prompt(40), options(most), 16).await;
    (loaded, device.ledger().snapshot().peak_total, ids)
}

/// Where cache and context are set, layers leave: the tokens are the same to the bit, and so is what comes later.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn layers_leave_while_a_model_is_in_use() {
    let source = model(12);
    // browsers have more on its way while a model loads: so much that a short cache is no more
    let (context, most) = (here(1024, 2048), here(900, 1900));
    let load = load(Some(CacheDtype::F32), Some(context as u32));
    let (loaded, peak, want) = peaks(&source, &load, most).await;
    assert!(peak > loaded + (4 << 20), "{peak} after {loaded}");
    for percent in [50, 95].into_iter().take(here(2, 1)) {
        let memory = peak - (peak - loaded).min(10 << 20) * percent / 100;
        let device = adapter_of(Some(memory)).await;
        let mut session = open(&device, &source, &load).await;
        assert_eq!(session.found_budget(), None, "it fits, until it runs");
        assert_eq!(first(&mut session, &prompt(40), options(most), 16).await, want, "{percent} %");
        let given = session.engine().concessions().to_vec();
        assert!(given.iter().all(|c| matches!(c, Concession::Layers { .. })) && !given.is_empty(), "{given:?}");
        assert!(device.ledger().snapshot().peak_total <= memory);
        // what is there stays
        session.engine_mut().reset();
        assert_eq!(first(&mut session, &prompt(40), options(most), 16).await, want);
        assert_eq!(session.engine().concessions(), given);
        report(&format!("{memory} bytes in place of {peak}: {given:?}"));
        drop(session);
        assert_eq!(device.ledger().snapshot().total, 0);
    }
}

/// A whole forward pass gives up what costs time alone, though neither cache nor context is set: its values stay.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_whole_pass_gives_up_layers_alone() {
    let source = model_with(12, 24);
    // few steps: a layer that passes may take a browser 100 ms
    let load = LoadOptions { prefill_chunk: Some(128), ..load(None, None) };
    let ids = prompt(400);
    let whole = adapter_of(None).await;
    let mut session = open(&whole, &source, &load).await;
    let loaded = whole.ledger().snapshot().peak_total;
    let want = session.forward(&ids).await.unwrap();
    let peak = whole.ledger().snapshot().peak_total;
    drop(session);
    assert!(peak > loaded + (12 << 20), "{peak} after {loaded}");
    let device = adapter_of(Some(peak - (12 << 20))).await;
    let mut session = open(&device, &source, &load).await;
    for _ in 0..here(2, 1) {
        // where there is room for fewer positions, attention may add in another order
        let got = session.forward(&ids).await.unwrap();
        let want: Vec<f64> = want.logits.iter().map(|&v| f64::from(v)).collect();
        assert_close("logits", &got.logits, &want, 2e-5, 0.0);
    }
    let given = session.engine().concessions().to_vec();
    assert!(given.iter().all(|c| matches!(c, Concession::Layers { .. })) && !given.is_empty(), "{given:?}");
    report(&format!("{} bytes in place of {peak}: {given:?}", peak - (12 << 20)));
}

/// Where nothing is set, the cache has fewer bits first: the tokens are those of a model that was opened so.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn bits_of_the_cache_go_first() {
    let source = model(12);
    let (loaded, peak, _) = peaks(&source, &load(None, None), 1900).await;
    let device = adapter_of(Some(loaded + (peak - loaded) * 3 / 5)).await;
    let mut session = open(&device, &source, &load(None, None)).await;
    let got = first(&mut session, &prompt(40), options(1900), 16).await;
    let (f32, f16) = (CacheDtype::F32, CacheDtype::F16);
    assert_eq!(session.engine().concessions(), [Concession::Cache { from: f32, to: f16 }]);
    assert_eq!(session.precision().cache, f16);
    drop(session);
    let mut other = open(&adapter_of(None).await, &source, &load(Some(f16), None)).await;
    assert_eq!(got, first(&mut other, &prompt(40), options(1900), 16).await);
}

/// Then sequences end earlier, and say that their length ended them.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn sequences_end_earlier() {
    // few layers with many heads: a cache that grows fast, and is soon computed again
    let source = model_with(3, 24);
    let load = load(Some(CacheDtype::F32), None);
    let (loaded, peak, _) = peaks(&source, &load, 1900).await;
    let device = adapter_of(None).await;
    let mut session = open(&device, &source, &load).await;
    let prompt = prompt(400);
    let want = first(&mut session, &prompt, options(1500), 16).await;
    drop(session);
    let device = adapter_of(Some(loaded + (peak - loaded) / 10)).await;
    let mut session = open(&device, &source, &load).await;
    let mut generation = session.generate(&prompt, options(1500)).await.unwrap();
    let ids = rest(&mut generation).await;
    assert_eq!(generation.finish_reason(), Some(FinishReason::Length));
    drop(generation);
    assert_eq!(ids[..want.len()], want);
    let given = session.engine().concessions().to_vec();
    let Some(Concession::Context { to, .. }) = given.last() else { panic!("{given:?}") };
    report(&format!("{} tokens: {given:?}", ids.len()));
    assert_eq!(ids.len() + prompt.len(), *to as usize, "{given:?}");
}

/// What does not fit an adapter that says nothing of its memory is loaded into what it was found to give.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_budget_is_found() {
    let source = model(40);
    let load = load(Some(CacheDtype::F32), Some(256));
    let (loaded, _, want) = peaks(&source, &load, 200).await;
    for percent in [90, 60].into_iter().take(here(2, 1)) {
        let memory = loaded * percent / 100;
        let device = adapter_of(Some(memory)).await;
        let mut session = open(&device, &source, &load).await;
        let found = session.found_budget().expect("it does not fit");
        assert!(found <= memory, "{found} of {memory}");
        let offload = session.offload().expect("not all stay").clone();
        assert_eq!(first(&mut session, &prompt(40), options(200), 16).await, want);
        report(&format!("{memory} bytes: {found} found, {} of 40 layers stay", offload.resident));
    }
    // `auto` takes fewer bits before layers leave
    let auto = LoadOptions { dtype: Dtype::Auto, ..load.clone() };
    let device = adapter_of(Some(loaded * 7 / 10)).await;
    let session = open(&device, &source, &auto).await;
    assert!(session.precision().dtype != Dtype::F32 && session.offload().is_none(), "{:?}", session.recommendation());
    // nothing would do
    let device = adapter_of(Some(loaded / 20)).await;
    let error = Session::open(&device, &source, &load, |_| ()).await.unwrap_err();
    let short =
        |e: &Error| matches!(e, Error::Device(DeviceError::OutOfMemory { .. } | DeviceError::NothingFits { .. }));
    assert!(short(&error), "{error}");
    assert_eq!(device.ledger().snapshot().total, 0);
}

/// Where all is set, it is an error that says so, and what is smaller goes on working.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_is_set_is_not_given_up() {
    let source = model(12);
    let load = LoadOptions { gpu_layers: Some(12), ..load(Some(CacheDtype::F32), Some(2048)) };
    let (loaded, peak, _) = peaks(&source, &load, 1900).await;
    let (.., want) = peaks(&source, &load, 20).await;
    let device = adapter_of(Some(loaded + (peak - loaded) / 4)).await;
    let mut session = open(&device, &source, &load).await;
    let tried = async { session.generate(&prompt(40), options(1900)).await?.next().await }.await;
    let error = tried.err();
    assert!(matches!(error, Some(Error::Device(DeviceError::OutOfMemory { .. }))), "{error:?}");
    assert_eq!(session.engine().concessions(), []);
    assert_eq!(first(&mut session, &prompt(40), options(20), 16).await, want);
}

/// Fewer sequences at once lose nothing: that comes before all else.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn fewer_run_at_once() {
    let source = model(12);
    let load = load(Some(CacheDtype::F32), Some(512));
    let whole = adapter_of(None).await;
    let mut session = open(&whole, &source, &load).await;
    let prompts: Vec<Vec<u32>> = (0..here(6, 3)).map(|i| prompt(20 + 9 * i as u32)).collect();
    let mut want = Vec::new();
    for prompt in &prompts {
        session.engine_mut().reset();
        want.push(generate(&mut session, prompt, options(30)).await);
    }
    let alone = whole.ledger().snapshot().peak_total;
    drop(session);
    let device = adapter_of(Some(alone + (1 << 18))).await;
    let mut session = open(&device, &source, &load).await;
    let told = all(&mut session, &prompts, options(30)).await;
    let got = |at: usize| told.iter().filter(|(by, _)| *by == at).map(|(_, id)| *id).collect::<Vec<_>>();
    (0..prompts.len()).for_each(|at| assert_eq!(got(at), want[at]));
    assert_eq!(session.engine().concessions(), []);
    // later ones, which need less, run together again
    let short: Vec<Vec<u32>> = (3..6).map(prompt).collect();
    let order: Vec<usize> = all(&mut session, &short, options(12)).await.into_iter().map(|(at, _)| at).collect();
    let (last_begins, first_ends) = (order.iter().position(|at| *at == 2), order.iter().rposition(|at| *at == 0));
    assert!(last_begins < first_ends, "{order:?}");
}

/// Runs all of them to the end: which of them had which token, as they came.
async fn all(session: &mut Session, prompts: &[Vec<u32>], options: GenerateOptions) -> Vec<(usize, u32)> {
    let ids: Vec<_> = prompts.iter().map(|prompt| session.add(prompt.as_slice(), options.clone()).unwrap()).collect();
    let mut told = Vec::new();
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            return told;
        }
        for (id, event) in events {
            match event {
                Event::Piece(piece) => told.push((ids.iter().position(|known| *known == id).unwrap(), piece.id)),
                Event::Finished { .. } => {}
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}
