//! Text generation: stop strings, log-probabilities, how a prompt begins, and processors in the decoding loop.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{Error, GenerateError};
use webweft::generate::{FinishReason, GenerateOptions, Piece};
use webweft::session::{LoadOptions, Prompt, Session};

use super::{F32, model};
use crate::common::{assert_close, sample_of, skipped};
use crate::models::{generate, negative_log_likelihood, open, shared_source};

async fn stories() -> Option<Session> {
    let Some(source) = shared_source("models/stories260K").await else {
        skipped("../shared/models/stories260K is absent");
        return None;
    };
    Some(open(&source, &F32).await)
}

/// All pieces, and why it ended.
async fn pieces(
    session: &mut Session,
    prompt: impl Into<Prompt<'_>>,
    options: GenerateOptions,
) -> (Vec<Piece>, FinishReason) {
    let mut generation = session.generate_text(prompt, options).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = generation.next().await.unwrap() {
        all.push(piece);
    }
    assert_eq!(generation.flush().unwrap(), "", "the last piece has everything");
    (all, generation.finish_reason().unwrap())
}

fn joined(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

/// Wherever a stop string begins and ends within tokens, the text before it is what comes out, with any lookahead, and the cache
/// goes on from there.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn stop_strings_end_the_text() {
    let Some(mut session) = stories().await else { return };
    let prompt = "Once upon a time";
    let ids = session.encode(prompt).unwrap();
    let options = GenerateOptions { max_new_tokens: 60, ..session.defaults().clone() };
    let (plain, reason) = pieces(&mut session, prompt, options.clone()).await;
    assert_eq!(reason, FinishReason::Length);
    let text = joined(&plain);
    // (an awaited readback takes 100 ms in Firefox: as few of them as the claim needs)
    let cuts = [(21, 7), (text.len() - 4, 4), (0, 3), (20, 1), (40, 30)];
    for (lookahead, cuts) in [(8, sample_of(2, &cuts)), (0, &cuts[..1])] {
        for &(at, len) in cuts {
            let stop = text[at..at + len].to_owned();
            let first = text.find(&stop).unwrap();
            let other = "a text that does not come".to_owned();
            let stops = vec![other, stop.clone()];
            let (got, reason) =
                pieces(&mut session, prompt, GenerateOptions { stop_strings: stops, lookahead, ..options.clone() })
                    .await;
            assert_eq!(joined(&got), text[..first], "{stop:?}, lookahead {lookahead}");
            assert_eq!(reason, FinishReason::Stop, "{stop:?}");
            // up to the token that completed it
            let mut so_far = String::new();
            let needed = plain.iter().position(|piece| {
                so_far += &piece.text;
                so_far.contains(&stop)
            });
            assert_eq!(got.len(), needed.unwrap() + 1, "{stop:?}");
            assert!(got.iter().zip(&plain).all(|(a, b)| a.id == b.id));
            let all: Vec<u32> = ids.iter().copied().chain(got.iter().map(|p| p.id)).collect();
            assert_eq!(session.engine().cached(), &all[..all.len() - 1], "rolled back");
            // going on is as if nothing had been computed beyond
            let more = GenerateOptions { max_new_tokens: 5, ..options.clone() };
            let after = generate(&mut session, &all, more).await;
            let want: Vec<u32> = plain[got.len()..].iter().take(5).map(|p| p.id).collect();
            assert_eq!(after[..want.len()], want, "{stop:?}");
        }
    }
    // one that never comes is held back only for a while
    let stops = vec!["little girl named Nobody".to_owned()];
    let (got, reason) = pieces(&mut session, prompt, GenerateOptions { stop_strings: stops, ..options.clone() }).await;
    assert_eq!((joined(&got), reason), (text.clone(), FinishReason::Length));
    // a special token has no text, and yet a name
    let eos = vec!["</s>".to_owned()];
    let bias = vec![(vec![2], 1e4)];
    let forced = GenerateOptions { stop_strings: eos, sequence_bias: bias, eos_token_id: Vec::new(), ..options };
    let (got, reason) = pieces(&mut session, prompt, forced).await;
    assert_eq!((got.len(), got[0].id, reason), (1, 2, FinishReason::Stop));
}

