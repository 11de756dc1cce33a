//! Several sequences at once: what each gives is what it gives alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::error::{Error, GenerateError};
use webweft::generate::{Event, FinishReason, GenerateOptions, Processors, SequenceId};
use webweft::reference::sample::scores;
use webweft::session::{LoadOptions, Session, Shared};

use super::{F32, model, options};
use crate::common::{report, sample_of};
use crate::models::fixtures::folders;
use crate::models::{Expected, generate, open, shared_source};

/// What became of each sequence.
#[derive(Debug, Default)]
pub struct Got {
    pub ids: Vec<u32>,
    pub finish: Option<FinishReason>,
    error: Option<Error>,
    prefilled: usize,
}

/// Runs until all have ended; `each` hears of every sequence's token, and may join or leave.
pub async fn run(
    session: &mut Session,
    mut each: impl FnMut(&mut Session, SequenceId, usize),
) -> BTreeMap<SequenceId, Got> {
    let mut all: BTreeMap<SequenceId, Got> = BTreeMap::new();
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            return all;
        }
        for (id, event) in events {
            let got = all.entry(id).or_default();
            match event {
                Event::Piece(piece) => {
                    got.ids.push(piece.id);
                    each(session, id, got.ids.len());
                }
                Event::Finished { reason, timing } => {
                    (got.finish, got.prefilled) = (Some(reason), timing.prefill_tokens);
                }
                Event::Failed(error) => got.error = Some(error),
            }
        }
    }
}

/// The tokens must be the same, up to a step at which rounding may decide: the two best are nearer than 1e-3 to one another.
pub async fn assert_same(
    session: &mut Session,
    name: &str,
    prompt: &[u32],
    got: &[u32],
    want: &[u32],
    options: &GenerateOptions,
) {
    let Some(at) = got.iter().zip(want).position(|(a, b)| a != b) else {
        assert_eq!(got.len(), want.len(), "{name}");
        return;
    };
    let ids = [prompt, &want[..at]].concat();
    let vocab = session.engine().vocab_size();
    let logits = session.forward(&ids).await.unwrap().logits;
    let mut logits = logits[(ids.len() - 1) * vocab as usize..].to_vec();
    let sampling = options.sampling(prompt.len());
    if let Some(mut processors) = Processors::new(options, &sampling, prompt, vocab).unwrap() {
        want[..at].iter().for_each(|&id| processors.chosen(id));
        processors.process(&mut logits, &sampling, &ids, at);
    }
    let mut scores = match options.temperature {
        0.0 => logits,
        _ => scores(&logits, &sampling, ids.len() as u32).into_iter().map(|(_, score)| score as f32).collect(),
    };
    scores.sort_by(|a, b| b.total_cmp(a));
    let margin = scores[0] - scores[1];
    report(&format!("{name}: another token at {at}, margin {margin}"));
    assert!(margin < 1e-3, "{name}: {} is {}, not {}, margin {margin}", at, got[at], want[at]);
}

/// Prompts of many lengths, around blocks and chunks.
fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 37 + seed * 101 + 11) % 300).collect()
}

/// Settings of many kinds.
fn settings(i: usize) -> GenerateOptions {
    let new = options(20 + 13 * (i % 4));
    match i % 6 {
        0 | 1 => new,
        2 => GenerateOptions { temperature: 0.9, top_k: 50, top_p: 0.95, seed: 40 + i as u64, ..new },
        3 => GenerateOptions { temperature: 1.3, min_p: 0.02, seed: 7, lookahead: 3, ..new },
        4 => GenerateOptions { repetition_penalty: 1.3, no_repeat_ngram_size: 3, ..new },
        _ => GenerateOptions { presence_penalty: 0.7, frequency_penalty: 0.2, suppress_tokens: vec![5, 9], ..new },
    }
}

const LENGTHS: [usize; 12] = [4, 31, 32, 33, 1, 64, 90, 7, 150, 2, 65, 40];

