use crate::error::GenerateError;
use crate::shaders::Sampling;

/// How to generate; the names, the meanings and the order in which they are applied are those of transformers'
/// `GenerationConfig`, unless a field says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens to generate; fewer where the context ends.
    pub max_new_tokens: usize,
    /// The most tokens, prompt included. Where both are set, the smaller one counts.
    pub max_length: Option<usize>,
    /// End-of-sequence tokens are not chosen before so many new tokens.
    pub min_new_tokens: usize,
    /// The same, prompt included; only looked at where `min_new_tokens` is 0.
    pub min_length: usize,

    /// 0: greedy, and `top_k` to `eta_cutoff` are ignored. Otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep the most likely tokens only, and what is as likely as the last of them (Fan et al. 2018); 0: all.
    pub top_k: u32,
    /// Keep the most likely tokens that together have this probability, and what is as likely as the last of them (Holtzman et
    /// al. 2019); 1: all.
    pub top_p: f32,
    /// Keep the tokens that are at least this times as likely as the most likely one (Nguyen et al. 2024); 0: all.
    pub min_p: f32,
    /// Keep the tokens whose surprise is nearest to the entropy, up to this probability (Meister et al. 2022); 1: all.
    pub typical_p: f32,
    /// Keep the tokens of at least this probability (Hewitt, Manning & Liang 2022); 0: all.
    pub epsilon_cutoff: f32,
    /// Keep the tokens of at least this probability, or less where the entropy is high (the same); 0: all.
    pub eta_cutoff: f32,

    /// Logits of tokens of prompt and text are divided by it, negative ones multiplied (Keskar et al. 2019); 1: off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token that was generated, as OpenAI's API defines it; 0: off. With the next one, it
    /// comes after the repetition penalty.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit as many times as it was generated, as OpenAI's API defines it; 0: off.
    pub frequency_penalty: f32,
    /// No n-gram of this length occurs twice in prompt and text (Paulus, Xiong & Socher 2017); 0: off.
    pub no_repeat_ngram_size: u32,
    /// Added to the logit of the last id of a sequence, where the tokens so far end with the others. Sequences of one id are
    /// what OpenAI's API calls `logit_bias`.
    #[doc(alias = "logit_bias")]
    pub sequence_bias: Vec<(Vec<u32>, f32)>,
    /// Sequences that do not occur in what is generated; a sequence of one end-of-sequence id is ignored.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Tokens that are never chosen.
    pub suppress_tokens: Vec<u32>,

    /// Up to so many of the next tokens are guessed at each step, from what followed earlier where the text ends as it does now, and
    /// all of them are looked at in one step of the model (prompt lookup: Saxena 2023). The tokens stay the same, greedy or drawn; they
    /// come faster where texts repeat what was there before. 0: off; at most 31. Not under a cache policy that is a window, nor where logits
    /// come to the host.
    pub prompt_lookup_num_tokens: u32,
    /// Where an assistant drafts ([`Session::set_assistant`](crate::session::Session::set_assistant)), and prompt lookup does not: up to so many
    /// of the next tokens are its guesses at each step, with the same promise; at most 31. 0, and where logits come to the host: it is not asked.
    pub num_assistant_tokens: u32,
    /// Prompt lookup: the most tokens at the text's end that are looked for, 1 to 32.
    pub max_matching_ngram_size: u32,

    /// A draw is a function of seed, position and token: equal seeds give equal texts.
    pub seed: u64,
    /// What an empty prompt becomes, and what a text prompt has once at most.
    pub bos_token_id: Option<u32>,
    /// Tokens that end the text; the one that did is the last of the result, as in transformers.
    pub eos_token_id: Vec<u32>,
    /// What pads rows of a batch; nothing does where there is one sequence.
    pub pad_token_id: Option<u32>,
    /// Texts that end the text, and are not part of it (OpenAI's rule; transformers keeps them). Only
    /// [`TextGeneration`](super::TextGeneration) looks at text.
    pub stop_strings: Vec<String>,

    /// `Some(n)`: every token comes with its log-probability and with the `n` most likely tokens' ([`Logprobs`](super::Logprobs)). The logits
    /// come to the host then, as with `lookahead` 0.
    pub logprobs: Option<usize>,
    /// How many steps the GPU may be ahead of what was read back. 0: logits come to the host, which samples.
    pub lookahead: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            max_length: None,
            min_new_tokens: 0,
            min_length: 0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 0,
            sequence_bias: Vec::new(),
            bad_words_ids: Vec::new(),
            suppress_tokens: Vec::new(),
            prompt_lookup_num_tokens: 0,
            num_assistant_tokens: 5,
            max_matching_ngram_size: 2,
            seed: 0,
            bos_token_id: None,
            eos_token_id: Vec::new(),
            pad_token_id: None,
            stop_strings: Vec::new(),
            logprobs: None,
            lookahead: crate::device::LOOKAHEAD,
        }
    }
}

