//! Generated tokens on standard output, as they come.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use webweft::generate::{Logprobs, Piece};
use webweft::preprocess::Tokenizer;

use crate::errors::CliError;
use crate::stats::Stats;

/// How tokens are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The text.
    Text,
    /// Ids with commas between: there is no tokenizer.
    Ids,
    /// One object per line.
    Json,
}

/// Standard output.
#[derive(Debug)]
pub struct Output {
    form: Form,
    tokens: usize,
    /// the prompt was written, and dimmed
    echo: bool,
    tokenizer: Option<Tokenizer>,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    /// One token, and the text that it completes.
    Token {
        id: u32,
        text: &'a str,
        /// Natural logarithm of its probability, before penalties and cut-offs.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprob: Option<f32>,
        /// The most likely tokens, in descending order.
        #[serde(skip_serializing_if = "Option::is_none")]
        top_logprobs: Option<Vec<Alternative>>,
    },
    /// The end.
    Done(&'a Done<'a>),
}

/// A token that could have come.
#[derive(Serialize)]
struct Alternative {
    id: u32,
    /// its own, special tokens by their names
    text: String,
    logprob: f32,
}

/// What `--json` says at the end.
#[derive(Debug, Serialize)]
pub struct Done<'a> {
    /// All new tokens.
    pub ids: &'a [u32],
    /// Their text, special tokens and a stop string left out; empty without a tokenizer.
    pub text: &'a str,
    /// Text that no token's line has: it was held back when the text was cancelled.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub tail: &'a str,
    /// `stop`, `length` or `cancelled`.
    pub finish_reason: &'static str,
    /// Times, speeds, memory.
    pub stats: &'a Stats,
}

impl Output {
    /// In plain form, the text follows `prompt` on a terminal.
    pub fn begin(json: bool, tokenizer: Option<Tokenizer>, prompt: &str) -> Result<Self, CliError> {
        let form = match (json, tokenizer.is_some()) {
            (true, _) => Form::Json,
            (false, true) => Form::Text,
            (false, false) => Form::Ids,
        };
        let echo = form == Form::Text && io::stdout().is_terminal();
        let this = Self { form, tokens: 0, echo, tokenizer };
        if this.echo {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            this.write(&if plain { prompt.to_owned() } else { format!("\x1b[2m{prompt}\x1b[0m") })?;
        }
        Ok(this)
    }

    /// A token and the text that it completes.
    pub fn token(&mut self, piece: &Piece) -> Result<(), CliError> {
        let Piece { id, text, logprobs } = piece;
        self.tokens += 1;
        match self.form {
            Form::Text => self.write(text),
            Form::Ids if self.tokens == 1 => self.write(&id.to_string()),
            Form::Ids => self.write(&format!(",{id}")),
            Form::Json => {
                let logprob = logprobs.as_ref().map(|l| l.logprob);
                let top_logprobs = logprobs.as_ref().map(|l| self.alternatives(l));
                self.line(&Line::Token { id: *id, text, logprob, top_logprobs })
            }
        }
    }

    fn alternatives(&self, logprobs: &Logprobs) -> Vec<Alternative> {
        let named = |&(id, logprob): &(u32, f32)| {
            let bytes = self.tokenizer.as_ref().map(|tokenizer| tokenizer.token_bytes(id)).unwrap_or_default();
            Alternative { id, text: String::from_utf8_lossy(&bytes).into_owned(), logprob }
        };
        logprobs.top.iter().map(named).collect()
    }

    /// The end.
    pub fn done(&self, done: &Done<'_>) -> Result<(), CliError> {
        match self.form {
            Form::Text => self.write(&format!("{}\n", done.tail)),
            Form::Ids => self.write("\n"),
            Form::Json => self.line(&Line::Done(done)),
        }
    }

    /// An error ends the text: what follows on the terminal begins on a line of its own.
    pub fn broken_off(&self) {
        if self.form != Form::Json && (self.tokens > 0 || self.echo) {
            let _ = self.write("\n");
        }
    }

    fn line(&self, line: &Line<'_>) -> Result<(), CliError> {
        let mut text = serde_json::to_string(line).map_err(|error| CliError::Stdout(error.into()))?;
        text.push('\n');
        self.write(&text)
    }

    fn write(&self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Stdout)
    }
}
