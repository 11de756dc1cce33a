//! Text, token by token.

use super::stop::StopStrings;
use super::{Engine, FinishReason, GenerateOptions, Generation, Logprobs, Timing};
use crate::error::{Error, GenerateError};
use crate::preprocess::{TextStream, Tokenizer};

/// A token, and what it adds to the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// The token.
    pub id: u32,
    /// The text that is certain with it: empty while a character is incomplete, or while a stop string may have begun. The last
    /// piece has all that was held back.
    pub text: String,
    /// How likely the token was, where [`GenerateOptions::logprobs`] asks for it.
    pub logprobs: Option<Logprobs>,
}

/// What makes text of a sequence's tokens, and ends it.
#[derive(Debug)]
pub(super) struct Text {
    /// `None` without a tokenizer: the texts are empty
    stream: Option<TextStream>,
    stops: StopStrings,
    /// special tokens that stop strings name
    stop_ids: Vec<u32>,
}

impl Text {
    /// What follows `prompt`, by `tokenizer`, if the model has one.
    pub fn new(tokenizer: Option<&Tokenizer>, prompt: &[u32], options: &GenerateOptions) -> Result<Self, Error> {
        if tokenizer.is_none() && !options.stop_strings.is_empty() {
            let (name, expected) = ("stop_strings", "none, since the model has no tokenizer.json");
            return Err(GenerateError::Setting { name, got: format!("{:?}", options.stop_strings), expected }.into());
        }
        let stream = tokenizer.map(|t| t.text_stream(prompt, true)).transpose()?;
        let stops = StopStrings::new(&options.stop_strings);
        let mut stop_ids = Vec::new();
        for (tokenizer, stop) in tokenizer.iter().flat_map(|t| options.stop_strings.iter().map(move |s| (t, s))) {
            // only special ones: others give text
            if let Some(id) = tokenizer.token_to_id(stop)
                && tokenizer.decode(&[id], true)?.is_empty()
            {
                stop_ids.push(id);
            }
        }
        Ok(Self { stream, stops, stop_ids })
    }

    /// The text that a token makes certain, and whether it ends the text. `is_last`: whether no more tokens come.
    pub fn read(&mut self, id: u32, is_last: bool) -> Result<(String, bool), Error> {
        let mut text = String::new();
        let mut stopped = false;
        if let Some(stream) = &mut self.stream {
            stopped = self.stops.push(&stream.push(id)?, &mut text) || self.stop_ids.contains(&id);
            if !stopped && is_last {
                stopped = self.stops.push(&stream.flush()?, &mut text);
            }
        }
        if is_last || stopped {
            text += &self.stops.flush();
        }
        Ok((text, stopped))
    }

    /// What is still held back.
    pub fn flush(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        if let Some(stream) = &mut self.stream {
            self.stops.push(&stream.flush()?, &mut text);
        }
        Ok(text + &self.stops.flush())
    }
}

/// A text under way: a [`Generation`] whose tokens become text, and which stop strings end.
///
/// The pieces' texts, joined, continue the prompt; special tokens are left out of them, and a stop string with all that follows
/// it, too (OpenAI's rule). The ids go up to and include the token that completed the stop string. A stop string that is a
/// special token's name (`<|im_end|>`) stops at that token. With a lookahead, what the GPU computed beyond the end is rolled
/// back.
#[derive(Debug)]
pub struct TextGeneration<'e> {
    generation: Generation<'e>,
    text: Text,
}

impl Engine {
    /// Begins to generate text after `prompt`, or goes on after `given`, whose text was given out as well as it
    /// ([`Engine::resume`]); `tokenizer` is that of the model, if it has one.
    ///
    /// # Errors
    /// As [`Engine::generate`]; [`GenerateError::Setting`] where there are stop strings and no tokenizer; those of the tokenizer.
    pub async fn generate_text(
        &mut self,
        tokenizer: Option<&Tokenizer>,
        prompt: &[u32],
        given: &[u32],
        options: GenerateOptions,
    ) -> Result<TextGeneration<'_>, Error> {
        let mut text = Text::new(tokenizer, prompt, &options)?;
        let generation = self.resume(prompt, given, options).await?;
        given.iter().try_for_each(|&id| text.read(id, generation.finish_reason().is_some()).map(|_| ()))?;
        Ok(TextGeneration { generation, text })
    }
}

impl TextGeneration<'_> {
    /// The next token and its text, or `None` at the end; then [`finish_reason`](Self::finish_reason) says why.
    ///
    /// # Errors
    /// As [`Generation::next`]; those of the tokenizer.
    pub async fn next(&mut self) -> Result<Option<Piece>, Error> {
        let Some(id) = self.generation.next().await? else { return Ok(None) };
        let (text, stopped) = self.text.read(id, self.generation.finish_reason().is_some())?;
        if stopped {
            self.generation.stop();
        }
        Ok(Some(Piece { id, text, logprobs: self.generation.logprobs().cloned() }))
    }

    /// What is still held back; for a text that is broken off. Empty after its end.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn flush(&mut self) -> Result<String, Error> {
        self.text.flush()
    }

    /// Why it ended; `None` while it has not.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.generation.finish_reason()
    }

    /// How long it took so far.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.generation.timing()
    }
}
