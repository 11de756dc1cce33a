//! Speculative decoding: the tokens are those of plain decoding, in fewer steps.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{Error, GenerateError};
use webweft::generate::{FinishReason, GenerateOptions, Timing};
use webweft::managers::blocks::CachePolicy;
use webweft::managers::{CacheOptions, Dtype};
use webweft::session::{LoadOptions, Session};
use webweft::tensor::CacheDtype;

use super::batch::{assert_same, run};
use super::{F32, model, options};
use crate::common::{here, report, sample_of};
use crate::models::fixtures::folders;
use crate::models::{Expected, generate, open, rest, shared_source};

/// A text that says the same again, and one that does not.
fn prompts() -> [Vec<u32>; 2] {
    let sentence: Vec<u32> = (0..13).map(|i| (i * 37 + 11) % 300).collect();
    let plain = (0..21).map(|i| (i * 61 + i * i + 5) % 300).collect();
    [[&sentence[..], &[7], &sentence, &[8], &sentence[..5]].concat(), plain]
}

fn guessing(options: &GenerateOptions, drafts: u32, ngram: u32) -> GenerateOptions {
    let (prompt_lookup_num_tokens, max_matching_ngram_size) = (drafts, ngram);
    GenerateOptions { prompt_lookup_num_tokens, max_matching_ngram_size, ..options.clone() }
}

/// Greedy, and drawn from distributions of several kinds.
fn settings(max_new_tokens: usize) -> Vec<GenerateOptions> {
    let new = options(max_new_tokens);
    let drawn = |temperature, seed| GenerateOptions { temperature, seed, ..new.clone() };
    vec![
        new.clone(),
        drawn(0.2, 1),
        GenerateOptions { top_k: 50, top_p: 0.95, ..drawn(0.9, 42) },
        GenerateOptions { min_p: 0.05, ..drawn(0.4, 7) },
        // what the tokens so far have to say goes for drafts, too
        GenerateOptions { frequency_penalty: 0.05, no_repeat_ngram_size: 9, ..new.clone() },
        GenerateOptions {
            repetition_penalty: 1.02,
            sequence_bias: vec![(vec![48, 85], 1.0), (vec![11, 48, 85], -0.5)],
            eos_token_id: vec![7],
            min_new_tokens: max_new_tokens,
            ..drawn(0.2, 3)
        },
    ]
}

/// From an empty cache.
async fn speculate(session: &mut Session, prompt: &[u32], options: GenerateOptions) -> (Vec<u32>, Timing) {
    session.engine_mut().reset();
    let mut generation = session.generate(prompt, options).await.unwrap();
    let ids = rest(&mut generation).await;
    (ids, generation.timing())
}

/// As many drafts as there may be, n-grams of several sizes, however far the GPU is ahead.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn drafts_change_nothing() {
    let mut session = open(&model().source(), &F32).await;
    let (mut drafted, mut accepted) = (0, 0);
    for prompt in prompts() {
        for plain in settings(here(150, 60)) {
            session.engine_mut().reset();
            let want = generate(&mut session, &prompt, plain.clone()).await;
            for &(drafts, ngram, lookahead) in
                sample_of(2, &[(3, 2, 32), (7, 3, 8), (1, 1, 1), (31, 2, 64), (10, 32, 3)])
            {
                let options = GenerateOptions { lookahead, ..guessing(&plain, drafts, ngram) };
                let (got, timing) = speculate(&mut session, &prompt, options.clone()).await;
                let name = format!("{drafts} drafts after {ngram}-grams, lookahead {lookahead}, {plain:?}");
                assert_same(&mut session, &name, &prompt, &got, &want, &plain).await;
                assert!(timing.accepted <= timing.drafted && timing.accepted < got.len(), "{name}: {timing:?}");
                drafted += timing.drafted;
                accepted += timing.accepted;
            }
        }
    }
    report(&format!("{accepted} of {drafted} drafts accepted"));
    assert!(0 < accepted && accepted < drafted, "{accepted} of {drafted} drafts accepted");
}

