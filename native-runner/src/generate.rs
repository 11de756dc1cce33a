//! `generate`: a prompt and what follows it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;

use webweft::error::Error;
use webweft::generate::{GenerateOptions, Timing};
use webweft::preprocess::TextStream;

use crate::args::{Generate, Shared};
use crate::errors::CliError;
use crate::interrupt::{CANCELLED, Interrupt};
use crate::open::{Opened, open};
use crate::prompt::Prompt;
use crate::stats::Stats;
use crate::stream::{Done, Output};

/// What came of a generation.
struct Outcome {
    ids: Vec<u32>,
    /// held back until the end
    tail: String,
    finish_reason: &'static str,
    timing: Timing,
}

/// Generates, and tells how it ended.
pub fn run(args: &Generate, shared: &Shared) -> Result<ExitCode, CliError> {
    let prompt = Prompt::read(args)?;
    pollster::block_on(generate(args, shared, prompt))
}

async fn generate(args: &Generate, shared: &Shared, prompt: Prompt) -> Result<ExitCode, CliError> {
    let mut opened = open(&args.model, shared, args.context, args.prefill_chunk).await?;
    let (prompt, shown) = prompt.resolve(&opened.session)?;
    let options = options(args, opened.session.defaults());
    let seed = (options.temperature > 0.0).then_some(options.seed);
    let interrupt = Interrupt::catch()?;

    let outcome = Box::pin(stream(&mut opened, &prompt, &shown, options, args.json, &interrupt)).await;
    let (output, outcome) = outcome?;
    let text = match opened.session.tokenizer() {
        Ok(tokenizer) if args.json => tokenizer.decode(&outcome.ids, true).map_err(Error::from)?,
        _ => String::new(),
    };
    let stats = Stats::of(&opened, prompt.len(), outcome.ids.len(), outcome.timing, seed);
    let (ids, tail, finish_reason) = (&outcome.ids, &outcome.tail, outcome.finish_reason);
    output.done(&Done { ids, text: &text, tail, finish_reason, stats: &stats })?;
    if shared.stats {
        stats.show();
    }
    let cancelled = finish_reason == "cancelled";
    Ok(if cancelled { ExitCode::from(CANCELLED) } else { ExitCode::SUCCESS })
}

/// Generates and writes, until the end or Ctrl-C.
async fn stream(
    opened: &mut Opened,
    prompt: &[u32],
    shown: &str,
    options: GenerateOptions,
    json: bool,
    interrupt: &Interrupt,
) -> Result<(Output, Outcome), CliError> {
    let mut text = match opened.session.tokenizer() {
        Ok(tokenizer) => Some(tokenizer.text_stream(prompt, true).map_err(Error::from)?),
        Err(_) => None,
    };
    // what is wrong with the request is told before anything is written
    let mut generation = opened.session.generate(prompt, options).await?;
    let mut output = Output::begin(json, text.is_some(), shown)?;
    let mut ids = Vec::new();
    while !interrupt.requested() {
        let id = match generation.next().await {
            Ok(Some(id)) => id,
            Ok(None) => break,
            Err(error) => {
                output.broken_off();
                return Err(error.into());
            }
        };
        ids.push(id);
        let piece = text.as_mut().map_or(Ok(String::new()), |text| text.push(id)).map_err(Error::from)?;
        output.token(id, &piece)?;
    }
    let finish_reason = generation.finish_reason().map_or("cancelled", |reason| reason.name());
    let tail = text.as_mut().map_or(Ok(String::new()), TextStream::flush).map_err(Error::from)?;
    let timing = generation.timing();
    Ok((output, Outcome { ids, tail, finish_reason, timing }))
}

/// The flags over the model's defaults.
fn options(args: &Generate, defaults: &GenerateOptions) -> GenerateOptions {
    let wants_variety = args.top_k.is_some() || args.top_p.is_some() || args.seed.is_some();
    let mut options = defaults.clone();
    options.temperature = match args.temperature {
        Some(given) => given,
        None if defaults.temperature == 0.0 && wants_variety => 1.0,
        None => defaults.temperature,
    };
    options.max_new_tokens = args.max_new_tokens.unwrap_or(defaults.max_new_tokens);
    options.top_k = args.top_k.unwrap_or(defaults.top_k);
    options.top_p = args.top_p.unwrap_or(defaults.top_p);
    options.seed = args.seed.unwrap_or_else(random_seed);
    options.lookahead = args.lookahead.unwrap_or(defaults.lookahead);
    if args.ignore_eos {
        options.eos_token_id.clear();
    } else if let Some(ids) = &args.eos_token_id {
        options.eos_token_id.clone_from(&ids.0);
    }
    options
}

/// 32 bits: enough to differ, and short enough to type again.
fn random_seed() -> u64 {
    // std keys each of these from the system's random numbers
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(flags: &[&str]) -> Generate {
        let all = ["native-runner", "generate", "x", "--model", "m"].iter().chain(flags);
        match crate::args::Cli::parse_from(all).command {
            crate::args::Command::Generate(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_go_over_the_models_defaults() {
        let greedy = GenerateOptions { eos_token_id: vec![2], ..GenerateOptions::default() };
        let sampling = GenerateOptions { temperature: 0.6, top_k: 50, top_p: 0.9, ..greedy.clone() };
        let of = |flags: &[&str], defaults: &GenerateOptions| {
            let o = options(&args(flags), defaults);
            (o.temperature, o.top_k, o.top_p)
        };
        assert_eq!(of(&[], &greedy), (0.0, 0, 1.0));
        assert_eq!(of(&[], &sampling), (0.6, 50, 0.9));
        assert_eq!(of(&["--top-k", "3"], &greedy), (1.0, 3, 1.0));
        assert_eq!(of(&["--seed", "3"], &greedy), (1.0, 0, 1.0));
        assert_eq!(of(&["--top-p", "0.5"], &sampling), (0.6, 50, 0.5));
        assert_eq!(of(&["--top-k", "3", "--temperature", "0"], &sampling), (0.0, 3, 0.9));
        assert_eq!(options(&args(&[]), &greedy).eos_token_id, [2]);
        assert!(options(&args(&["--ignore-eos"]), &greedy).eos_token_id.is_empty());
        assert_eq!(options(&args(&["--eos-token-id", "1, 7"]), &greedy).eos_token_id, [1, 7]);
        assert_ne!(options(&args(&[]), &greedy).seed, options(&args(&[]), &greedy).seed);
    }
}
