//! What the user says: lines of a terminal with history, or of a pipe.

use std::io::{self, BufRead, IsTerminal};

use rustyline::error::ReadlineError;
use rustyline::history::{History, MemHistory};
use rustyline::{Config, Editor};

use crate::errors::CliError;

/// Where lines come from.
pub enum Input {
    /// A person, who can edit.
    Terminal(Box<Editor<(), MemHistory>>),
    /// A script.
    Pipe(io::StdinLock<'static>),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A text, of one line or several.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

const BLOCK: &str = "\"\"\"";

impl Input {
    /// Standard input; lines can be edited where it is a terminal, and `plain` is not asked for.
    pub fn open(plain: bool) -> Result<Self, CliError> {
        let stdin = io::stdin();
        if plain || !(stdin.is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Pipe(stdin.lock()));
        }
        let editor = Editor::with_history(Config::default(), MemHistory::new()).map_err(broken)?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// Whether a person types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next text: one line, or several that a backslash or quotes hold together.
    pub fn next(&mut self) -> Result<Read, CliError> {
        let read = assemble(|first| self.line(if first { "> " } else { "… " }))?;
        if let (Self::Terminal(editor), Read::Text(text)) = (self, &read) {
            // a history that is full forgets by itself
            let _ = editor.history_mut().add(text);
        }
        Ok(read)
    }

    fn line(&mut self, prompt: &str) -> Result<Read, CliError> {
        match self {
            Self::Terminal(editor) => match editor.readline(prompt) {
                Ok(line) => Ok(Read::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
                Err(ReadlineError::Eof) => Ok(Read::End),
                Err(error) => Err(broken(error)),
            },
            Self::Pipe(stdin) => {
                let mut bytes = Vec::new();
                if stdin.read_until(b'\n', &mut bytes).map_err(CliError::Stdin)? == 0 {
                    return Ok(Read::End);
                }
                let mut line = String::from_utf8(bytes)
                    .map_err(|error| CliError::PromptNotUtf8 { at: error.utf8_error().valid_up_to() })?;
                if line.ends_with('\n') {
                    line.pop();
                }
                if line.ends_with('\r') {
                    line.pop();
                }
                Ok(Read::Text(line))
            }
        }
    }
}

fn broken(error: ReadlineError) -> CliError {
    CliError::Stdin(match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other),
    })
}

/// Joins lines: `line` is asked for the first one, then for those that follow it. What is blank is passed over.
fn assemble(mut line: impl FnMut(bool) -> Result<Read, CliError>) -> Result<Read, CliError> {
    let mut text = match line(true)? {
        Read::Text(text) => text,
        other => return Ok(other),
    };
    let block = text.trim_start().strip_prefix(BLOCK).map(str::to_owned);
    if let Some(first) = block {
        // `"""all of it"""`, or up to the line that ends with quotes
        let mut all = first;
        while !all.trim_end().ends_with(BLOCK) {
            match line(false)? {
                Read::Text(more) => all = if all.is_empty() { more } else { format!("{all}\n{more}") },
                Read::Interrupted => return Ok(Read::Interrupted),
                Read::End => return Ok(Read::Text(all)),
            }
        }
        let all = all.trim_end();
        let all = all.strip_suffix(BLOCK).unwrap_or(all);
        return Ok(Read::Text(all.strip_suffix('\n').unwrap_or(all).to_owned()));
    }
    while let Some(before) = text.strip_suffix('\\') {
        match line(false)? {
            Read::Text(more) => text = format!("{before}\n{more}"),
            Read::Interrupted => return Ok(Read::Interrupted),
            Read::End => return Ok(Read::Text(before.to_owned())),
        }
    }
    Ok(Read::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mut lines = text.lines().map(str::to_owned);
        let mut all = Vec::new();
        while let Ok(Read::Text(text)) = assemble(|_| Ok(lines.next().map_or(Read::End, Read::Text))) {
            all.push(text);
        }
        all
    }

    #[test]
    fn lines_are_held_together() {
        assert_eq!(read("a\nb"), ["a", "b"]);
        assert_eq!(read("a\\\nb \\\nc\nd"), ["a\nb \nc", "d"]);
        assert_eq!(read("\"\"\"a\n\n  b\\\nc\"\"\"\nd"), ["a\n\n  b\\\nc", "d"]);
        assert_eq!(read("\"\"\"\na\nb\n\"\"\" \nc"), ["a\nb", "c"]);
        assert_eq!(read("\"\"\"one\"\"\""), ["one"]);
        assert_eq!(read("\"\"\"never\nclosed"), ["never\nclosed"]);
        assert_eq!(read("open\\"), ["open"]);
        assert_eq!(read("say \"\"\"x\"\"\""), ["say \"\"\"x\"\"\""]);
    }
}
