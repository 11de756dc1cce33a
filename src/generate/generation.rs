//! One generation: a sequence of an engine that somebody waits for.

use super::engine::Engine;
use super::sequence::SequenceId;
use super::{FinishReason, GenerateOptions};
use crate::error::{Error, GenerateError};

/// How long things took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Tokens of the prompt that were computed; the rest was in the cache.
    pub prefill_tokens: usize,
    /// From the start to the first token.
    pub prefill_ms: f64,
    /// Tokens after the first.
    pub decode_tokens: usize,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// Drafts that were verified, where tokens are guessed ([`GenerateOptions::prompt_lookup_num_tokens`]).
    pub drafted: usize,
    /// Those of them that became tokens: each saved a step.
    pub accepted: usize,
}

impl Timing {
    /// Tokens after the first to a step of the model: 1 where none was guessed. What was accepted and never given out counts as a step saved.
    #[must_use]
    pub fn tokens_per_step(&self) -> f64 {
        let steps = self.decode_tokens.saturating_sub(self.accepted).max(1);
        (self.decode_tokens as f64 / steps as f64).max(1.0)
    }
}

/// How likely a token was, before any processor and cut-off: natural logarithms of the softmax of the raw logits, as OpenAI's API
/// gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub logprob: f32,
    /// The most likely tokens, as many as were asked for, in descending order; the chosen one need not be among them.
    pub top: Vec<(u32, f32)>,
}

/// A generation under way. Dropping it at any time leaves the engine's cache with exactly the tokens that were given out: what
/// the GPU computed beyond them is rolled back.
#[derive(Debug)]
pub struct Generation<'e> {
    engine: &'e mut Engine,
    id: SequenceId,
}

impl Engine {
    /// Begins to generate after `prompt`. Where the cache holds its beginning, that is not computed again.
    ///
    /// # Errors
    /// [`GenerateError`] for a prompt or options that cannot be; those of the device.
    pub async fn generate(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation<'_>, Error> {
        self.resume(prompt, &[], options).await
    }

    /// As [`generate`](Self::generate), of a generation that has already given out `given`, on a device that is now lost, say:
    /// its next token is the one after these.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn resume(
        &mut self,
        prompt: &[u32],
        given: &[u32],
        options: GenerateOptions,
    ) -> Result<Generation<'_>, Error> {
        let id = self.add(prompt, given, options)?;
        // from here on it is removed, however this ends
        let generation = Generation { engine: self, id };
        generation.engine.begin(id).await?;
        Ok(generation)
    }

    /// Has the GPU begin, where nobody else is to be waited for.
    async fn begin(&mut self, id: SequenceId) -> Result<(), Error> {
        self.admit().await?;
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        if let Some(error) = sequence.failed.take() {
            return Err(error);
        }
        if sequence.is_on_host() {
            return Ok(());
        }
        let begun = self.run_ahead().await;
        self.or_concede(begun).await
    }
}

impl Generation<'_> {
    /// The next token, or `None` at the end; then [`Generation::finish_reason`] says why.
    ///
    /// # Errors
    /// [`GenerateError::NotANumber`] and [`GenerateError::NotFinite`]; those of the device.
    pub async fn next(&mut self) -> Result<Option<u32>, Error> {
        if self.on_host() {
            return self.next_with(|_, _| ()).await;
        }
        loop {
            if let Some(id) = self.engine.take(self.id) {
                return Ok(Some(id));
            }
            self.engine.check(self.id)?;
            if self.engine.is_over(self.id) {
                return Ok(None);
            }
            self.engine.turn().await?;
        }
    }

    /// As [`next`](Self::next), with a say in it: `process` is given the tokens so far, prompt included, and their logits
    /// `[V]` as the options' processors left them, which it may change before temperature and cut-offs. Minus infinity excludes
    /// a token. For grammars, and processors of one's own.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] where `lookahead` is not 0: the logits stay on the GPU then. Else as [`next`](Self::next).
    pub async fn next_with(&mut self, process: impl FnOnce(&[u32], &mut [f32])) -> Result<Option<u32>, Error> {
        if !self.on_host() {
            let got = self.engine.sequences.get(&self.id).map_or(0, |s| s.options.lookahead).to_string();
            let (name, expected) = ("lookahead", "0, where logits are to come to the host");
            return Err(GenerateError::Setting { name, got, expected }.into());
        }
        if !self.engine.is_over(self.id) {
            loop {
                match self.engine.fetch_logits(self.id).await {
                    Ok(()) => break,
                    failed => self.engine.or_concede(failed).await?,
                }
            }
            self.engine.choose(self.id, process)?;
        }
        Ok(self.engine.take(self.id))
    }

    fn on_host(&self) -> bool {
        self.engine.sequences.get(&self.id).is_some_and(|sequence| sequence.is_on_host())
    }

    /// How likely the last token was that was given out, where `logprobs` asks for it.
    #[must_use]
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.engine.logprobs(self.id)
    }

    /// Ends it after the token that was given out last.
    pub(super) fn stop(&mut self) {
        self.engine.stop(self.id);
    }

    /// Why it ended; `None` while it has not.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.engine.finish_reason(self.id)
    }

    /// How long it took so far.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.engine.timing(self.id)
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        self.engine.remove(self.id);
    }
}
