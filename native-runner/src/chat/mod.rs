//! `chat`: turns with a model, on a terminal or through a pipe.

mod commands;
mod conversation;
mod input;
mod screen;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use webweft::error::Error;
use webweft::generate::{FinishReason, GenerateOptions};
use webweft::preprocess::ChatOptions;

use crate::args::{Chat, Shared};
use crate::built_in;
use crate::errors::CliError;
use crate::interrupt::{CANCELLED, Interrupt};
use crate::model::short_name;
use crate::open::{Opened, open};
use crate::sampling;
use crate::stats::Stats;
use crate::stdout::{write, write_line};
use commands::{Command, Entered, HELP, parse};
use conversation::Conversation;
use input::{Input, Read};
use screen::{Thoughts, colours};

/// New tokens of an answer at most, where nobody says.
const MAX_NEW_TOKENS: usize = 1024;

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Token { turn: usize, id: u32, text: &'a str },
    Done(&'a Done<'a>),
    Notice { text: &'a str },
}

/// The end of an answer.
#[derive(Serialize)]
struct Done<'a> {
    turn: usize,
    text: &'a str,
    ids: &'a [u32],
    finish_reason: &'static str,
    stats: &'a Stats,
}

/// Whether to go on after a turn.
#[derive(PartialEq, Eq)]
enum Next {
    Turn,
    Leave,
    /// Ctrl-C in a pipe, or twice
    Cancelled,
}

struct Session<'a> {
    opened: Opened,
    conversation: Conversation,
    options: GenerateOptions,
    chat: ChatOptions,
    interrupt: Interrupt,
    args: &'a Chat,
    shared: &'a Shared,
    terminal: bool,
    turn: usize,
    last: Option<Stats>,
}

/// Talks until the end of input.
pub fn run(args: &Chat, shared: &Shared) -> Result<ExitCode, CliError> {
    pollster::block_on(chat(args, shared))
}

async fn chat(args: &Chat, shared: &Shared) -> Result<ExitCode, CliError> {
    let mut opened = open(args.model.as_deref(), shared, args.context, args.prefill_chunk).await?;
    // whoever asks takes their time
    opened.begun = None;
    Box::pin(opened.set_assistant(args.sampling.assistant_model.as_deref(), shared)).await?;
    // what cannot chat says so before anybody types
    opened.session.chat_template().check().map_err(Error::from)?;
    opened.session.tokenizer()?;
    let mut options = sampling::of(&args.sampling, &opened.session, true);
    if args.sampling.max_new_tokens.is_none() && !opened.session.settings().contains_key("max_new_tokens") {
        options.max_new_tokens = MAX_NEW_TOKENS;
    }
    // it would end a long conversation rather than an answer
    options.max_length = None;
    options.check().map_err(Error::from)?;
    let chat = ChatOptions { variables: args.variables(), ..ChatOptions::default() };
    let mut input = Input::open(args.json)?;
    let terminal = input.is_terminal();
    let interrupt = Interrupt::catch()?;
    let cache = args.prompt_cache.open(&mut opened.session).await?;
    let conversation = Conversation::new(args.system.clone());
    let mut session =
        Session { opened, conversation, options, chat, interrupt, args, shared, terminal, turn: 0, last: None };
    if terminal {
        session.greet();
    }
    let next = session.turns(&mut input).await?;
    if let Some(cache) = cache {
        cache.save(&mut session.opened.session).await?;
    }
    session.opened.finish(shared)?;
    Ok(if next == Next::Cancelled { ExitCode::from(CANCELLED) } else { ExitCode::SUCCESS })
}

