//! `generate --file`: many prompts, several at once.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use webweft::generate::{Event, Piece, SequenceId, Timing};
use webweft::managers::batch::Strategy;
use webweft::managers::tune::Workload;
use webweft::session::Session;
use webweft::step::MAX_SLOTS;

use crate::args::{Generate, Shared};
use crate::errors::CliError;
use crate::interrupt::{CANCELLED, Interrupt};
use crate::open::{Opened, open};
use crate::progress::Bar;
use crate::prompt::Prompt;
use crate::prompts::{self, Request};
use crate::stats::memory_table;
use crate::{sampling, tune};

/// Flags of `generate` for many prompts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many prompts")]
pub struct BatchArgs {
    /// A file with a prompt in each line, `-` for standard input; empty lines are left out. Results come in the order of the lines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "prompt_ids", "logprobs", "prompt_cache"])]
    pub file: Option<PathBuf>,
    /// The lines are JSON objects: `prompt`, a text or token ids, and settings by the names of the flags (`max_new_tokens`)
    #[arg(long, requires = "file", conflicts_with_all = ["prompt", "prompt_ids"])]
    pub jsonl: bool,
    /// How many run at once; auto: as many as `tune` found best, or else as many as memory holds [default: auto]
    #[arg(long, value_name = "N|auto", requires = "file", conflicts_with_all = ["prompt", "prompt_ids"])]
    pub batch: Option<BatchSize>,
    /// When waiting prompts begin: fixed:N, timeout:N:TIME, memory-aware or latency-aware:TIME (TIME: 50ms, 0.5s)
    #[arg(long, value_name = "STRATEGY", requires = "file", conflicts_with_all = ["batch", "prompt", "prompt_ids"])]
    pub batch_strategy: Option<Strategy>,
}

/// `--batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// As `tune` found.
    Auto,
    /// So many.
    Of(u32),
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(n) if (1..=MAX_SLOTS).contains(&n) => Ok(Self::Of(n)),
            _ => Err(format!("give a number from 1 to {MAX_SLOTS}, or auto")),
        }
    }
}

