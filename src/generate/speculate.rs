//! Speculative decoding: several tokens of a sequence in one step, where drafts of them turn out to be right.

use super::GenerateOptions;
use super::engine::Engine;
use super::programs::Phase;
use super::sequence::Sequence;
use crate::error::GenerateError;
use crate::step::{NO_DRAFT, REJECTED, RING};
use crate::tensor::vec4s;

/// Rows of a step that drafts may take, with the tokens that they follow: beyond these, products cost more than reading their weights.
const MOST_ROWS: u64 = 256;

impl Sequence {
    /// Whether its next tokens are guessed.
    pub fn speculates(&self) -> bool {
        self.drafts > 0
    }

    /// What is done with its logits besides sampling; those who guess look up their history, which the sampler goes on with.
    pub fn phase(&self) -> Option<Phase> {
        let history = Phase::Process { penalties: false, ngrams: false };
        self.processors.as_ref().map(|p| p.phase()).or(self.speculates().then_some(history))
    }

    /// Takes down `new` tokens, which its places in the ring hold, turn by turn.
    pub fn take_down<'a>(&mut self, turns: impl Iterator<Item = &'a [u8]>, new: usize) {
        let mut left = new;
        for turn in turns {
            if left == 0 {
                return;
            }
            let words = || turn.chunks_exact(4).map(bytemuck::pod_read_unaligned::<u32>);
            let ids = words().take_while(|&word| word < REJECTED).take(left);
            let count = ids.clone().count();
            left -= count;
            // a plain step has one place, and drafts nothing
            self.timing.drafted += words().take_while(|&word| word != NO_DRAFT).count().saturating_sub(1);
            self.timing.accepted += count.saturating_sub(1);
            self.sample(ids);
        }
    }
}

impl Engine {
    /// Names what does not go together with guessing.
    pub(super) fn check_speculation(&self, options: &GenerateOptions) -> Result<(), GenerateError> {
        let got = options.prompt_lookup_num_tokens;
        if got > 0 && self.policy.moves() {
            // what is dropped before a token would depend on how many drafts come with it
            let (name, expected) = ("prompt_lookup_num_tokens", "0 where cache_policy is a window");
            return Err(GenerateError::Setting { name, got: got.to_string(), expected });
        }
        Ok(())
    }

    /// What a burst of steps does: where somebody guesses, drafts are verified.
    pub(super) fn burst_phase(&self) -> Phase {
        let phase = self.phase();
        let drafts = self.running().map(|(_, sequence)| sequence.drafts).max().unwrap_or(0);
        // whoever guesses has a history
        let Phase::Process { penalties, ngrams } = phase else { return phase };
        let row = u64::from(vec4s(self.config.vocab_size)) * 16;
        let rows = (self.device.max_binding() / row).clamp(1, MOST_ROWS);
        // programs are for powers of two
        let most = (1 << rows.ilog2()) / self.batch.slots.next_power_of_two();
        match (1 + drafts).min(most) {
            0 | 1 => phase,
            each => Phase::Speculate { each, penalties, ngrams },
        }
    }

    /// Steps that may be submitted, of up to `each` tokens of a slot: what the ring holds, and where blocks are kept for what is under way
    /// alone, what they hold.
    pub(super) fn room_ahead(&self, each: u32) -> usize {
        let of_ring = (RING / each) as usize;
        let is_short = self.precision.cache.bits().is_some() || self.config.layers.iter().any(|layer| layer.window > 0);
        if !is_short {
            return of_ring;
        }
        let ahead = self.running().map(|(_, sequence)| sequence.ahead).max().unwrap_or(0);
        of_ring.min(GenerateOptions::MAX_LOOKAHEAD.saturating_sub(ahead) / each as usize)
    }
}