impl Session<'_> {
    async fn turns(&mut self, input: &mut Input) -> Result<Next, CliError> {
        let mut interrupted = false;
        loop {
            let read = input.next()?;
            if read == Read::Interrupted {
                if interrupted {
                    return Ok(Next::Cancelled);
                }
                interrupted = true;
                self.tell("Ctrl-C again leaves, and so does /exit")?;
                continue;
            }
            interrupted = false;
            let text = match read {
                Read::Text(text) if text.trim().is_empty() => continue,
                Read::Text(text) => text,
                _ => return Ok(Next::Leave),
            };
            let next = match parse(text) {
                Entered::Said(text) => {
                    self.conversation.ask(text);
                    self.answer().await
                }
                Entered::Command(command) => self.command(command).await,
                Entered::Wrong(problem) => {
                    self.tell(&problem)?;
                    continue;
                }
            };
            match next {
                Ok(Next::Turn) => {}
                // a person can say it otherwise; a script ends
                Err(CliError::Engine(error @ (Error::Chat(_) | Error::Generate(_)))) if self.terminal => {
                    let error = CliError::Engine(error).in_one_line();
                    self.tell(&format!("error: {error}"))?;
                }
                other => return other,
            }
        }
    }

    async fn command(&mut self, command: Command) -> Result<Next, CliError> {
        match command {
            Command::Exit => return Ok(Next::Leave),
            Command::Help => self.tell(HELP)?,
            Command::System(text) => {
                self.tell(if text.is_some() { "the system text is set" } else { "there is no system text now" })?;
                self.conversation.system = text;
            }
            Command::Reset => {
                self.conversation.reset();
                self.tell("a new conversation")?;
            }
            Command::Undo => {
                let undone = self.conversation.undo();
                self.tell(if undone { "the last question is taken back" } else { "nothing was said yet" })?;
            }
            Command::Regenerate => {
                if !self.conversation.take_back_answer() {
                    self.tell("nothing was said yet")?;
                    return Ok(Next::Turn);
                }
                // the same draws would make the same answer
                self.options.seed = self.options.seed.wrapping_add(1);
                return self.answer().await;
            }
            Command::Save(path) => {
                let saved = serde_json::to_vec_pretty(&serde_json::json!({ "messages": self.conversation.all() }))
                    .map_err(io::Error::from)
                    .and_then(|mut json| {
                        json.push(b'\n');
                        fs::write(&path, json)
                    });
                match saved {
                    Ok(()) => self.tell(&format!("written to {}", path.display()))?,
                    Err(source) if self.terminal => {
                        self.tell(&format!("{} cannot be written: {source}", path.display()))?
                    }
                    Err(source) => return Err(CliError::OutputFile { path, source }),
                }
            }
            Command::Stats => match &self.last {
                Some(stats) => {
                    stats.show();
                    let engine = self.opened.session.engine();
                    self.tell(&format!("{} of {} positions are taken", engine.cached().len(), engine.context()))?;
                }
                None => self.tell("nothing was said yet")?,
            },
        }
        Ok(Next::Turn)
    }

    /// Answers the last question; where that fails, the question is taken back.
    async fn answer(&mut self) -> Result<Next, CliError> {
        let result = Box::pin(self.try_to_answer()).await;
        if result.is_err() {
            self.conversation.undo();
        }
        result
    }

    async fn try_to_answer(&mut self) -> Result<Next, CliError> {
        let (prompt, thinking) = self.prompt()?;
        self.turn += 1;
        self.interrupt.clear();
        let mut thoughts = Thoughts::new(self.terminal && colours(), thinking);
        let (mut ids, mut said) = (Vec::new(), String::new());
        let mut generation = self.opened.session.generate_text(prompt.as_slice(), self.options.clone()).await?;
        while !self.interrupt.requested() {
            let piece = match generation.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    write(&(thoughts.end() + if self.args.json { "" } else { "\n" }))?;
                    return Err(error.into());
                }
            };
            ids.push(piece.id);
            said += &piece.text;
            if self.args.json {
                write_line(&Line::Token { turn: self.turn, id: piece.id, text: &piece.text })?;
            } else {
                write(&thoughts.push(&piece.text))?;
            }
        }
        let reason = generation.finish_reason();
        let tail = generation.flush()?;
        said += &tail;
        let timing = generation.timing();
        drop(generation);

        let finish_reason = reason.map_or("cancelled", FinishReason::name);
        let seed = (self.options.temperature > 0.0).then_some(self.options.seed);
        self.opened.tell_concessions(self.shared.quiet);
        let stats = Stats::of(&mut self.opened, prompt.len(), ids.len(), timing, seed);
        if self.args.json {
            write_line(&Line::Done(&Done { turn: self.turn, text: &said, ids: &ids, finish_reason, stats: &stats }))?;
        } else {
            // on a terminal turns stand apart
            let end = if self.terminal { "\n\n" } else { "\n" };
            write(&(thoughts.push(&tail) + &thoughts.end() + end))?;
        }
        self.opened.warn(self.shared);
        if self.shared.stats {
            stats.show();
        }
        self.last = Some(stats);
        if said.is_empty() && reason.is_none() {
            self.conversation.undo();
            self.tell("stopped before anything was said: the question is taken back")?;
            return Ok(if self.terminal { Next::Turn } else { Next::Cancelled });
        }
        self.conversation.answer(said);
        match reason {
            Some(FinishReason::Length) if prompt.len() + ids.len() >= self.opened.session.engine().context() => {
                self.tell("the answer ends here: the context is full")?;
            }
            Some(FinishReason::Length) if ids.len() >= self.options.max_new_tokens => {
                self.tell(&format!("the answer ends here: --max-new-tokens {}", self.options.max_new_tokens))?;
            }
            None if self.terminal => self.tell("stopped; what was said is kept (/undo takes it back)")?,
            None => return Ok(Next::Cancelled),
            _ => {}
        }
        Ok(Next::Turn)
    }

    /// The prompt, and whether it begins a thought. Where the context has no room for an answer, the oldest turns are left out.
    fn prompt(&mut self) -> Result<(Vec<u32>, bool), CliError> {
        let context = self.opened.session.engine().context();
        let room = self.options.max_new_tokens.min(context / 4).max(1);
        let mut left_out = 0;
        loop {
            let sent = self.conversation.sent();
            let ids = self.opened.session.chat_prompt(&sent, &self.chat)?;
            if ids.len() + room > context && self.conversation.leave_out_oldest() {
                left_out += 1;
                continue;
            }
            if left_out > 0 {
                let turns = if left_out == 1 { "the oldest turn is" } else { "the oldest turns are" };
                self.tell(&format!("the context of {context} tokens is full: {turns} forgotten from here on"))?;
            }
            let text = self.opened.session.chat_template().render(&sent, &self.chat).map_err(Error::from)?;
            return Ok((ids, text.trim_end().ends_with("<think>")));
        }
    }

    fn greet(&self) {
        let session = &self.opened.session;
        let name = short_name(self.args.model.as_deref().unwrap_or(built_in::NAME));
        let text = format!(
            "{name}, {}, up to {} tokens, on {}",
            session.precision().dtype.name(),
            session.engine().context(),
            self.opened.device.info(),
        );
        if !self.shared.quiet {
            let _ = self.tell(&format!("{text}\n/help tells what else can be said"));
        }
    }

    /// Says something that is no answer: dimmed on a terminal, on standard error in a pipe, an object with `--json`.
    fn tell(&self, text: &str) -> Result<(), CliError> {
        if self.args.json {
            return write_line(&Line::Notice { text });
        }
        let text = if self.terminal && colours() { format!("\x1b[2m{text}\x1b[0m\n") } else { format!("{text}\n") };
        // with no standard error left there is nobody to tell
        let _ = io::stderr().write_all(text.as_bytes());
        Ok(())
    }
}
