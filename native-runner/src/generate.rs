//! `generate`: a prompt and what follows it.

use std::process::ExitCode;

use webweft::generate::{GenerateOptions, Timing};

use crate::args::{Generate, Shared};
use crate::batch;
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
    text: String,
    /// held back when it was broken off
    tail: String,
    finish_reason: &'static str,
    timing: Timing,
}

/// Generates, and tells how it ended.
pub fn run(args: &Generate, shared: &Shared) -> Result<ExitCode, CliError> {
    if let Some(file) = &args.batch.file {
        return pollster::block_on(batch::generate(args, shared, file));
    }
    let prompt = Prompt::read(args)?;
    pollster::block_on(generate(args, shared, prompt))
}

async fn generate(args: &Generate, shared: &Shared, prompt: Prompt) -> Result<ExitCode, CliError> {
    let mut opened = open(args.model.as_deref(), shared, args.context, args.prefill_chunk).await?;
    Box::pin(opened.set_assistant(args.sampling.assistant_model.as_deref(), shared)).await?;
    let (prompt, shown) = prompt.resolve(&opened.session)?;
    let mut options = sampling::of(&args.sampling, &opened.session, false);
    options.logprobs = args.logprobs.or(options.logprobs);
    let seed = (options.temperature > 0.0).then_some(options.seed);
    let interrupt = Interrupt::catch()?;
    let cache = args.prompt_cache.open(&mut opened.session).await?;

    let outcome = Box::pin(stream(&mut opened, &prompt, &shown, options, args.json, &interrupt)).await;
    let (output, outcome) = outcome?;
    opened.tell_concessions(shared.quiet);
    let stats = Stats::of(&mut opened, prompt.len(), outcome.ids.len(), outcome.timing, seed);
    let Outcome { ids, text, tail, finish_reason, .. } = &outcome;
    output.done(&Done { ids, text, tail, finish_reason, stats: &stats })?;
    opened.warn(shared);
    if shared.stats {
        stats.show();
    }
    if let Some(cache) = cache {
        cache.save(&mut opened.session).await?;
    }
    opened.finish(shared)?;
    let cancelled = *finish_reason == "cancelled";
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
    let tokenizer = opened.session.tokenizer().ok().cloned();
    // what is wrong with the request is told before anything is written
    let mut generation = opened.session.generate_text(prompt, options).await?;
    let mut output = Output::begin(json, tokenizer, shown)?;
    let (mut ids, mut text) = (Vec::new(), String::new());
    while !interrupt.requested() {
        let piece = match generation.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                output.broken_off();
                return Err(error.into());
            }
        };
        ids.push(piece.id);
        text += &piece.text;
        output.token(&piece)?;
    }
    let finish_reason = generation.finish_reason().map_or("cancelled", |reason| reason.name());
    let tail = generation.flush()?;
    text += &tail;
    let timing = generation.timing();
    Ok((output, Outcome { ids, text, tail, finish_reason, timing }))
}
