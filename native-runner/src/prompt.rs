//! Where the prompt comes from.

use std::io::{self, IsTerminal, Read};

use webweft::session::Session;

use crate::args::Generate;
use crate::errors::CliError;

/// What to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// To be tokenized.
    Text(String),
    /// As the model takes it.
    Ids(Vec<u32>),
}

impl Prompt {
    /// From the arguments, or else all of standard input, less one line break at its end.
    pub fn read(args: &Generate) -> Result<Self, CliError> {
        if let Some(ids) = &args.prompt_ids {
            return Ok(Self::Ids(ids.0.clone()));
        }
        if let Some(text) = &args.prompt {
            return Ok(Self::Text(text.clone()));
        }
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(CliError::NoPrompt);
        }
        let mut bytes = Vec::new();
        stdin.lock().read_to_end(&mut bytes).map_err(CliError::Stdin)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| CliError::PromptNotUtf8 { at: error.utf8_error().valid_up_to() })?;
        let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |rest| rest.strip_suffix('\r').unwrap_or(rest));
        Ok(Self::Text(trimmed.to_owned()))
    }

    /// Its ids, and its text where one can be shown.
    pub fn resolve(self, session: &Session) -> Result<(Vec<u32>, String), CliError> {
        match self {
            Self::Text(text) => Ok((session.encode(&text)?, text)),
            Self::Ids(ids) => {
                let text = match session.tokenizer() {
                    Ok(tokenizer) => tokenizer.decode(&ids, true).map_err(webweft::error::Error::from)?,
                    Err(_) => String::new(),
                };
                Ok((ids, text))
            }
        }
    }
}
