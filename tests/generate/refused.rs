//! The GPU runs out of memory at every place where something is allocated: that is told, and nothing is wrong or kept because of it.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{DeviceError, Error};
use webweft::generate::{Event, GenerateOptions};
use webweft::managers::{CacheOptions, Dtype};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};
use webweft::tensor::CacheDtype;

use crate::common::{here, is_long, report, sample_of};
use crate::models::reference_llama::{Shape, Synthetic};

fn source() -> Source {
    let shape = Shape {
        hidden: 48,
        ff: 80,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 12,
        vocab: 300,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, Stored::F32, 11).source()
}

fn load() -> LoadOptions {
    // what is set is not given up: whatever is refused, the tokens are the same
    let cache = CacheOptions { dtype: Some(CacheDtype::F32), ..CacheOptions::default() };
    LoadOptions { dtype: Dtype::F32, context: Some(512), prefill_chunk: Some(32), cache, ..LoadOptions::default() }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % 300).collect()
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, ..GenerateOptions::default() }
}

type Ids = Vec<Vec<u32>>;

async fn ids_of(session: &mut Session, prompt: &[u32], options: GenerateOptions) -> Result<Vec<u32>, Error> {
    let mut generation = session.generate(prompt, options).await?;
    let mut ids = Vec::new();
    while let Some(id) = generation.next().await? {
        ids.push(id);
    }
    Ok(ids)
}

/// A prompt of several chunks and blocks, then one that begins as it does, sampled on the host; both outgrow the room of the first.
async fn single(session: &mut Session) -> Result<Ids, Error> {
    let first = ids_of(session, &prompt(70), greedy(8)).await?;
    let on_host = ids_of(session, &prompt(75), GenerateOptions { lookahead: 0, ..greedy(3) }).await?;
    Ok(vec![first, on_host, ids_of(session, &prompt(150), greedy(4)).await?])
}

