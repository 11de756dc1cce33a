//! `generate`: a prompt and what follows it.

use std::process::ExitCode;

use webweft::error::Error;
use webweft::generate::{GenerateOptions, Timing};
use webweft::preprocess::TextStream;

use crate::args::{Generate, Shared};
use crate::errors::CliError;
use crate::interrupt::{CANCELLED, Interrupt};
use crate::open::{Opened, open};
use crate::prompt::Prompt;
use crate::sampling;
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
    let options = sampling::options(&args.sampling, opened.session.defaults());
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