/// Every architecture: grouped heads, sliding windows that the text outgrows, learned positions, frequencies that change.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn drafts_change_nothing_in_any_model() {
    for folder in sample_of(6, &folders().await) {
        let source = shared_source(folder).await.unwrap();
        let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        let ids = Expected::of(folder).await.ids("input_ids");
        let prompt = [&ids[..], &ids].concat();
        let room = session.engine().context() - prompt.len();
        let mut timings = Vec::new();
        for plain in &settings(room.min(here(100, 40)))[..2] {
            session.engine_mut().reset();
            let want = generate(&mut session, &prompt, plain.clone()).await;
            let (got, timing) = speculate(&mut session, &prompt, guessing(plain, 5, 2)).await;
            assert_same(&mut session, folder, &prompt, &got, &want, plain).await;
            timings.push((timing.drafted, timing.accepted));
        }
        report(&format!("{folder}: {timings:?} drafted and accepted"));
        assert!(timings.iter().any(|timing| timing.0 > 0), "{folder} drafted nothing");
    }
}

/// Blocks of the cache that are in few bits once they are full: a draft that fills one is taken back.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn drafts_are_taken_back_from_full_blocks() {
    for &dtype in sample_of(1, &[CacheDtype::Q4, CacheDtype::Q8]) {
        let cache = CacheOptions { dtype: Some(dtype), policy: CachePolicy::Full };
        let mut session = open(&model().source(), &LoadOptions { cache, ..F32 }).await;
        let (mut drafted, mut accepted) = (0, 0);
        for prompt in prompts() {
            for plain in &settings(here(200, 80))[..2] {
                session.engine_mut().reset();
                let want = generate(&mut session, &prompt, plain.clone()).await;
                for &lookahead in sample_of(1, &[128, 2]) {
                    let options = GenerateOptions { lookahead, ..guessing(plain, 10, 2) };
                    let (got, timing) = speculate(&mut session, &prompt, options).await;
                    // rounding may decide, and a whole pass reads other bits: so to the letter
                    assert_eq!(got, want, "{dtype:?}, {plain:?}");
                    drafted += timing.drafted;
                    accepted += timing.accepted;
                }
            }
        }
        assert!(0 < accepted && accepted < drafted, "{dtype:?}: {accepted} of {drafted} drafts accepted");
    }
}

/// Where it ends is where plain decoding does: at end tokens and limits that lie within drafts. What comes after an abandoned one goes on
/// from what was given out.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn ends_and_goes_on_within_drafts() {
    let mut session = open(&model().source(), &F32).await;
    let [prompt, _] = prompts();
    let plain = options(80);
    let whole = generate(&mut session, &prompt, plain.clone()).await;
    let fast = guessing(&plain, 6, 2);
    for &end in sample_of(3, &[79, 40, 61, 62, 63, 64, 65, 1, 2]) {
        let (got, _) = speculate(&mut session, &prompt, GenerateOptions { max_new_tokens: end, ..fast.clone() }).await;
        assert_eq!(got, whole[..end], "a limit of {end}");
        let eos = whole[end - 1];
        let first = whole.iter().position(|&id| id == eos).unwrap();
        let (got, _) =
            speculate(&mut session, &prompt, GenerateOptions { eos_token_id: vec![eos], ..fast.clone() }).await;
        assert_eq!(got, whole[..=first], "{eos} ends it");
    }

    for &taken in sample_of(2, &[50, 7, 31, 66]) {
        session.engine_mut().reset();
        let mut generation = session.generate(&prompt, fast.clone()).await.unwrap();
        let mut ids = Vec::new();
        for _ in 0..taken {
            ids.push(generation.next().await.unwrap().unwrap());
        }
        drop(generation); // the GPU is ahead
        assert_eq!(ids, whole[..taken]);
        let so_far = [&prompt[..], &ids].concat();
        assert_eq!(session.engine().cached(), &so_far[..so_far.len() - 1], "the last token was never fed");
        let options = GenerateOptions { max_new_tokens: 80 - taken, ..fast.clone() };
        let mut generation = session.generate(&so_far, options).await.unwrap();
        assert_eq!(generation.timing().prefill_tokens, 1, "the cache is used again");
        assert_eq!(rest(&mut generation).await, whole[taken..], "after {taken}");
        drop(generation);
        session.engine_mut().reset();
        let mut resumed = session.engine_mut().resume(&prompt, &ids, fast.clone()).await.unwrap();
        let mut all = ids.clone();
        all.extend(rest(&mut resumed).await);
        // what was given out before comes no more
        assert_eq!(all[taken..], whole[taken..], "resumed after {taken}");
    }
}