/// Mixed lengths and settings, all at once, in chunks of several sizes.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_batch_gives_what_each_gives_alone() {
    let source = model().source();
    let lengths = sample_of(6, &LENGTHS);
    for &chunk in sample_of(1, &[24, 512]) {
        let load = LoadOptions { prefill_chunk: Some(chunk), ..F32 };
        let mut session = open(&source, &load).await;
        let mut want = Vec::new();
        for (i, &length) in lengths.iter().enumerate() {
            session.engine_mut().reset();
            want.push(generate(&mut session, &prompt(length, i as u32), settings(i)).await);
        }
        session.engine_mut().reset();
        let ids: Vec<_> = (lengths.iter().enumerate())
            .map(|(i, &length)| session.add(prompt(length, i as u32).as_slice(), settings(i)).unwrap())
            .collect();
        let got = run(&mut session, |_, _, _| ()).await;
        for (i, id) in ids.iter().enumerate() {
            let name = format!("sequence {i}, chunks of {chunk}");
            assert_same(&mut session, &name, &prompt(lengths[i], i as u32), &got[id].ids, &want[i], &settings(i)).await;
            assert_eq!(got[id].finish, Some(FinishReason::Length));
        }
    }
}

/// Sequences that join while others run, and that are taken away, leave the others as they are.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn sequences_join_and_leave() {
    let mut session = open(&model().source(), &F32).await;
    let mut want = Vec::new();
    for (i, &length) in LENGTHS.iter().enumerate() {
        session.engine_mut().reset();
        want.push(generate(&mut session, &prompt(length, i as u32), settings(i)).await);
    }
    session.engine_mut().reset();
    let mut numbers = BTreeMap::new();
    for (i, &length) in LENGTHS.iter().enumerate().take(3) {
        numbers.insert(session.add(prompt(length, i as u32).as_slice(), settings(i)).unwrap(), i);
    }
    let (mut next, mut left) = (3, Vec::new());
    let got = run(&mut session, |session, id, count| {
        // with every fifth token somebody joins; whoever came fourth, eighth, ... leaves after nine
        if count % 5 == 0 && next < LENGTHS.len() {
            let i = next;
            next += 1;
            numbers.insert(session.add(prompt(LENGTHS[i], i as u32).as_slice(), settings(i)).unwrap(), i);
        }
        if count == 9 && numbers[&id] % 4 == 3 {
            session.remove(id);
            left.push(id);
        }
    })
    .await;
    assert_eq!((numbers.len(), left.len()), (LENGTHS.len(), 3));
    for (id, i) in numbers {
        let count = got[&id].ids.len();
        if left.contains(&id) {
            assert!(count >= 9 && got[&id].finish.is_none());
        } else {
            assert_eq!(count, want[i].len(), "sequence {i}");
        }
        let (name, prompt) = (format!("sequence {i}"), prompt(LENGTHS[i], i as u32));
        assert_same(&mut session, &name, &prompt, &got[&id].ids, &want[i][..count], &settings(i)).await;
    }
    // nothing is left behind but beginnings
    assert_eq!(generate(&mut session, &prompt(4, 0), settings(0)).await, want[0]);
}

/// A prompt that others begin with is computed once.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_shared_beginning_is_computed_once() {
    let mut session = open(&model().source(), &F32).await;
    let common = prompt(96, 1);
    let prompts: Vec<Vec<u32>> = (0..5).map(|i| [common.clone(), prompt(6, 10 + i)].concat()).collect();
    let mut want = Vec::new();
    for prompt in &prompts {
        session.engine_mut().reset();
        want.push(generate(&mut session, prompt, options(12)).await);
    }
    session.engine_mut().reset();
    generate(&mut session, &common, options(3)).await;
    for _ in 0..2 {
        let ids: Vec<_> = prompts.iter().map(|p| session.add(p.as_slice(), options(12)).unwrap()).collect();
        let got = run(&mut session, |_, _, _| ()).await;
        for (id, want) in ids.iter().zip(&want) {
            assert_eq!(&got[id].ids, want);
            assert!(got[id].prefilled <= 6, "{} tokens were computed", got[id].prefilled);
        }
    }
    // the first request, five at once: whoever comes later waits for the blocks that the first one computes
    session.engine_mut().reset();
    let ids: Vec<_> = prompts.iter().map(|p| session.add(p.as_slice(), options(12)).unwrap()).collect();
    let got = run(&mut session, |_, _, _| ()).await;
    let computed: usize = ids.iter().map(|id| got[id].prefilled).sum();
    assert_eq!(computed, 96 + 5 * 6);
    assert!(ids.iter().zip(&want).all(|(id, want)| &got[id].ids == want));
    // they outlive other requests
    generate(&mut session, &prompt(70, 5), options(4)).await;
    let generation = session.generate(&prompts[3], options(1)).await.unwrap();
    assert_eq!(generation.timing().prefill_tokens, 1);
}

