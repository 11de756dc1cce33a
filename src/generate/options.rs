use crate::error::GenerateError;
use crate::shaders::Sampling;

/// How to generate; the names are those of transformers' `GenerationConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens to generate; fewer where the context ends.
    pub max_new_tokens: usize,
    /// 0: greedy. Otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep the most likely tokens only; 0: all.
    pub top_k: u32,
    /// Keep the most likely tokens that together have this probability; 1: all.
    pub top_p: f32,
    /// A draw is a function of seed, position and token: equal seeds give equal texts.
    pub seed: u64,
    /// Tokens that end the text; the one that did is the last of the result, as in transformers.
    pub eos_token_id: Vec<u32>,
    /// How many steps the GPU may be ahead of what was read back. 0: logits come to the host, which samples.
    pub lookahead: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            eos_token_id: Vec::new(),
            lookahead: crate::device::LOOKAHEAD,
        }
    }
}

impl GenerateOptions {
    /// The longest lookahead: what the ring holds.
    pub const MAX_LOOKAHEAD: usize = 128;

    pub(super) fn check(&self) -> Result<(), GenerateError> {
        let setting = |name, got: String, expected| GenerateError::Setting { name, got, expected };
        if !(0.0..=1000.0).contains(&self.temperature) {
            return Err(setting("temperature", self.temperature.to_string(), "a number from 0 (greedy) to 1000"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(setting("top_p", self.top_p.to_string(), "a number above 0, at most 1"));
        }
        if self.max_new_tokens == 0 {
            return Err(setting("max_new_tokens", "0".into(), "at least 1"));
        }
        if self.lookahead > Self::MAX_LOOKAHEAD {
            return Err(setting("lookahead", self.lookahead.to_string(), "at most 128"));
        }
        if self.eos_token_id.len() > crate::step::MAX_EOS {
            return Err(setting("eos_token_id", format!("{} ids", self.eos_token_id.len()), "at most 64 ids"));
        }
        Ok(())
    }

    /// As the kernel reads it.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        Sampling {
            // below this the division overflows, and the draw is the greatest anyway
            temperature: if self.temperature < 1e-5 { 0.0 } else { self.temperature },
            top_k: self.top_k,
            top_p: self.top_p,
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
            eos_count: 0,
        }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token.
    Stop,
    /// `max_new_tokens`, or the end of the context.
    Length,
}

impl FinishReason {
    /// `stop` or `length`, as OpenAI's API has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}