/// Three at once, two of them with processors that run on the GPU. An allocation that is refused may end one of them or all.
async fn batch(session: &mut Session) -> Result<Ids, Error> {
    let with = |penalty: f32, ngrams: u32| GenerateOptions {
        repetition_penalty: penalty,
        no_repeat_ngram_size: ngrams,
        ..greedy(8)
    };
    let texts = [(prompt(40), with(1.0, 0)), (prompt(70), with(1.3, 0)), (prompt(20), with(1.1, 2))];
    let texts = texts.map(|(prompt, options)| session.add(prompt.as_slice(), options));
    let texts: Vec<_> = texts.into_iter().collect::<Result<_, _>>()?;
    let mut ids = vec![Vec::new(); texts.len()];
    let mut failed = None;
    while failed.is_none() {
        let events = match session.step().await {
            Ok(events) if events.is_empty() => break,
            Ok(events) => events,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        for (id, event) in events {
            match event {
                Event::Piece(piece) => ids[texts.iter().position(|known| *known == id).unwrap()].push(piece.id),
                Event::Finished { .. } => {}
                Event::Failed(error) => failed = Some(error),
            }
        }
    }
    texts.into_iter().for_each(|id| session.remove(id));
    failed.map_or(Ok(ids), Err)
}

/// What the cache holds, saved, forgotten and put back.
async fn saved(session: &mut Session) -> Result<Ids, Error> {
    let first = ids_of(session, &prompt(70), greedy(4)).await?;
    let all = [prompt(70), first.clone()].concat();
    let mut file = Vec::new();
    let mut saved = session.save_cache(&all).await?;
    while let Some(bytes) = saved.next().await? {
        file.extend(bytes);
    }
    drop(saved);
    session.engine_mut().reset();
    let mut memory = Memory::new();
    memory.insert("cache", file).unwrap();
    session.restore_cache(&Source::Memory(memory), "cache").await?;
    Ok(vec![first, ids_of(session, &all, greedy(4)).await?])
}

/// All values of a whole forward pass, which nothing may change; in several chunks, with a cache that grows.
async fn whole(session: &mut Session) -> Result<Ids, Error> {
    let short = session.forward(&prompt(20)).await?;
    let long = session.forward(&prompt(70)).await?;
    Ok([short.logits, long.logits].map(|logits| logits.into_iter().map(f32::to_bits).collect()).to_vec())
}

fn check_typed(what: &str, error: &Error) {
    let is_typed = matches!(error, Error::Device(DeviceError::OutOfMemory { label, .. }) if !label.is_empty());
    assert!(is_typed, "{what}: {error}");
}

/// Refuses `width` allocations from each number on, until there are no more, and looks at what happens: in loading, in `work`, and in doing
/// both again.
async fn refuse_each(
    name: &str,
    load: &LoadOptions,
    width: u64,
    step: usize,
    work: impl AsyncFn(&mut Session) -> Result<Ids, Error>,
) {
    let source = source();
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let mut session = Session::open(&device, &source, load, |_| ()).await.unwrap();
    let want = work(&mut session).await.unwrap();
    let all = device.allocations();
    assert!(want.iter().all(|ids| ids.len() > 2), "{want:?}");
    drop(session);
    let (mut loads, mut errors, mut recovered) = (0, 0, 0);
    for from in (0..all).step_by(step) {
        let what = format!("{name}, from allocation {from} of {all}");
        let before = device.allocations();
        device.refuse_allocations(from..from + width);
        let mut session = loop {
            match Session::open(&device, &source, load, |_| ()).await {
                Ok(session) => break session,
                Err(error) => {
                    check_typed(&what, &error);
                    assert_eq!(device.ledger().snapshot().total, 0, "{what}: after it could not be loaded");
                    loads += 1;
                }
            }
        };
        let told = loads + errors;
        // however often it takes until the allocations succeed again
        loop {
            let may_fail = device.allocations() < before + from + width;
            match work(&mut session).await {
                Ok(ids) => {
                    assert_eq!(ids, want, "{what}");
                    recovered += u64::from(may_fail && device.allocations() > before + from && loads + errors == told);
                    break;
                }
                Err(error) => {
                    assert!(may_fail, "{what}: {error}");
                    check_typed(&what, &error);
                    errors += 1;
                }
            }
        }
        // how many there are depends on how fast steps are, a little: the last ones may not have come
        device.refuse_allocations(0..0);
        assert_eq!(work(&mut session).await.unwrap(), want, "{what}: once more");
        drop(session);
        assert_eq!(device.ledger().leaks(), [], "{what}");
        assert_eq!(device.ledger().snapshot().total, 0, "{what}");
    }
    report(&format!(
        "{name}, {width} of {all} allocations refused: {loads} loads and {errors} generations were told, {recovered} recovered"
    ));
    assert!(loads > 0 && errors + recovered > 0, "{name}");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn one_text() {
    // what is tried again fails, too, where several are refused
    for &(width, step) in sample_of(1, &[(1, here(1, 23)), (3, 3)]) {
        refuse_each("single", &load(), width, step, single).await;
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn several_texts_with_processors() {
    for &(width, step) in sample_of(1, &[(1, here(1, 41)), (3, 3)]) {
        refuse_each("batch", &load(), width, step, batch).await;
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_cache_that_is_saved_and_restored() {
    refuse_each("saved", &load(), 1, here(1, 29), saved).await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_whole_forward_pass() {
    refuse_each("forward", &load(), 1, here(1, 31), whole).await;
    // more than beginning anew can mend
    refuse_each("forward", &load(), 2, here(5, 61), whole).await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_cache_in_4_bits() {
    let cache = CacheOptions { dtype: Some(CacheDtype::Q4), ..CacheOptions::default() };
    let load = LoadOptions { cache, warm_up: true, ..load() };
    refuse_each("q4 cache, single", &load, 1, here(1, 37), single).await;
    refuse_each("q4 cache, batch", &load, 1, here(2, 53), batch).await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn layers_that_do_not_stay() {
    let load = LoadOptions { gpu_layers: Some(1), ..load() };
    // there are many: what is on its way is an allocation, too
    let each = |step| if is_long() { 1 } else { step };
    refuse_each("layers, single", &load, 1, each(here(7, 149)), single).await;
    refuse_each("layers, batch", &load, 1, each(here(11, 113)), batch).await;
}
