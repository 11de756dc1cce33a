//! Texts that run at once, and how long that takes.

use std::collections::HashMap;
use std::time::Instant;

use webweft::generate::{Event, GenerateOptions};
use webweft::managers::batch::Strategy;
use webweft::session::Session;

use crate::errors::CliError;
use crate::interrupt::Interrupt;

/// How long it took.
#[derive(Clone, Copy, Debug)]
pub struct Together {
    /// Tokens of prompts that were computed: those whose beginning was in the cache were not.
    pub prefill_tokens: usize,
    /// Milliseconds until each of them had its first token.
    pub prefill_ms: f64,
    /// Milliseconds of a step while all decode: from the first token of the last of them to the first end; `None` where they did not all
    /// run at once.
    pub step_ms: Option<f64>,
}

/// A prompt whose beginning no other number's has.
pub fn prompt(tokens: usize, number: u32, vocab: u32) -> Vec<u32> {
    (0..tokens as u64).map(|i| ((i * 37 + 11 + u64::from(number) * 101) % u64::from(vocab)) as u32).collect()
}

/// Runs them, each for `new` tokens, past every end token.
pub async fn together(
    session: &mut Session,
    prompts: &[Vec<u32>],
    new: usize,
    interrupt: &Interrupt,
) -> Result<Together, CliError> {
    session.set_strategy(Strategy::Fixed { sequences: prompts.len() as u32 });
    let started = Instant::now();
    // each one's tokens so far
    let mut counts = HashMap::new();
    for prompt in prompts {
        let options = GenerateOptions { max_new_tokens: new, ..GenerateOptions::default() };
        counts.insert(session.add(prompt.as_slice(), options)?, 0usize);
    }
    let (mut prefill_tokens, mut prefill_ms) = (0, None);
    let (mut began, mut took, mut ended): (Option<(Instant, usize)>, Option<f64>, usize) = (None, None, 0);
    while ended < prompts.len() {
        interrupt.check()?;
        for (id, event) in session.step().await? {
            match event {
                Event::Piece(_) => *counts.entry(id).or_default() += 1,
                Event::Finished { timing, .. } => {
                    ended += 1;
                    prefill_tokens += timing.prefill_tokens;
                }
                Event::Failed(error) => return Err(error.into()),
            }
        }
        let all_began = counts.values().all(|&count| count > 0);
        if all_began && prefill_ms.is_none() {
            prefill_ms = Some(started.elapsed().as_secs_f64() * 1e3);
        }
        let tokens = counts.values().sum::<usize>();
        match began {
            None if ended == 0 && all_began => began = Some((Instant::now(), tokens)),
            Some((at, before)) if took.is_none() && ended > 0 => {
                let steps = (tokens - before) as f64 / prompts.len() as f64;
                took = Some(at.elapsed().as_secs_f64() * 1e3 / steps).filter(|ms| ms.is_finite());
            }
            _ => {}
        }
    }
    Ok(Together { prefill_tokens, prefill_ms: prefill_ms.unwrap_or_default(), step_ms: took })
}