/// Sequences that guess, that do not, and that change their logits, join and leave: each gives what it gives alone.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn sequences_guess_beside_others() {
    let mut session = open(&model().source(), &LoadOptions { prefill_chunk: Some(24), ..F32 }).await;
    let of = |i: usize| {
        let plain = settings(30 + 17 * (i % 4)).swap_remove(i % 6);
        let options = match i % 5 {
            0 => plain.clone(),
            4 => GenerateOptions { repetition_penalty: 1.2, max_new_tokens: 15, ..plain.clone() },
            n => guessing(&plain, 2 * n as u32, 1 + (i % 3) as u32),
        };
        let prompt = [&prompts()[i % 2][..], &[i as u32]].concat();
        (prompt, options)
    };
    let mut want = Vec::new();
    for i in 0..here(10, 6) {
        let (prompt, options) = of(i);
        session.engine_mut().reset();
        want.push(generate(&mut session, &prompt, guessing(&options, 0, 2)).await);
    }
    session.engine_mut().reset();
    let first = here(5, 4);
    let mut ids: Vec<_> = (0..first).map(|i| session.add(of(i).0.as_slice(), of(i).1).unwrap()).collect();
    let begun = ids[0];
    let mut later = Vec::new();
    let got = run(&mut session, |session, id, count| {
        if id == begun && count == 9 {
            later.extend((first..want.len()).map(|i| session.add(of(i).0.as_slice(), of(i).1).unwrap()));
        }
    })
    .await;
    ids.extend(later);
    for (i, id) in ids.iter().enumerate() {
        let (prompt, options) = of(i);
        assert_same(&mut session, &format!("sequence {i}"), &prompt, &got[id].ids, &want[i], &options).await;
        assert_eq!(got[id].finish, Some(FinishReason::Length));
    }
}

/// What does not go together is named.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_cannot_guess_says_so() {
    let named = |error: Error, wanted: &str| {
        let Error::Generate(GenerateError::Setting { name, .. }) = error else { panic!("{error:?}") };
        assert_eq!(name, wanted);
    };
    let mut session = open(&model().source(), &F32).await;
    let fast = guessing(&options(5), 4, 2);
    for (options, wanted) in [
        (GenerateOptions { lookahead: 0, ..fast.clone() }, "prompt_lookup_num_tokens"),
        (GenerateOptions { logprobs: Some(2), ..fast.clone() }, "prompt_lookup_num_tokens"),
        (guessing(&fast, 32, 2), "prompt_lookup_num_tokens"),
        (guessing(&fast, 4, 0), "max_matching_ngram_size"),
        (guessing(&fast, 4, 33), "max_matching_ngram_size"),
    ] {
        named(session.generate(&[1, 2], options).await.unwrap_err(), wanted);
    }
    let cache = CacheOptions { dtype: None, policy: CachePolicy::Window { sinks: 1, blocks: 4 } };
    let mut session = open(&model().source(), &LoadOptions { cache, ..F32 }).await;
    named(session.generate(&[1, 2], fast).await.unwrap_err(), "prompt_lookup_num_tokens");
}