/// One that fails, and one that the host samples for, are no trouble to others.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn each_has_its_own_fate() {
    let mut session = open(&model().source(), &F32).await;
    let want = generate(&mut session, &prompt(20, 1), options(30)).await;
    session.engine_mut().reset();
    let stop = GenerateOptions { eos_token_id: vec![want[6]], ..options(30) };
    let at = want.iter().position(|&id| id == want[6]).unwrap();
    let stopped = session.add(prompt(20, 1).as_slice(), stop).unwrap();
    let plain = session.add(prompt(20, 1).as_slice(), options(30)).unwrap();
    let host = session.add(prompt(20, 1).as_slice(), GenerateOptions { logprobs: Some(2), ..options(30) }).unwrap();
    let later = session.add(prompt(20, 1).as_slice(), options(8)).unwrap();
    let refused = session.add([1, 300].as_slice(), options(8)).unwrap_err();
    assert!(matches!(refused, Error::Generate(GenerateError::TokenOutOfRange { .. })), "{refused}");
    let got = run(&mut session, |_, _, _| ()).await;
    assert_eq!((&got[&stopped].ids[..], got[&stopped].finish), (&want[..=at], Some(FinishReason::Stop)));
    assert_eq!(got[&plain].ids, want);
    assert_eq!(got[&host].ids, want);
    assert_eq!(got[&later].ids, want[..8]);
}

/// A forward pass takes the first slot from whoever sits there; those that run go on as if it had not.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_forward_pass_may_come_between() {
    let mut session = open(&model().source(), &F32).await;
    let mut want = Vec::new();
    for (i, &length) in LENGTHS.iter().enumerate().take(3) {
        session.engine_mut().reset();
        want.push(generate(&mut session, &prompt(length, i as u32), settings(i)).await);
    }
    let passed = session.forward(&prompt(70, 9)).await.unwrap();
    session.engine_mut().reset();
    let ids: Vec<_> =
        (0..3).map(|i| session.add(prompt(LENGTHS[i], i as u32).as_slice(), settings(i)).unwrap()).collect();
    let mut got = vec![Vec::new(); 3];
    for turn in 0.. {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            break;
        }
        for (id, event) in events {
            if let Event::Piece(piece) = event {
                got[ids.iter().position(|known| *known == id).unwrap()].push(piece.id);
            }
        }
        match turn {
            1 => assert_eq!(session.forward(&prompt(70, 9)).await.unwrap(), passed),
            2 => session.remove(ids[0]),
            // the first slot is nobody's
            3 => assert_eq!(session.forward(&prompt(70, 9)).await.unwrap(), passed),
            _ => {}
        }
    }
    assert_eq!(got[0], want[0][..got[0].len()]);
    assert_eq!(got[1..], want[1..]);
}

