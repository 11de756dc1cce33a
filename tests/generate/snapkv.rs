//! What is kept of long prompts: against a model in scalars, however it is run, for caches of every type.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::error::{Error, GenerateError};
use webweft::generate::{Event, GenerateOptions};
use webweft::managers::CacheOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::reference;
use webweft::session::{LoadOptions, Session};
use webweft::tensor::CacheDtype;

use super::{F32, model, options};
use crate::common::{here, sample_of};
#[cfg(not(target_arch = "wasm32"))]
use crate::models::negative_log_likelihood;
use crate::models::{assert_close, generate, open, rest};

/// Positions that are kept, and the last rows, which say what is.
const KEPT: usize = 128;
const OBSERVED: usize = 32;

fn load(dtype: CacheDtype, chunk: u32) -> LoadOptions {
    let policy = CachePolicy::from_name("snapkv:128").unwrap();
    LoadOptions { prefill_chunk: Some(chunk), cache: CacheOptions { dtype: Some(dtype), policy }, ..F32 }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * i * 7 + i * 37 + 11) % 300).collect()
}

/// What each of several prompts gives, all at once.
async fn together(session: &mut Session, prompts: &[&[u32]], new: usize) -> Vec<Vec<u32>> {
    let ids: Vec<_> = prompts.iter().map(|prompt| session.add(*prompt, options(new)).unwrap()).collect();
    let mut got = vec![Vec::new(); ids.len()];
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            return got;
        }
        for (id, event) in events {
            match event {
                Event::Piece(piece) => got[ids.iter().position(|known| *known == id).unwrap()].push(piece.id),
                Event::Finished { .. } => {}
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}

/// Attention of `prompt` rows to all before them, of later ones to what is kept of those and to each other.
fn snap(prompt: usize, q: &[f32], k: &[f32], v: &[f32], sizes: [usize; 3], scale: f32) -> Vec<f64> {
    let [h, kv_heads, e] = sizes;
    let (caps, row) = ([scale, 0.0], kv_heads * e);
    let mut y = reference::attention(&q[..prompt * h * e], k, v, sizes, 0, caps, 0);
    let observed = &q[(prompt - OBSERVED) * h * e..prompt * h * e];
    let sums = reference::observe(observed, &k[..prompt * row], sizes, caps);
    let sums: Vec<f32> = sums.iter().map(|&v| v as f32).collect();
    let of_head = |sums: &[f32]| reference::select_keys(sums, KEPT - OBSERVED);
    let chosen: Vec<u32> = sums.chunks_exact(prompt - OBSERVED).flat_map(of_head).collect();
    let [k, v] = [k, v].map(|all| {
        let kept = reference::gather_cache(&all[..prompt * row], [kv_heads, e], &chosen, KEPT);
        [&kept, &all[prompt * row..]].concat()
    });
    y.extend(reference::attention(&q[prompt * h * e..], &k, &v, sizes, KEPT, caps, 0));
    y
}

/// Logits that the host sees, and the tokens that it chooses.
async fn logits(session: &mut Session, prompt: &[u32], new: usize) -> (Vec<u32>, Vec<f32>) {
    let on_host = GenerateOptions { lookahead: 0, ..options(new) };
    let mut generation = session.generate(prompt, on_host).await.unwrap();
    let (mut ids, mut all) = (Vec::new(), Vec::new());
    while let Some(id) = generation.next_with(|_, logits| all.extend_from_slice(logits)).await.unwrap() {
        ids.push(id);
    }
    (ids, all)
}

/// What follows a prompt that is longer than what is kept is what the model in scalars makes of what that keeps, and not what it makes
/// of all.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn agrees_with_the_scalar_model() {
    let model = model();
    for (length, chunk) in [(240, 512), (161, 50)] {
        let prompt = prompt(length);
        let mut session = open(&model.source(), &load(CacheDtype::F32, chunk)).await;
        let (ids, got) = logits(&mut session, &prompt, 6).await;
        let all = [&prompt[..], &ids[..5]].concat();
        let of = |logits: Vec<f32>| logits[(prompt.len() - 1) * 300..].to_vec();
        let want = of(model.forward_with(&all, |q, k, v, sizes, scale| snap(prompt.len(), q, k, v, sizes, scale)).1);
        assert_close(&format!("{length} tokens"), &got, &want, 2e-4, 1e-4);
        let full = of(model.forward(&all).1);
        assert_close("the first token sees all", &got[..300], &full[..300], 2e-4, 1e-4);
        let apart = got[300..].iter().zip(&full[300..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart > 0.02, "later ones do not: {apart}");
        // the model that sees all, on the same device
        let forward = session.forward(&all).await.unwrap().logits;
        assert_close("forward sees all", &of(forward), &full, 2e-4, 1e-4);
        let after = session.forward_after_prompt(&all, prompt.len()).await.unwrap();
        assert_close("what follows a prompt does not", &of(after.logits), &want, 2e-4, 1e-4);
    }
}

/// Prompts of which all is kept: nothing is different.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn short_prompts_are_left_alone() {
    let source = model().source();
    let mut full = open(&source, &F32).await;
    let mut session = open(&source, &load(CacheDtype::F32, 40)).await;
    for length in [5, 100, KEPT as u32] {
        let want = generate(&mut full, &prompt(length), options(60)).await;
        assert_eq!(generate(&mut session, &prompt(length), options(60)).await, want, "{length} tokens");
    }
    for (name, policy) in [("snapkv:127", None), ("snapkv:", None), ("snap:512", None), ("snapkv", None)] {
        assert_eq!(CachePolicy::from_name(name), policy, "{name}");
    }
    assert_eq!(CachePolicy::from_name("snapkv:500").unwrap().name(), "snapkv:512");
}

