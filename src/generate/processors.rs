//! What logits processors know of the tokens so far.

use super::GenerateOptions;
use super::programs::Phase;
use crate::device::Device;
use crate::error::GenerateError;
use crate::reference;
use crate::shaders::Sampling;
use crate::step::{History, MAX_SEQUENCE_WORDS, MAX_SEQUENCES, token};

/// Flags, counts and biases of each token, and sequences with a bias: made from prompt and options when a generation begins, for
/// the GPU (where a [`History`] holds them, with which the sampler goes on by itself) or for the host.
#[derive(Clone, Debug)]
pub struct Processors {
    tokens: Vec<u32>,
    bias: Vec<f32>,
    sequences: Vec<u32>,
    ngrams: bool,
    penalties: bool,
}

impl Processors {
    /// For a model of `vocab` tokens, after `prompt`. `None` where the options ask for nothing of the kind.
    ///
    /// # Errors
    /// [`GenerateError::TokenOutOfRange`] and [`GenerateError::Setting`] for sequences that cannot be.
    pub fn new(
        options: &GenerateOptions,
        sampling: &Sampling,
        prompt: &[u32],
        vocab: u32,
    ) -> Result<Option<Self>, GenerateError> {
        let ends = !options.eos_token_id.is_empty() && sampling.min_new_tokens > 0;
        let penalties = options.repetition_penalty != 1.0
            || options.presence_penalty != 0.0
            || options.frequency_penalty != 0.0
            || !options.sequence_bias.is_empty()
            || !options.bad_words_ids.is_empty()
            || !options.suppress_tokens.is_empty()
            || ends;
        let ngrams = options.no_repeat_ngram_size > 0;
        if !penalties && !ngrams {
            return Ok(None);
        }
        let mut this = Self {
            tokens: vec![0; vocab as usize],
            bias: vec![0.0; vocab as usize],
            sequences: Vec::new(),
            ngrams,
            penalties,
        };
        let flag = |tokens: &mut Vec<u32>, ids: &[u32], flag: u32| {
            // as in transformers, one that the model does not have is ignored
            ids.iter().filter(|&&id| id < vocab).for_each(|&id| tokens[id as usize] |= flag);
        };
        flag(&mut this.tokens, prompt, token::SEEN);
        flag(&mut this.tokens, &options.suppress_tokens, token::FORBIDDEN);
        flag(&mut this.tokens, &options.eos_token_id, token::ENDS);
        this.add_sequences(options, vocab)?;
        Ok(Some(this))
    }

    /// For a slot that asks for nothing, beside others that do.
    #[must_use]
    pub fn none(vocab: u32) -> Self {
        let nothing = vec![0; vocab as usize];
        Self { bias: vec![0.0; vocab as usize], tokens: nothing, sequences: vec![0], ngrams: false, penalties: false }
    }

    fn add_sequences(&mut self, options: &GenerateOptions, vocab: u32) -> Result<(), GenerateError> {
        let mut longer: Vec<(&[u32], f32)> = Vec::new();
        for (name, ids, bias) in options
            .sequence_bias
            .iter()
            .map(|(ids, bias)| ("sequence_bias", ids, *bias))
            .chain(options.bad_words_ids.iter().map(|ids| ("bad_words_ids", ids, f32::NEG_INFINITY)))
        {
            let fail = |got: String, expected| Err(GenerateError::Setting { name, got, expected });
            if let Some(&id) = ids.iter().find(|&&id| id >= vocab) {
                return Err(GenerateError::TokenOutOfRange { id, vocab });
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return fail(bias.to_string(), "numbers, or minus infinity to forbid");
            }
            match ids.as_slice() {
                [] => return fail("an empty sequence".into(), "sequences of one id or more"),
                [id] if name == "bad_words_ids" && options.eos_token_id.contains(id) => {}
                [id] if bias == f32::NEG_INFINITY => self.tokens[*id as usize] |= token::FORBIDDEN,
                // of two equal ones the last counts, as in the mapping that transformers makes of them
                [id] => self.bias[*id as usize] = bias,
                ids => match longer.iter_mut().find(|(known, known_bias)| *known == ids && known_bias.is_finite()) {
                    Some(known) => known.1 = bias,
                    None => longer.push((ids, bias)),
                },
            }
        }
        let headers = 1 + 3 * longer.len();
        let words = headers + longer.iter().map(|(ids, _)| ids.len()).sum::<usize>();
        if longer.len() > MAX_SEQUENCES || words > MAX_SEQUENCE_WORDS {
            return Err(GenerateError::Setting {
                name: "sequence_bias and bad_words_ids",
                got: format!("{} sequences of {} ids", longer.len(), words - headers),
                expected: "at most 512 sequences of several ids, with at most 6655 ids",
            });
        }
        self.sequences = vec![longer.len() as u32];
        let mut begin = headers;
        for (ids, bias) in &longer {
            self.sequences.extend([begin as u32, ids.len() as u32, bias.to_bits()]);
            begin += ids.len();
        }
        longer.iter().for_each(|(ids, _)| self.sequences.extend_from_slice(ids));
        Ok(())
    }

    /// Sets a slot's copy on the GPU, after `ids`.
    pub fn upload(&self, device: &Device, history: &History, slot: u32, ids: &[u32]) {
        history.set(device, slot, ids, &self.tokens, &self.bias, &self.sequences);
    }

    /// The phase of programs that do this on the GPU.
    pub(super) fn phase(&self) -> Phase {
        Phase::Process { penalties: self.penalties, ngrams: self.ngrams }
    }

    /// On the host: `logits` `[V]` after `ids`, the last `generated` of them new.
    pub fn process(&self, logits: &mut [f32], sampling: &Sampling, ids: &[u32], generated: usize) {
        if self.penalties {
            let Self { tokens, bias, sequences, .. } = self;
            let past = reference::penalize::Past { ids, generated: generated as u32, tokens, bias, sequences };
            reference::penalize(logits, sampling, &past);
        }
        if self.ngrams {
            reference::no_repeat_ngram(logits, sampling.no_repeat_ngram_size, ids);
        }
    }

    /// Takes down a token that was chosen.
    pub fn chosen(&mut self, id: u32) {
        if let Some(state) = self.tokens.get_mut(id as usize) {
            *state += 1;
        }
    }
}