/// What is given out before a text is broken off, and after it, is all of it.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_broken_off_text_gives_out_what_it_held_back() {
    let Some(mut session) = stories().await else { return };
    let options = GenerateOptions { max_new_tokens: 30, ..session.defaults().clone() };
    let (plain, _) = pieces(&mut session, "Once upon a time", options.clone()).await;
    let text = joined(&plain[..12]);
    // begins where the broken off text ends
    let stop = format!("{}!", &text[text.len() - 6..]);
    let options = GenerateOptions { stop_strings: vec![stop], ..options };
    let mut generation = session.generate_text("Once upon a time", options).await.unwrap();
    let mut got = String::new();
    for _ in 0..12 {
        got += &generation.next().await.unwrap().unwrap().text;
    }
    assert!(got.len() <= text.len() - 6, "{got:?} of {text:?}");
    got += &generation.flush().unwrap();
    assert_eq!(got, text);
}

/// Log-probabilities are those of the raw logits, whatever processors and cut-offs do.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn log_probabilities_are_of_the_raw_logits() {
    let mut session = open(&model().source(), &F32).await;
    let prompt = [5, 17, 255, 3];
    let options = GenerateOptions {
        max_new_tokens: 6,
        temperature: 0.7,
        top_k: 20,
        repetition_penalty: 1.5,
        presence_penalty: 0.5,
        seed: 3,
        ..GenerateOptions::default()
    };
    let ids = generate(&mut session, &prompt, options.clone()).await;
    let (got, _) = pieces(&mut session, &prompt[..], GenerateOptions { logprobs: Some(4), ..options.clone() }).await;
    assert_eq!(got.iter().map(|p| p.id).collect::<Vec<_>>(), ids, "asking changes nothing");
    let all: Vec<u32> = prompt.iter().chain(&ids).copied().collect();
    let logits = session.forward(&all[..all.len() - 1]).await.unwrap().logits;
    for (i, piece) in got.iter().enumerate() {
        let row = &logits[(prompt.len() - 1 + i) * 300..][..300];
        let logprob = |id: u32| -negative_log_likelihood(row, 300, &[0, id], 0);
        let found = piece.logprobs.as_ref().unwrap();
        let mut order: Vec<u32> = (0..300).collect();
        order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), order[..4]);
        let values: Vec<f32> = found.top.iter().map(|t| t.1).chain([found.logprob]).collect();
        let want: Vec<f64> = order[..4].iter().copied().chain([piece.id]).map(logprob).collect();
        assert_close(&format!("token {i}"), &values, &want, 1e-4, 0.0);
    }
    let (got, _) = pieces(&mut session, &prompt[..], GenerateOptions { logprobs: Some(0), ..options.clone() }).await;
    assert!(got.iter().all(|p| p.logprobs.as_ref().is_some_and(|l| l.top.is_empty() && l.logprob < 0.0)));
    let (got, _) = pieces(&mut session, &prompt[..], options).await;
    assert!(got.iter().all(|p| p.logprobs.is_none() && p.text.is_empty()), "no tokenizer, no text");
}

/// One first token: the tokenizer's, or the one that the text names; an empty prompt is that token.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_prompt_begins_with_one_first_token() {
    let Some(mut session) = stories().await else { return };
    assert_eq!(session.defaults().bos_token_id, Some(1));
    let plain = session.encode("Once").unwrap();
    assert_eq!(plain[0], 1);
    assert_eq!(session.encode("<s>Once").unwrap()[..1], [1]);
    assert_ne!(session.encode("<s>Once").unwrap()[1], 1);
    assert_eq!(session.encode("").unwrap(), [1]);
    assert_eq!(session.encode("<s>").unwrap(), [1]);
    let options = GenerateOptions { max_new_tokens: 5, ..session.defaults().clone() };
    let want = generate(&mut session, &[1], options.clone()).await;
    assert_eq!(generate(&mut session, &[], options.clone()).await, want);
    for prompt in [Prompt::Text(""), Prompt::Ids(&[]), Prompt::Ids(&[1])] {
        let (got, _) = pieces(&mut session, prompt, options.clone()).await;
        assert_eq!(got.iter().map(|p| p.id).collect::<Vec<_>>(), want);
    }
    let none = GenerateOptions { bos_token_id: None, ..options };
    let error = session.generate_text(&[][..], none).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::EmptyPrompt)), "{error}");
}