/// How a prompt is cut, how far the GPU runs ahead, who runs beside, what was there before and where it is taken up again makes no
/// difference, for any type.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_type_gives_the_same_however_it_is_run() {
    let source = model().source();
    let (long, short, new) = (prompt(215), prompt(30), here(40, 12));
    for dtype in CacheDtype::ALL {
        let mut want: Option<Vec<u32>> = None;
        for &chunk in sample_of(1, &[40, 512, 7]) {
            let mut session = open(&source, &load(dtype, chunk)).await;
            let got = generate(&mut session, &long, options(new)).await;
            let want = want.get_or_insert_with(|| got.clone());
            assert_eq!(&got, want, "{dtype:?}, chunks of {chunk}");
            if chunk != 40 {
                continue;
            }
            // the prompt is found again, all but the rows that say what is kept, and in few bits what shares a block with them
            assert_eq!(session.engine().cached(), long, "{dtype:?}");
            let computed = if dtype.bits().is_some() { 55 } else { OBSERVED };
            let ahead = GenerateOptions { lookahead: 8, ..options(new) };
            let mut generation = session.generate(&long, ahead).await.unwrap();
            assert_eq!(generation.timing().prefill_tokens, computed, "{dtype:?}");
            let mut got = Vec::new();
            for _ in 0..9 {
                got.push(generation.next().await.unwrap().unwrap());
            }
            drop(generation);
            assert_eq!(got, want[..9], "{dtype:?}, lookahead 8");
            session.engine_mut().reset();
            // as on a device that was lost: what it was given is computed by what is kept of the prompt
            let mut again = session.engine_mut().resume(&long, &want[..9], options(new)).await.unwrap();
            assert_eq!(rest(&mut again).await, want[9..], "{dtype:?}, taken up again, chunks of {chunk}");
            drop(again);
            session.engine_mut().reset();
            let alone = generate(&mut session, &short, options(new)).await;
            session.engine_mut().reset();
            let got = together(&mut session, &[&short, &long, &long, &prompt(129)], new).await;
            assert_eq!(got[..3], [alone, want.clone(), want.clone()], "{dtype:?}, four at once, chunks of {chunk}");
        }
    }
}

/// A conversation goes on: its next prompt finds the one before, and is selected from anew; what came of a selection is not found.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_next_turn_begins_with_the_prompt() {
    let source = model().source();
    for dtype in [CacheDtype::F32, CacheDtype::Q8] {
        let mut session = open(&source, &load(dtype, 64)).await;
        let first = prompt(200);
        let answer = generate(&mut session, &first, options(40)).await;
        let second = [&first[..], &answer, &prompt(35)].concat();
        let mut generation = session.generate(&second, options(40)).await.unwrap();
        assert_eq!(generation.timing().prefill_tokens, 75, "{dtype:?}: the prompt is found, the answer is not");
        let got = rest(&mut generation).await;
        drop(generation);
        session.engine_mut().reset();
        assert_eq!(generate(&mut session, &second, options(40)).await, got, "{dtype:?}");
    }
}

