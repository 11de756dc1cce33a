//! A model that drafts for another: the tokens are those that the other makes alone.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{Error, GenerateError};
use webweft::generate::{GenerateOptions, Timing};
use webweft::managers::CacheOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::session::{LoadOptions, Session};

use super::batch::{assert_same, run};
use super::{F32, model, options};
use crate::common::{device, here, report, sample_of};
use crate::models::reference_llama::{Shape, Synthetic};
use crate::models::rest;

/// A smaller one, which knows nothing of what the other would say.
fn stranger() -> Synthetic {
    let shape = Shape {
        hidden: 20,
        ff: 30,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 10,
        vocab: 310,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, Stored::F32, 5)
}

/// Two models on one device.
async fn open_both(assistant: &Synthetic, load: &LoadOptions) -> Session {
    let device = device().await;
    let mut session = Session::open(&device, &model().source(), load, |_| ()).await.unwrap();
    let load = LoadOptions { prefill_chunk: Some(16), ..F32 };
    let assistant = Session::open(&device, &assistant.source(), &load, |_| ()).await.unwrap();
    session.set_assistant(Some(assistant)).unwrap();
    session
}

fn drafting(options: &GenerateOptions, num_assistant_tokens: u32) -> GenerateOptions {
    GenerateOptions { num_assistant_tokens, ..options.clone() }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 61 + i * i + 5) % 300).collect()
}

/// From an empty cache.
async fn generate(session: &mut Session, prompt: &[u32], options: GenerateOptions) -> (Vec<u32>, Timing) {
    session.engine_mut().reset();
    let mut generation = session.generate(prompt, options).await.unwrap();
    let ids = rest(&mut generation).await;
    (ids, generation.timing())
}

/// One that always agrees, greedy or not, since it draws with the same noise; and one that knows nothing.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn drafts_change_nothing() {
    let new = options(here(120, 40));
    let settings = [
        new.clone(),
        GenerateOptions { temperature: 0.9, top_k: 50, top_p: 0.95, seed: 42, ..new.clone() },
        GenerateOptions { temperature: 1.3, seed: 3, frequency_penalty: 0.1, ..new.clone() },
    ];
    for (name, assistant) in [("itself", model()), ("a stranger", stranger())] {
        let mut session = open_both(&assistant, &F32).await;
        for (i, plain) in settings.iter().enumerate() {
            let prompt = prompt([40, 1, 17][i]);
            let (want, timing) = generate(&mut session, &prompt, drafting(plain, 0)).await;
            assert_eq!(timing.drafted, 0);
            for &(drafts, lookahead) in sample_of(2, &[(4, 32), (7, 8), (1, 1), (31, 16)]) {
                let options = GenerateOptions { lookahead, ..drafting(plain, drafts) };
                let (got, timing) = generate(&mut session, &prompt, options).await;
                let name = format!("{drafts} drafts of {name}, {plain:?}");
                report(&format!("{} of {} drafts accepted: {name}", timing.accepted, timing.drafted));
                assert_same(&mut session, &name, &prompt, &got, &want, plain).await;
                assert!(timing.drafted > want.len() / 4, "{name}: {timing:?}");
                let most = timing.drafted * 9 / 10;
                if assistant.config().hidden_size == 20 {
                    // at high temperatures the noise decides, which both have
                    assert!(timing.accepted < timing.drafted, "{name}: {timing:?}");
                } else if i < 2 {
                    // penalties are the other's alone
                    assert!(timing.accepted >= most, "{name}: {timing:?}");
                }
            }
        }
    }
}

