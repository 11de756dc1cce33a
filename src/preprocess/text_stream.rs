//! Text as it is generated, token by token.

use super::Tokenizer;
use crate::error::TokenizerError;

/// Tokens that may wait for the rest of a character. A character takes at most 4, so what waits longer is no character.
const MAX_PENDING: usize = 32;
/// Tokens of the prompt to begin with; more only where they begin inside a character.
const CONTEXT: usize = 8;
/// Most tokens of the prompt that are looked at.
const MAX_CONTEXT: usize = 64;
/// What stands for bytes that are no character, or not yet.
const UNKNOWN: char = '\u{FFFD}';

/// Turns ids into text as they come.
///
/// The pieces, joined, are `decode(prompt + ids)` less `decode(prompt)`. So the space before the first word is kept,
/// which `decode(ids)` drops for vocabularies that write spaces into words. A character that is spread over several
/// tokens is held back until it is whole; where the prompt itself ends inside a character, that character is given whole.
/// Only where a model emits bytes that are no UTF-8 may the number of U+FFFD differ from that of `decode`, which
/// takes back characters that were given out before.
///
/// What a token adds depends on its neighbours, so it is found as the difference of two decodings of a short window
/// (as in Hugging Face's text-generation-inference). The window is bounded, hence so is the cost of a token.
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    skip_special_tokens: bool,
    /// The window: context, then tokens whose text is still to come. Ids that give no text are not in it.
    ids: Vec<u32>,
    /// Where the context ends.
    read: usize,
    /// Text of the context.
    context: String,
}

impl TextStream {
    pub(super) fn new(tokenizer: Tokenizer, prompt: &[u32], skip_special_tokens: bool) -> Result<Self, TokenizerError> {
        let decoded = |id: &u32| tokenizer.is_decoded(*id, skip_special_tokens);
        let mut tail: Vec<u32> = prompt.iter().rev().copied().filter(decoded).take(MAX_CONTEXT).collect();
        tail.reverse();
        let mut length = CONTEXT;
        // A window that begins inside a character would spoil a whole run of bytes.
        let (ids, mut context) = loop {
            let ids = &tail[tail.len().saturating_sub(length)..];
            let text = tokenizer.decode(ids, skip_special_tokens)?;
            if ids.len() == tail.len() || !text.starts_with(UNKNOWN) {
                break (ids.to_vec(), text);
            }
            length *= 2;
        };
        let mut read = ids.len();
        if context.ends_with(UNKNOWN) {
            for end in (ids.len().saturating_sub(3)..ids.len()).rev() {
                let text = tokenizer.decode(&ids[..end], skip_special_tokens)?;
                if !text.ends_with(UNKNOWN) {
                    (read, context) = (end, text);
                    break;
                }
            }
        }
        Ok(Self { tokenizer, skip_special_tokens, ids, read, context })
    }

    /// Takes the next id and returns the text that it completes, often none.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        if !self.tokenizer.is_decoded(id, self.skip_special_tokens) {
            return Ok(String::new());
        }
        self.ids.push(id);
        let text = self.decode(0, self.ids.len())?;
        if !text.ends_with(UNKNOWN) {
            let new = self.new_text(&text)?;
            if !new.is_empty() {
                self.advance(self.ids.len())?;
                return Ok(new);
            }
        }
        if self.ids.len() - self.read < MAX_PENDING {
            return Ok(String::new());
        }
        self.give_way(&text)
    }

    /// What is still held back, U+FFFD in place of what is no character. The stream can go on afterwards.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn flush(&mut self) -> Result<String, TokenizerError> {
        if self.read == self.ids.len() {
            return Ok(String::new());
        }
        let text = self.decode(0, self.ids.len())?;
        let new = self.new_text(&text)?;
        self.advance(self.ids.len())?;
        Ok(new)
    }

    fn decode(&self, from: usize, to: usize) -> Result<String, TokenizerError> {
        self.tokenizer.decode(&self.ids[from..to], self.skip_special_tokens)
    }

    /// What `text`, the text of the window, has beyond that of the context.
    fn new_text(&self, text: &str) -> Result<String, TokenizerError> {
        match text.strip_prefix(self.context.as_str()) {
            Some(new) => Ok(new.to_owned()),
            // Bytes that are no UTF-8 spoil the characters before them, which are out already: the rest by itself.
            None => self.decode(self.read, self.ids.len()),
        }
    }

    /// Ends the context at `to`, and begins it where it ended before: both are borders of characters.
    fn advance(&mut self, to: usize) -> Result<(), TokenizerError> {
        self.ids.drain(..self.read);
        self.read = to - self.read;
        self.context = self.decode(0, self.read)?;
        Ok(())
    }

    /// Too many tokens wait: gives out what cannot become a character, but for a tail that still may.
    fn give_way(&mut self, text: &str) -> Result<String, TokenizerError> {
        let len = self.ids.len();
        for cut in (len - 4..len).rev() {
            let head = self.decode(0, cut)?;
            let tail = self.decode(cut, len)?;
            // A cut inside a character shows: its two halves are more U+FFFD than the whole.
            let whole = text.strip_prefix(head.as_str()) == Some(tail.as_str());
            if let (true, Some(new)) = (whole, head.strip_prefix(self.context.as_str())) {
                let new = new.to_owned();
                self.advance(cut)?;
                return Ok(new);
            }
        }
        self.flush()
    }
}
