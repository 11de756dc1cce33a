//! Caches of every type, and what is dropped from them.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{Error, GenerateError};
use webweft::generate::{Event, GenerateOptions};
use webweft::managers::CacheOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::session::{LoadOptions, Session};
use webweft::tensor::CacheDtype;

use super::{F32, model, options};
use crate::common::{here, sample_of};
use crate::models::{generate, open, rest};

fn load(dtype: CacheDtype, chunk: u32, policy: CachePolicy) -> LoadOptions {
    LoadOptions { prefill_chunk: Some(chunk), cache: CacheOptions { dtype: Some(dtype), policy }, ..F32 }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % 300).collect()
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

/// How a prompt is cut, how far the GPU runs ahead and who runs beside makes no difference, for any type.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_type_gives_the_same_however_it_is_run() {
    let source = model().source();
    let (long, short, new) = (prompt(75), prompt(30), here(60, 24));
    for dtype in CacheDtype::ALL {
        let mut want: Option<Vec<u32>> = None;
        for &chunk in sample_of(1, &[40, 512, 7]) {
            let mut session = open(&source, &load(dtype, chunk, CachePolicy::Full)).await;
            let got = generate(&mut session, &long, options(new)).await;
            let want = want.get_or_insert_with(|| got.clone());
            assert_eq!(&got, want, "{dtype:?}, chunks of {chunk}");
            session.engine_mut().reset();
            let ahead = GenerateOptions { lookahead: 8, ..options(new) };
            assert_eq!(&generate(&mut session, &long, ahead).await, want, "{dtype:?}, lookahead 8");
            session.engine_mut().reset();
            let alone = generate(&mut session, &short, options(new)).await;
            session.engine_mut().reset();
            let got = together(&mut session, &[&short, &long, &long], new).await;
            assert_eq!(got, [alone, want.clone(), want.clone()], "{dtype:?}, three at once");
        }
    }
}

/// What the GPU computed beyond a stop is rolled back, across blocks that were quantized meanwhile: going on is as if it never was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_type_is_rolled_back() {
    let source = model().source();
    let (prompt, new) = (prompt(20), here(90, 50));
    for dtype in CacheDtype::ALL {
        let mut session = open(&source, &load(dtype, 512, CachePolicy::Full)).await;
        let whole = generate(&mut session, &prompt, options(new)).await;
        // tokens that end short of a block, at its end, and just after it, with the GPU blocks ahead
        for &(taken, lookahead) in sample_of(2, &[(12, 8), (13, 64), (7, 8), (11, 8), (40, 128), (44, 1)]) {
            session.engine_mut().reset();
            let ahead = GenerateOptions { lookahead, ..options(new) };
            let mut generation = session.generate(&prompt, ahead).await.unwrap();
            let mut got = Vec::new();
            for _ in 0..taken {
                got.push(generation.next().await.unwrap().unwrap());
            }
            drop(generation);
            let so_far = [&prompt[..], &got].concat();
            let mut generation = session.generate(&so_far, options(new - taken)).await.unwrap();
            let computed = generation.timing().prefill_tokens;
            assert!(computed <= 32, "{dtype:?}: {computed} tokens are computed again");
            got.extend(rest(&mut generation).await);
            drop(generation);
            assert_eq!(got, whole, "{dtype:?}, {taken} taken, lookahead {lookahead}");
        }
    }
}

/// Where blocks lie makes no difference: scattered by sequences that came and went, they give the ids and the log-probabilities
/// that those of a fresh cache give.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn scattered_blocks_give_the_same() {
    let source = model().source();
    let long = prompt(230);
    for &dtype in sample_of(1, &[CacheDtype::Q4, CacheDtype::F32, CacheDtype::Q8]) {
        let load = load(dtype, 40, CachePolicy::Full);
        let mut fresh = open(&source, &load).await;
        let want = generate(&mut fresh, &long, options(40)).await;
        let want_logprobs = logprobs(&mut fresh, &long).await;

        let mut session = open(&source, &load).await;
        // they grow by turns, and leave one after another
        let others: Vec<Vec<u32>> = (1..5).map(|i| prompt(60 + 7 * i).into_iter().rev().collect()).collect();
        let others: Vec<&[u32]> = others.iter().map(Vec::as_slice).collect();
        together(&mut session, &others, 90).await;
        session.engine_mut().reset();
        let beside = session.add(others[0], options(60)).unwrap();
        let id = session.add(long.as_slice(), options(40)).unwrap();
        let (mut got, mut table) = (Vec::new(), Vec::new());
        loop {
            let events = session.step().await.unwrap();
            if events.is_empty() {
                break;
            }
            table = session.engine().page_tables(id).next().map_or(table, <[u32]>::to_vec);
            for (who, event) in events {
                match event {
                    Event::Piece(piece) if who == id => got.push(piece.id),
                    Event::Piece(_) | Event::Finished { .. } => {}
                    Event::Failed(error) => panic!("{error}"),
                }
            }
        }
        let neighbours = table.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(table.len() >= 7 && !table.is_sorted(), "{dtype:?}: {beside:?} {table:?}");
        assert!(neighbours < table.len() / 2, "{dtype:?}: {table:?}");
        assert_eq!(got, want, "{dtype:?}");
        assert_eq!(logprobs(&mut session, &long).await, want_logprobs, "{dtype:?}, among blocks that lie so");
    }
}