/// It ends and goes on as ever, and so does a text that was broken off.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn ends_and_goes_on_within_drafts() {
    let mut session = open_both(&model(), &F32).await;
    let prompt = prompt(33);
    let fast = drafting(&options(60), 5);
    let (whole, _) = generate(&mut session, &prompt, drafting(&fast, 0)).await;
    for &end in sample_of(2, &[31, 44, 45, 1, 2]) {
        let (got, _) = generate(&mut session, &prompt, GenerateOptions { max_new_tokens: end, ..fast.clone() }).await;
        assert_eq!(got, whole[..end], "a limit of {end}");
        let eos = whole[end - 1];
        let first = whole.iter().position(|&id| id == eos).unwrap();
        let options = GenerateOptions { eos_token_id: vec![eos], ..fast.clone() };
        assert_eq!(generate(&mut session, &prompt, options).await.0, whole[..=first], "{eos} ends it");
    }
    for &taken in sample_of(1, &[20, 7]) {
        session.engine_mut().reset();
        let mut generation = session.generate(&prompt, fast.clone()).await.unwrap();
        for want in &whole[..taken] {
            assert_eq!(generation.next().await.unwrap(), Some(*want));
        }
        drop(generation);
        let so_far = [&prompt[..], &whole[..taken]].concat();
        let options = GenerateOptions { max_new_tokens: 60 - taken, ..fast.clone() };
        let mut generation = session.generate(&so_far, options).await.unwrap();
        assert_eq!(rest(&mut generation).await, whole[taken..], "after {taken}");
        let timing = generation.timing();
        assert!(timing.accepted * 10 >= timing.drafted * 9, "its own cache was right: {timing:?}");
    }
}

/// Sequences with and without join and leave, their prompts in chunks: steps go by in which nobody drafts.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn drafts_for_several() {
    let mut session = open_both(&model(), &LoadOptions { prefill_chunk: Some(8), ..F32 }).await;
    let of = |i: u32| {
        let seed = GenerateOptions {
            temperature: [0.0, 0.8][i as usize % 2],
            seed: u64::from(i),
            ..options(25 + 20 * (i as usize % 3))
        };
        let options = match i % 4 {
            0 => GenerateOptions { prompt_lookup_num_tokens: 3, ..seed },
            1 => drafting(&seed, 0),
            n => drafting(&seed, 2 + n),
        };
        (prompt(9 + 23 * (i % 3)), options)
    };
    let count = here(9, 6) as u32;
    let mut want = Vec::new();
    for i in 0..count {
        let (prompt, options) = of(i);
        let plain = GenerateOptions { prompt_lookup_num_tokens: 0, ..drafting(&options, 0) };
        want.push(generate(&mut session, &prompt, plain).await.0);
    }
    session.engine_mut().reset();
    let mut ids: Vec<_> = (0..4).map(|i| session.add(of(i).0.as_slice(), of(i).1).unwrap()).collect();
    let begun = ids[0];
    let mut later = Vec::new();
    let got = run(&mut session, |session, id, tokens| {
        if id == begun && tokens == 9 {
            later.extend((4..count).map(|i| session.add(of(i).0.as_slice(), of(i).1).unwrap()));
        }
    })
    .await;
    ids.extend(later);
    for (i, id) in (0..).zip(&ids) {
        let (prompt, options) = of(i);
        let name = format!("sequence {i}");
        assert_same(&mut session, &name, &prompt, &got[id].ids, &want[i as usize], &options).await;
    }
}

/// What does not go together is named.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_does_not_fit_says_so() {
    let named = |result: Result<(), Error>, wanted: &str| {
        let Err(Error::Generate(GenerateError::Setting { name, .. })) = result else { panic!("{result:?}") };
        assert_eq!(name, wanted);
    };
    let (one, other) = (device().await, Device::open(&DeviceOptions::default()).await.unwrap());
    let window = CacheOptions { dtype: None, policy: CachePolicy::Window { sinks: 1, blocks: 4 } };
    let load = LoadOptions { cache: window, ..F32 };
    let mut dropping = Session::open(&one, &model().source(), &load, |_| ()).await.unwrap();
    let mut session = Session::open(&one, &model().source(), &F32, |_| ()).await.unwrap();
    let here = Session::open(&one, &stranger().source(), &F32, |_| ()).await.unwrap();
    named(dropping.set_assistant(Some(here)), "assistant_model");
    named(session.set_assistant(Some(dropping)), "assistant_model");
    let elsewhere = Session::open(&other, &stranger().source(), &F32, |_| ()).await.unwrap();
    named(session.set_assistant(Some(elsewhere)), "assistant_model");
    let id = session.add([1, 2].as_slice(), options(5)).unwrap();
    let here = Session::open(&one, &stranger().source(), &F32, |_| ()).await.unwrap();
    named(session.set_assistant(Some(here)), "assistant_model");
    session.remove(id);
    session.set_assistant(None).unwrap();
    let refused = session.generate(&[1, 2], drafting(&options(5), 32)).await.map(|_| ());
    named(refused, "num_assistant_tokens");
}