/// Processors on the GPU, several steps ahead, and on the host make the same text; so do a prompt whose beginning is cached, and a
/// generation that goes on where another one was abandoned.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn processors_run_ahead_and_roll_back() {
    let mut session = open(&model().source(), &F32).await;
    let prompt = [5, 17, 255, 3, 17, 255];
    let greedy = GenerateOptions { max_new_tokens: 24, ..GenerateOptions::default() };
    let plain = generate(&mut session, &prompt, greedy.clone()).await;
    let all = GenerateOptions {
        repetition_penalty: 1.2,
        presence_penalty: 0.3,
        frequency_penalty: 0.1,
        no_repeat_ngram_size: 2,
        sequence_bias: vec![(vec![plain[2]], -1.0), (vec![plain[0], plain[1]], 0.5)],
        bad_words_ids: vec![vec![plain[3]], vec![plain[4], plain[5]]],
        suppress_tokens: vec![plain[6], 4_000_000],
        eos_token_id: vec![plain[7], plain[8]],
        min_new_tokens: 24,
        ..greedy.clone()
    };
    for (name, options) in [
        ("repetition", GenerateOptions { repetition_penalty: 1.3, ..greedy.clone() }),
        ("n-grams", GenerateOptions { no_repeat_ngram_size: 1, ..greedy.clone() }),
        ("frequency", GenerateOptions { frequency_penalty: 2.0, ..greedy.clone() }),
        ("least length", GenerateOptions { min_length: 20, eos_token_id: plain.clone(), ..greedy.clone() }),
        ("all", all.clone()),
        ("all, at random", GenerateOptions { temperature: 0.8, min_p: 0.01, typical_p: 0.95, seed: 4, ..all }),
    ] {
        session.engine_mut().reset();
        let host = GenerateOptions { lookahead: 0, ..options.clone() };
        let want = generate(&mut session, &prompt, host).await;
        assert_ne!(want, plain, "{name}");
        for &lookahead in sample_of(1, &[3, 33]) {
            let options = GenerateOptions { lookahead, ..options.clone() };
            let got = generate(&mut session, &prompt, options.clone()).await;
            assert_eq!(got, want, "{name}, lookahead {lookahead}");
            let mut abandoned = session.generate(&prompt, options).await.unwrap();
            for want in &want[..3] {
                assert_eq!(abandoned.next().await.unwrap().as_ref(), Some(want));
            }
        }
        // what was generated before is prompt now: only where penalties do not tell these apart
        if name == "repetition" || name == "n-grams" {
            let so_far: Vec<u32> = prompt.iter().chain(&want[..5]).copied().collect();
            assert_eq!(generate(&mut session, &so_far, options.clone()).await[..19], want[5..24], "{name}");
        }
    }
    let suppress_tokens = (60..300).collect();
    let ngrams = GenerateOptions {
        no_repeat_ngram_size: 1,
        max_new_tokens: 60,
        lookahead: 64,
        suppress_tokens,
        ..greedy.clone()
    };
    let mut all_of_them = generate(&mut session, &[9], GenerateOptions { max_new_tokens: 59, ..ngrams.clone() }).await;
    all_of_them.sort_unstable();
    assert!(all_of_them.iter().all(|id| *id != 9) && all_of_them.windows(2).all(|w| w[0] != w[1]), "each once");
    // and then none is left
    let nothing = GenerateOptions { suppress_tokens: (0..300).collect(), lookahead: 0, ..greedy };
    for (options, position) in [(ngrams, 60), (nothing, 1)] {
        let mut generation = session.generate(&[9], options).await.unwrap();
        let error = loop {
            match generation.next().await {
                Ok(id) => assert!(id.is_some()),
                Err(error) => break error,
            }
        };
        let none_left = |p: usize| p == position;
        assert!(
            matches!(error, Error::Generate(GenerateError::NotANumber { position }) if none_left(position)),
            "{error}"
        );
    }
}