/// The log-probabilities of all tokens after a prompt, some steps long.
async fn logprobs(session: &mut Session, prompt: &[u32]) -> Vec<Vec<(u32, f32)>> {
    let every = GenerateOptions { logprobs: Some(300), ..options(3) };
    let mut generation = session.generate(prompt, every).await.unwrap();
    let mut all = Vec::new();
    while generation.next().await.unwrap().is_some() {
        all.push(generation.logprobs().unwrap().top.clone());
    }
    all
}

/// A window of the cache: as long as nothing is dropped, keys that are rotated as they are read give what rotated ones do; after that
/// it runs on for ever, alone as in a batch, in chunks of any size.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_window_drops_the_oldest() {
    let source = model().source();
    let window = CachePolicy::from_name("window:160").unwrap();
    let mut full = open(&source, &load(CacheDtype::F32, 512, CachePolicy::Full)).await;
    let before = generate(&mut full, &prompt(40), options(100)).await;
    let (new, again, beside) = (here(700, 200), here(400, 200), here(300, 60));
    for &dtype in sample_of(1, &[CacheDtype::Q8, CacheDtype::F32]) {
        let mut session = open(&source, &load(dtype, 32, window)).await;
        let long = generate(&mut session, &prompt(40), options(new)).await;
        assert_eq!(long.len(), new);
        if dtype == CacheDtype::F32 {
            assert_eq!(long[..100], before);
        }
        for &lookahead in sample_of(1, &[33, 1]) {
            session.engine_mut().reset();
            let options = GenerateOptions { lookahead, ..options(again) };
            assert_eq!(generate(&mut session, &prompt(40), options).await, long[..again], "{dtype:?} {lookahead}");
        }
        session.engine_mut().reset();
        // a prompt that is longer than the window, beside one that is not
        let both = together(&mut session, &[&prompt(40), &prompt(500)], beside).await;
        assert_eq!(both[0], long[..beside], "{dtype:?}");
        assert_eq!(both[1].len(), beside);
        assert_eq!(generate(&mut session, &prompt(500), options(beside)).await, both[1], "{dtype:?}");
    }
    for (name, policy) in [("window:64", None), ("window:", None), ("half", None), ("full", Some(CachePolicy::Full))] {
        assert_eq!(CachePolicy::from_name(name), policy, "{name}");
    }
}

/// What processors know of a text is as long as the text, and not as the window: also where a longer one joins a shorter one.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn processors_remember_what_a_window_dropped() {
    let window = CachePolicy::from_name("window:160").unwrap();
    let mut session = open(&model().source(), &load(CacheDtype::F32, 32, window)).await;
    let of = |new| GenerateOptions { no_repeat_ngram_size: 2, repetition_penalty: 1.1, ..options(new) };
    let texts = [(20, here(60, 20)), (40, here(400, 150)), (30, here(300, 30))];
    let mut want = Vec::new();
    for (length, new) in texts {
        session.engine_mut().reset();
        want.push(generate(&mut session, &prompt(length), GenerateOptions { lookahead: 0, ..of(new) }).await);
    }
    let grams: std::collections::HashSet<_> = want[1].windows(2).collect();
    assert_eq!(grams.len(), texts[1].1 - 1, "no pair comes twice, however long ago it came");
    session.engine_mut().reset();
    let ids = texts.map(|(length, new)| session.add(prompt(length).as_slice(), of(new)).unwrap());
    let mut got = vec![Vec::new(); 3];
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            break;
        }
        for (id, event) in events {
            match event {
                Event::Piece(piece) => got[ids.iter().position(|known| *known == id).unwrap()].push(piece.id),
                Event::Finished { .. } => {}
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(got, want);
}

/// Models whose positions are learned have none to give to what moves up.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_window_that_cannot_be_is_refused() {
    let policy = CachePolicy::from_name("window:1000000").unwrap();
    let device = crate::common::device().await;
    let load = LoadOptions { cache: CacheOptions { dtype: None, policy }, ..F32 };
    let error = Session::open(&device, &model().source(), &load, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Setting { name: "cache_policy", .. })), "{error}");
}
