//! Sequences that go on from others.

use std::collections::BTreeMap;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{Error, GenerateError};
use webweft::generate::{Event, GenerateOptions, SequenceId};
use webweft::managers::CacheOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::session::{LoadOptions, Session};
use webweft::tensor::CacheDtype;

use super::{F32, model, options};
use crate::common::sample_of;
use crate::models::{generate, open, rest};

/// Runs all that is under way; `each` hears of every token. What each sequence gave, and how many tokens of prompts were computed for it.
async fn run(
    session: &mut Session,
    mut each: impl FnMut(&mut Session, SequenceId, usize),
) -> BTreeMap<SequenceId, (Vec<u32>, usize)> {
    let mut all: BTreeMap<SequenceId, (Vec<u32>, usize)> = BTreeMap::new();
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            return all;
        }
        for (id, event) in events {
            let got = all.entry(id).or_default();
            match event {
                Event::Piece(piece) => {
                    got.0.push(piece.id);
                    each(session, id, got.0.len());
                }
                Event::Finished { timing, .. } => got.1 = timing.prefill_tokens,
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}

/// A fork gives what its settings give alone, computes one token, and leaves the first as it was: at any place in a block, and where a
/// window has dropped what came before.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn forks_share_what_was_computed() {
    let window = CachePolicy::from_name("window:160").unwrap();
    let prompt: Vec<u32> = (0..50).map(|i| (i * 37 + 11) % 300).collect();
    let cases = [
        (CacheDtype::F32, CachePolicy::Full, 7, 60),
        (CacheDtype::Q8, CachePolicy::Full, 14, 60),
        (CacheDtype::F32, CachePolicy::Full, 15, 60),
        (CacheDtype::Q4, window, 250, 300),
    ];
    for &(dtype, policy, after, new) in sample_of(2, &cases) {
        let what = format!("{dtype:?}, {policy:?}, after {after}");
        let load = LoadOptions { cache: CacheOptions { dtype: Some(dtype), policy }, ..F32 };
        let mut session = open(&model().source(), &load).await;
        let sampled = GenerateOptions { temperature: 1.1, seed: 5, ..options(new) };
        let other = GenerateOptions { seed: 6, ..sampled.clone() };
        let want = generate(&mut session, &prompt, sampled.clone()).await;
        session.engine_mut().reset();

        let first = session.add(&prompt[..], sampled.clone()).unwrap();
        let mut forks = Vec::new();
        let got = run(&mut session, |session, id, count| {
            if id == first && count == after {
                forks.push(session.fork(first, sampled.clone()).unwrap());
                forks.push(session.fork(first, other.clone()).unwrap());
            }
        })
        .await;
        let [same, different] = forks[..] else { panic!("{what}: {forks:?}") };
        assert_eq!(got[&first].0, want, "{what}: the first goes on");
        // several tokens may be told at once, of which this one was the first
        let begun = new - got[&same].0.len();
        assert!(begun >= after, "{what}: {begun}");
        assert_eq!(got[&same], (want[begun..].to_vec(), 1), "{what}");
        assert_eq!((got[&different].0.len(), got[&different].1), (new - begun, 1), "{what}");
        assert_ne!(got[&different].0, want[begun..], "{what}");
        if policy == CachePolicy::Full {
            session.engine_mut().reset();
            let mut alone = session.engine_mut().resume(&prompt, &want[..begun], other.clone()).await.unwrap();
            assert_eq!(got[&different].0, rest(&mut alone).await, "{what}");
        }
        let error = session.fork(first, options(5)).unwrap_err();
        assert!(matches!(error, Error::Generate(GenerateError::Setting { name: "sequence", .. })), "{error}");
    }
}