impl GenerateOptions {
    /// The longest lookahead: what the ring holds.
    pub const MAX_LOOKAHEAD: usize = 128;

    /// Names the first setting that is out of its range.
    ///
    /// # Errors
    /// [`GenerateError::Setting`]
    pub fn check(&self) -> Result<(), GenerateError> {
        let fail = |name, got: String, expected| Err(GenerateError::Setting { name, got, expected });
        let from_0_to_1 = "a number from 0 (off) to 1";
        let below_1 = "a number from 0 (off) to less than 1";
        let above_0 = "a number above 0, at most 1 (off)";
        let two = "a number from -2 to 2";
        let numbers = [
            ("temperature", self.temperature, 0.0..=1000.0, "a number from 0 (greedy) to 1000"),
            ("top_p", self.top_p, f32::MIN_POSITIVE..=1.0, above_0),
            ("min_p", self.min_p, 0.0..=1.0, from_0_to_1),
            ("typical_p", self.typical_p, f32::MIN_POSITIVE..=1.0, above_0),
            ("epsilon_cutoff", self.epsilon_cutoff, 0.0..=1.0 - f32::EPSILON, below_1),
            ("eta_cutoff", self.eta_cutoff, 0.0..=1.0 - f32::EPSILON, below_1),
            ("repetition_penalty", self.repetition_penalty, 1e-3..=1e3, "a number from 0.001 to 1000; 1 is off"),
            ("presence_penalty", self.presence_penalty, -2.0..=2.0, two),
            ("frequency_penalty", self.frequency_penalty, -2.0..=2.0, two),
        ];
        for (name, got, range, expected) in numbers {
            if !range.contains(&got) {
                return fail(name, got.to_string(), expected);
            }
        }
        if self.max_new_tokens == 0 {
            return fail("max_new_tokens", "0".into(), "at least 1");
        }
        if self.lookahead > Self::MAX_LOOKAHEAD {
            return fail("lookahead", self.lookahead.to_string(), "at most 128");
        }
        for (name, got) in [
            ("prompt_lookup_num_tokens", self.prompt_lookup_num_tokens),
            ("num_assistant_tokens", self.num_assistant_tokens),
        ] {
            if got >= crate::step::MAX_EACH {
                return fail(name, got.to_string(), "at most 31; 0 is off");
            }
        }
        if !(1..=32).contains(&self.max_matching_ngram_size) {
            return fail("max_matching_ngram_size", self.max_matching_ngram_size.to_string(), "a number from 1 to 32");
        }
        if self.prompt_lookup_num_tokens > 0 && (self.lookahead == 0 || self.logprobs.is_some()) {
            let expected = "0 where logits come to the host (lookahead 0, logprobs)";
            return fail("prompt_lookup_num_tokens", self.prompt_lookup_num_tokens.to_string(), expected);
        }
        if self.eos_token_id.len() > crate::step::MAX_EOS {
            return fail("eos_token_id", format!("{} ids", self.eos_token_id.len()), "at most 64 ids");
        }
        if self.stop_strings.iter().any(String::is_empty) {
            return fail("stop_strings", "an empty text".into(), "texts of one character or more");
        }
        Ok(())
    }

    /// As the kernels read it, after a prompt of so many tokens.
    #[must_use]
    pub fn sampling(&self, prompt: usize) -> Sampling {
        let min_new_tokens =
            if self.min_new_tokens > 0 { self.min_new_tokens } else { self.min_length.saturating_sub(prompt) };
        Sampling {
            // below this the division overflows, and the draw is the greatest anyway
            temperature: if self.temperature < 1e-5 { 0.0 } else { self.temperature },
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            epsilon_cutoff: self.epsilon_cutoff,
            eta_cutoff: self.eta_cutoff,
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            min_new_tokens: u32::try_from(min_new_tokens).unwrap_or(u32::MAX),
            prompt_lookup_num_tokens: self.prompt_lookup_num_tokens,
            // where there is one
            num_assistant_tokens: 0,
            max_matching_ngram_size: self.max_matching_ngram_size,
            eos_count: 0,
        }
    }

    /// The most new tokens after a prompt of so many, in a context of so many.
    pub(super) fn limit(&self, prompt: usize, context: usize) -> usize {
        self.max_new_tokens.min(self.max_length.unwrap_or(usize::MAX).min(context).saturating_sub(prompt))
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token, or a stop string.
    Stop,
    /// `max_new_tokens`, `max_length`, or the end of the context.
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
