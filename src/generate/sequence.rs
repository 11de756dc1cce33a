//! One sequence of an engine, as the host knows it.

use web_time::Instant;

use super::processors::Processors;
use super::{FinishReason, GenerateOptions, Logprobs, Timing};
use crate::error::Error;
use crate::managers::blocks::{self, Blocks};
use crate::shaders::Sampling;

/// A sequence of an [`Engine`](super::Engine).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u64);

/// What is to be continued, and how far it is.
#[derive(Debug)]
pub(super) struct Sequence {
    pub options: GenerateOptions,
    pub sampling: Sampling,
    /// tokens that are guessed at each step at most, by prompt lookup or an assistant
    pub drafts: u32,
    /// where the options ask for something of the kind
    pub processors: Option<Processors>,
    /// all tokens so far: the prompt, and what was sampled, as far as it was read back
    pub ids: Vec<u32>,
    /// tokens of the prompt, and the most that may follow
    pub prompt: usize,
    pub limit: usize,
    /// where in the cache it is; `None` while it waits
    pub place: Option<blocks::SequenceId>,
    /// while it waits: where another sequence was that it goes on from
    pub forked: Option<blocks::SequenceId>,
    pub slot: Option<u32>,
    /// leading tokens whose step is submitted, where the host gives them
    pub filled: usize,
    /// leading tokens that the cache is known to hold
    pub confirmed: usize,
    /// whether the GPU feeds itself: the last token that the host gives is submitted
    pub running: bool,
    /// steps that sample for it, submitted and not yet read back
    pub submitted: usize,
    /// the most tokens that these may give it
    pub ahead: usize,
    /// new tokens that were given out
    pub delivered: usize,
    /// new tokens after which the whole sequence is computed again: its rotary frequencies change
    pub reach: usize,
    pub finish: Option<FinishReason>,
    /// told once the tokens before it are given out
    pub failed: Option<Error>,
    /// of the token that was chosen last
    pub logprobs: Option<Logprobs>,
    pub started: Instant,
    pub first_token: Option<Instant>,
    pub timing: Timing,
}

impl Sequence {
    /// New tokens so far, given out or not.
    pub fn sampled(&self) -> usize {
        self.ids.len() - self.prompt
    }

    /// Whether nothing more is to be computed.
    pub fn is_over(&self) -> bool {
        self.finish.is_some() || self.failed.is_some()
    }

    /// Whether the host samples: then it runs alone.
    pub fn is_on_host(&self) -> bool {
        self.options.lookahead == 0
    }

    /// New tokens after which the GPU stops by itself.
    pub fn stop_at(&self) -> usize {
        self.limit.min(self.reach)
    }

    /// Tells the policy that the cache holds the first `end` tokens, and will.
    pub fn confirm(&mut self, blocks: &mut Blocks, end: usize) {
        if let (Some(place), true) = (self.place, end > self.confirmed) {
            blocks.confirm(place, &self.ids[self.confirmed..end]);
            self.confirmed = end;
        }
    }

    /// It no longer feeds itself: the host gives its last token again. Nothing of it is under way.
    pub fn halt(&mut self) {
        if self.running {
            self.running = false;
            self.filled = self.ids.len() - 1;
        }
    }

    /// Gives its blocks back, as they are: it waits for others, and for all of it to be computed again.
    pub fn give_way(&mut self, blocks: &mut Blocks) {
        if let Some(place) = self.place.take() {
            blocks.end(place);
        }
        (self.slot, self.running, self.filled, self.confirmed) = (None, false, 0, 0);
    }

    /// Positions that it takes at most once steps for `tokens` more are submitted; the last token sampled is never fed.
    pub fn end(&self, tokens: usize) -> usize {
        (self.ids.len() - 1 + self.ahead + tokens).min(self.prompt + self.stop_at())
    }

    /// Steps that are still to be submitted, where as many drafts are accepted as so far.
    pub fn remaining(&self) -> usize {
        let left = self.stop_at().saturating_sub(self.sampled());
        let sampled = self.sampled().max(1);
        let steps = sampled.saturating_sub(self.timing.accepted).max(1);
        left.saturating_mul(steps).div_ceil(sampled).saturating_sub(self.submitted)
    }

    /// Takes down new tokens; what comes after an end token does not count.
    pub fn sample(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if self.finish.is_some() {
                return;
            }
            self.ids.push(id);
            if let Some(processors) = &mut self.processors {
                processors.chosen(id);
            }
            if self.options.eos_token_id.contains(&id) {
                self.finish = Some(FinishReason::Stop);
            } else if self.sampled() >= self.limit {
                self.finish = Some(FinishReason::Length);
            }
        }
    }

    /// Gives a token out, if there is one.
    pub fn take(&mut self) -> Option<u32> {
        let id = *self.ids.get(self.prompt + self.delivered)?;
        let now = Instant::now();
        let milliseconds = |since: Instant| now.duration_since(since).as_secs_f64() * 1e3;
        match self.first_token {
            None => {
                self.first_token = Some(now);
                self.timing.prefill_ms = milliseconds(self.started);
            }
            Some(first) => {
                self.timing.decode_tokens += 1;
                self.timing.decode_ms = milliseconds(first);
            }
        }
        self.delivered += 1;
        Some(id)
    }

    /// Takes back what was not given out: nothing comes after the token that was given out last.
    pub fn stop(&mut self) {
        self.ids.truncate(self.prompt + self.delivered);
        self.finish = Some(FinishReason::Stop);
    }

    /// Why it ended, once all of it is given out.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish.filter(|_| self.prompt + self.delivered == self.ids.len())
    }
}