/// A cache that does not hold all at once: who came last waits, or gives way, and nothing is lost.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_full_cache_makes_some_wait() {
    let limit = 12 << 20;
    let own = Device::open(&DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() }).await.unwrap();
    let load = LoadOptions { prefill_chunk: Some(16), ..F32 };
    let mut session = Session::open(&own, &model().source(), &load, |_| ()).await.unwrap();
    let want = generate(&mut session, &prompt(60, 2), options(100)).await;
    session.engine_mut().reset();
    // 384 bytes a position: what is left does not hold a cache of twice the size
    let ballast = limit - own.ledger().snapshot().total - (250 << 10);
    let _ballast = own.storage("ballast", Category::Staging, ballast).unwrap();
    let ids: Vec<_> = (0..4).map(|_| session.add(prompt(60, 2).as_slice(), options(100)).unwrap()).collect();
    let others: Vec<_> = (0..2).map(|i| session.add(prompt(60, 3 + i).as_slice(), options(100)).unwrap()).collect();
    let got = run(&mut session, |_, _, _| ()).await;
    for id in &ids {
        assert_eq!(got[id].ids, want, "{:?}", got[id].error);
    }
    for id in &others {
        assert_eq!(got[id].ids.len(), 100, "{:?}", got[id].error);
    }
}

/// `batch.*` of the fixtures: transformers pads, we do not.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn batches_equal_transformers() {
    let mut seen = 0;
    for folder in folders().await {
        let expected = Expected::of(&folder).await;
        if !expected.has("batch.input_ids") {
            continue;
        }
        let mut session = open(&shared_source(&folder).await.unwrap(), &F32).await;
        let (ids, mask) = (expected.ids("batch.input_ids"), expected.ids("batch.attention_mask"));
        let want = expected.ids("batch.greedy_ids");
        let (width, new) = (ids.len() / 2, want.len() / 2);
        let rows = ids.chunks(width).zip(mask.chunks(width));
        let added: Vec<_> = rows
            .map(|(ids, mask)| {
                let own: Vec<u32> = ids.iter().zip(mask).filter(|(_, seen)| **seen == 1).map(|(id, _)| *id).collect();
                session.add(own.as_slice(), options(new)).unwrap()
            })
            .collect();
        let got = run(&mut session, |_, _, _| ()).await;
        for (id, want) in added.iter().zip(want.chunks(new)) {
            assert_eq!(got[id].ids, want, "{folder}");
        }
        seen += 1;
    }
    assert!(seen == 0 || seen >= 5, "{seen} fixtures have batches");
}

/// Runs futures side by side on one thread, as a page does.
async fn join_all(mut futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Callers that share a session: each hears its own text, whoever runs the steps, and one that goes is no trouble to others.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn callers_share_a_session() {
    // submits are counted by device
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let mut session = Session::open(&device, &model().source(), &F32, |_| ()).await.unwrap();
    let mut want = Vec::new();
    let before = device.submits();
    for (i, &length) in LENGTHS.iter().enumerate().take(5) {
        session.engine_mut().reset();
        want.push(generate(&mut session, &prompt(length, i as u32), settings(i)).await);
    }
    let alone = device.submits() - before;
    session.engine_mut().reset();
    let before = device.submits();
    let shared = Shared::new(session);
    let heard = RefCell::new(vec![Vec::new(); 5]);
    let calls = (0..5).map(|i| {
        let (shared, heard) = (&shared, &heard);
        let call = async move {
            let prompt = prompt(LENGTHS[i], i as u32);
            let add = |session: &mut Session| session.add(prompt.as_slice(), settings(i));
            let mut text = shared.text(add).await.unwrap();
            while let Some(piece) = text.next().await.unwrap() {
                heard.borrow_mut()[i].push(piece.id);
                if i == 3 && heard.borrow()[i].len() == 9 {
                    return;
                }
            }
            assert_eq!(text.finish_reason(), Some(FinishReason::Length));
            assert!(text.timing().decode_tokens > 0);
        };
        Box::pin(call) as Pin<Box<dyn Future<Output = ()> + '_>>
    });
    join_all(calls.collect()).await;
    let heard = heard.into_inner();
    assert_eq!(heard[3], want[3][..9]);
    for i in [0, 1, 2, 4] {
        assert_eq!(heard[i], want[i], "caller {i}");
    }
    assert!(device.submits() - before < alone, "they run in the same steps");
    let mut session = shared.into_inner();
    assert_eq!(generate(&mut session, &prompt(LENGTHS[0], 0), settings(0)).await, want[0]);
}