/// What came of a prompt so far.
#[derive(Clone, Debug, Default)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Finished(&'static str, Timing),
    Failed(String),
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Done { index: usize, text: &'a str, ids: &'a [u32], tokens: usize, finish_reason: &'static str, timing: Times },
    Failed { index: usize, error: &'a str },
}

/// Milliseconds, and the tokens that took them.
#[derive(Serialize)]
struct Times {
    prefill_tokens: usize,
    prefill_ms: f64,
    decode_tokens: usize,
    decode_ms: f64,
}

/// Answers, written in the order of their prompts as soon as those before are.
struct Answers {
    all: Vec<Answer>,
    written: usize,
    json: bool,
}

/// Generates after every prompt of `file`.
pub async fn generate(args: &Generate, shared: &Shared, file: &Path) -> Result<ExitCode, CliError> {
    // what is wrong with the file is told before a model is loaded
    let requests = prompts::read(file, args.batch.jsonl, &args.sampling)?;
    let mut opened = Box::pin(open(args.model.as_deref(), shared, args.context, args.prefill_chunk)).await?;
    Box::pin(opened.set_assistant(args.sampling.assistant_model.as_deref(), shared)).await?;
    let strategy = strategy(args, shared, &opened).await?;
    opened.session.set_strategy(strategy);
    let interrupt = Interrupt::catch()?;
    let mut answers = Answers { all: vec![Answer::default(); requests.len()], written: 0, json: args.json };
    let bar = Bar::new(shared, "{msg} {wide_bar} {pos}/{len} prompts", "", requests.len());
    let started = Instant::now();
    let ids = add(&mut opened.session, requests, &mut answers);
    while answers.open() && !interrupt.requested() {
        let events = Box::pin(opened.session.step()).await?;
        if events.is_empty() {
            break;
        }
        for (id, event) in events {
            if let Some(&index) = ids.get(&id) {
                answers.take(index, event);
            }
        }
        bar.hide(|| answers.write(false))?;
        let speed = answers.tokens() as f64 / started.elapsed().as_secs_f64().max(1e-6);
        bar.set(answers.ended(), format!("{speed:.0} tokens/s, {} running", answers.running()));
    }
    let cancelled = answers.open();
    drop(bar);
    answers.write(true)?;
    opened.warn(shared);
    if shared.stats {
        opened.tell_concessions(shared.quiet);
        show(&answers, strategy, started.elapsed().as_secs_f64(), &opened);
    }
    opened.finish(shared)?;
    let failed = answers.all.iter().filter(|answer| matches!(answer.end, Some(End::Failed(_)))).count();
    match (failed, cancelled) {
        (_, true) => Ok(ExitCode::from(CANCELLED)),
        (0, _) => Ok(ExitCode::SUCCESS),
        _ => Err(CliError::PromptsFailed { failed, of: answers.all.len() }),
    }
}

/// The strategy that the flags ask for, or what `tune` remembers.
async fn strategy(args: &Generate, shared: &Shared, opened: &Opened) -> Result<Strategy, CliError> {
    if let Some(strategy) = args.batch.batch_strategy {
        return Ok(strategy);
    }
    if let Some(BatchSize::Of(sequences)) = args.batch.batch {
        return Ok(Strategy::Fixed { sequences });
    }
    let best = tune::best_known(args.model.as_deref(), shared, opened, Workload::Throughput).await?;
    Ok(best.map_or(Strategy::MemoryAware, |sequences| Strategy::Fixed { sequences }))
}

/// Adds all of them; what is wrong with one is its own end.
fn add(session: &mut Session, requests: Vec<Request>, answers: &mut Answers) -> HashMap<SequenceId, usize> {
    let mut ids = HashMap::new();
    for (index, Request { prompt, sampling }) in requests.into_iter().enumerate() {
        let options = sampling::of(&sampling, session, false);
        let added = match &prompt {
            Prompt::Text(text) => session.add(text.as_str(), options),
            Prompt::Ids(list) => session.add(list.as_slice(), options),
        };
        match added {
            Ok(id) => {
                ids.insert(id, index);
            }
            Err(error) => answers.take(index, Event::Failed(error)),
        }
    }
    ids
}

impl Answers {
    fn take(&mut self, index: usize, event: Event) {
        let answer = &mut self.all[index];
        match event {
            Event::Piece(Piece { id, text, .. }) => {
                answer.ids.push(id);
                answer.text += &text;
            }
            Event::Finished { reason, timing } => answer.end = Some(End::Finished(reason.name(), timing)),
            Event::Failed(error) => answer.end = Some(End::Failed(CliError::from(error).in_one_line())),
        }
    }

    fn ended(&self) -> usize {
        self.all.iter().filter(|answer| answer.end.is_some()).count()
    }

    fn open(&self) -> bool {
        self.ended() < self.all.len()
    }

    fn running(&self) -> usize {
        self.all.iter().filter(|answer| answer.end.is_none() && !answer.ids.is_empty()).count()
    }

    fn tokens(&self) -> usize {
        self.all.iter().map(|answer| answer.ids.len()).sum()
    }

    /// Writes what is due; at the end also what was broken off.
    fn write(&mut self, end: bool) -> Result<(), CliError> {
        let (mut out, mut problems) = (String::new(), String::new());
        while let Some(answer) = self.all.get(self.written).filter(|answer| end || answer.end.is_some()) {
            let index = self.written;
            match (&answer.end, self.json) {
                (Some(End::Failed(error)), false) => problems += &format!("error: prompt {}: {error}\n", index + 1),
                (_, false) => out += &format!("{}{}\n", if index > 0 { "\n" } else { "" }, answer.text),
                (_, true) => {
                    let line = serde_json::to_string(&answer.line(index));
                    out += &line.map_err(|error| CliError::Stdout(error.into()))?;
                    out.push('\n');
                }
            }
            self.written += 1;
        }
        let _ = io::stderr().write_all(problems.as_bytes());
        let mut stdout = io::stdout().lock();
        stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Stdout)
    }
}

impl Answer {
    fn line(&self, index: usize) -> Line<'_> {
        let (finish_reason, timing) = match &self.end {
            Some(End::Failed(error)) => return Line::Failed { index, error },
            Some(End::Finished(reason, timing)) => (*reason, *timing),
            None => ("cancelled", Timing::default()),
        };
        let Timing { prefill_tokens, prefill_ms, decode_tokens, decode_ms, .. } = timing;
        let timing = Times { prefill_tokens, prefill_ms, decode_tokens, decode_ms };
        Line::Done { index, text: &self.text, ids: &self.ids, tokens: self.ids.len(), finish_reason, timing }
    }
}

/// `--stats`.
fn show(answers: &Answers, strategy: Strategy, seconds: f64, opened: &Opened) {
    let tokens = answers.tokens();
    let text = format!(
        "{} prompts, {tokens} tokens in {seconds:.2} s: {:.1} tokens/s, {strategy}\n{}",
        answers.all.len(),
        tokens as f64 / seconds.max(1e-6),
        memory_table(&opened.device.ledger().snapshot())
    );
    let _ = io::stderr().write_all(text.as_bytes());
}