/// A cache that does not hold all at once: who came last waits, or gives way, and is selected from again; the blocks of prompts come
/// back.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_full_cache_makes_some_wait() {
    let limit = 16 << 20;
    let own = Device::open(&DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() }).await.unwrap();
    let mut session = Session::open(&own, &model().source(), &load(CacheDtype::F32, 48), |_| ()).await.unwrap();
    let (long, new) = (prompt(400), here(100, 30));
    let want = generate(&mut session, &long, options(new)).await;
    session.engine_mut().reset();
    // 384 bytes a position: what is left does not hold a cache of twice the size
    let ballast = limit - own.ledger().snapshot().total - (300 << 10);
    let _ballast = own.storage("ballast", Category::Staging, ballast).unwrap();
    let got = together(&mut session, &[&long, &prompt(390), &long, &prompt(380), &long], new).await;
    for i in [0, 2, 4] {
        assert_eq!(got[i], want, "sequence {i}");
    }
    assert_eq!((got[1].len(), got[3].len()), (new, new));
    // far more prompts, one after the other, than there are blocks
    for i in 0..4 {
        let mut other = prompt(400 + i);
        other.reverse();
        assert_eq!(generate(&mut session, &other, options(20)).await.len(), 20);
    }
    assert_eq!(generate(&mut session, &long, options(new)).await, want);
}

/// Layers that see a window only hold no more than that anyway, and where a query's window ends in what is kept nobody can say.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn sliding_windows_are_refused() {
    let mut model = model();
    model.config["model_type"] = "mistral".into();
    model.config["sliding_window"] = 64.into();
    let device = crate::common::device().await;
    let opened = Session::open(&device, &model.source(), &load(CacheDtype::F32, 64), |_| ()).await;
    let error = opened.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Setting { name: "cache_policy", .. })), "{error}");
    let plain = LoadOptions { cache: CacheOptions::default(), ..load(CacheDtype::F32, 64) };
    assert!(Session::open(&device, &model.source(), &plain, |_| ()).await.is_ok(), "else they are welcome");
}

/// The built-in model goes on with three stories of its own: 128 of 300 positions that their end attends to serve it nearly as all do, and
/// better than the first and the last ones.
#[cfg(not(target_arch = "wasm32"))]
#[pollster::test]
async fn what_is_kept_serves_a_trained_model() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories");
    let source = webweft::source::Source::Folder(webweft::source::Folder::open(folder).unwrap());
    let mut full = open(&source, &F32).await;
    let start = full.encode("Once upon a time").unwrap();
    let mut texts = Vec::new();
    for seed in 0..3 {
        let sampled = GenerateOptions { temperature: 1.0, seed, eos_token_id: Vec::new(), ..options(380) };
        texts.push([&start[..], &generate(&mut full, &start, sampled).await].concat());
    }
    let vocab = full.engine().vocab_size() as usize;
    let mut costs = Vec::new();
    for name in ["full", "snapkv:128", "window:128"] {
        let policy = CachePolicy::from_name(name).unwrap();
        let mut session = open(&source, &LoadOptions { cache: CacheOptions { dtype: None, policy }, ..F32 }).await;
        let (mut sum, mut count) = (0.0, 0);
        for text in &texts {
            let logits = session.forward_after_prompt(text, 300).await.unwrap().logits;
            sum += negative_log_likelihood(&logits, vocab, text, 299);
            count += text.len() - 300;
        }
        costs.push(sum / f64::from(count as u32));
    }
    let [all, snapkv, window] = costs[..] else { panic!("three policies") };
    let [snapkv, window] = [snapkv, window].map(|cost| (cost - all).exp());
    crate::common::report(&format!("of the perplexity with all: snapkv:128 {snapkv:.4}, window:128 {window:.4}"));
    assert!(snapkv < 1.15 && snapkv < window, "snapkv {snapkv}, window {window}");
}