/// Lengths count as transformers counts them, and wrong lists are told.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn lengths_and_lists_are_checked() {
    let mut session = open(&model().source(), &LoadOptions { context: Some(64), ..F32 }).await;
    let prompt = [5, 17, 255, 3];
    let options = GenerateOptions { max_new_tokens: usize::MAX, max_length: Some(10), ..GenerateOptions::default() };
    assert_eq!(generate(&mut session, &prompt, options.clone()).await.len(), 6);
    let refused = async |session: &mut Session, options: GenerateOptions| match session
        .generate(&prompt, options)
        .await
        .map(|_| ())
    {
        Err(Error::Generate(error)) => error,
        other => panic!("{other:?}"),
    };
    let error = refused(&mut session, GenerateOptions { max_length: Some(4), ..options.clone() }).await;
    assert!(matches!(error, GenerateError::PromptTooLong { tokens: 4, context: 4 }), "{error}");
    let bad = |ids: &[u32]| GenerateOptions { bad_words_ids: vec![ids.to_vec()], ..GenerateOptions::default() };
    let error = refused(&mut session, bad(&[1, 300])).await;
    assert!(matches!(error, GenerateError::TokenOutOfRange { id: 300, vocab: 300 }), "{error}");
    let off = GenerateOptions::default;
    for (name, options) in [
        ("bad_words_ids", bad(&[])),
        ("sequence_bias", GenerateOptions { sequence_bias: vec![(vec![1], f32::NAN)], ..off() }),
        (
            "sequence_bias and bad_words_ids",
            GenerateOptions { bad_words_ids: (0..513).map(|i| vec![1, 2, i % 300, i / 300]).collect(), ..off() },
        ),
        ("min_p", GenerateOptions { min_p: 1.5, ..off() }),
        ("typical_p", GenerateOptions { typical_p: 0.0, ..off() }),
        ("epsilon_cutoff", GenerateOptions { epsilon_cutoff: 1.0, ..off() }),
        ("eta_cutoff", GenerateOptions { eta_cutoff: -0.1, ..off() }),
        ("repetition_penalty", GenerateOptions { repetition_penalty: 0.0, ..off() }),
        ("presence_penalty", GenerateOptions { presence_penalty: f32::INFINITY, ..off() }),
        ("frequency_penalty", GenerateOptions { frequency_penalty: 2.5, ..off() }),
        ("stop_strings", GenerateOptions { stop_strings: vec![String::new()], ..off() }),
    ] {
        match refused(&mut session, options).await {
            GenerateError::Setting { name: got, .. } => assert!(name.contains(got) || got == name, "{got}"),
            other => panic!("{name}: {other}"),
        }
    }
    let stop = GenerateOptions { stop_strings: vec!["x".into()], ..off() };
    let error = session.generate_text(&prompt[..], stop).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Setting { name: "stop_strings", .. })), "{error}");
}

/// A text that was broken off, on a device that is gone, say, goes on where it was: the same tokens, no text twice and none lost.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_text_is_taken_up_where_it_broke_off() {
    let Some(mut session) = stories().await else { return };
    let plain = GenerateOptions { max_new_tokens: 40, ..GenerateOptions::default() };
    let sampled = GenerateOptions { temperature: 0.9, top_p: 0.9, seed: 7, ..plain.clone() };
    let processed = GenerateOptions {
        repetition_penalty: 1.2,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        no_repeat_ngram_size: 3,
        stop_strings: vec!["zzz".into()],
        ..sampled.clone()
    };
    let on_host = GenerateOptions { lookahead: 0, ..processed.clone() };
    for options in sample_of(2, &[processed, on_host, plain, sampled]) {
        session.engine_mut().reset();
        let (pieces, reason) = pieces(&mut session, "Once upon a time", options.clone()).await;
        let ids: Vec<u32> = pieces.iter().map(|piece| piece.id).collect();
        for &given in sample_of(2, &[17, ids.len(), 1, ids.len() - 1]) {
            session.engine_mut().reset();
            let mut rest = session.resume_text("Once upon a time", &ids[..given], options.clone()).await.unwrap();
            for piece in &pieces[given..] {
                assert_eq!(rest.next().await.unwrap().as_ref(), Some(piece), "after {given}, {options:?}");
            }
            assert_eq!(rest.next().await.unwrap(), None, "after {given}");
            assert_eq!(rest.finish_reason(), Some(reason));
        }
    }
}
