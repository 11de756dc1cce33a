//! Tokenizers that stand in a model file (GGUF) instead of a `tokenizer.json`.

mod byte_level;
mod pre_tokenizer;
mod sentence_piece;

use std::collections::BTreeSet;

use serde_json::json;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::processors::PostProcessorWrapper;

use super::Tokenizer;
use crate::error::TokenizerError;
use crate::source::shorten;

/// The kinds that a tokenizer is made of, by their names in `tokenizer.ggml.model`.
const KINDS: [&str; 3] = ["gpt2", "llama", "gemma4"];

/// What families call the tokens that end a turn or a text. Many files name but one of theirs by a key.
const ENDS: [&str; 14] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<EOT>",
    "[EOT]",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// Types of tokens, as in `token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// What a GGUF file says of its tokenizer: the values of its keys `tokenizer.ggml.*`, which the fields are named after, as the
/// [format](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) defines them; `None` or empty where the file has no such key.
/// An id counts the tokens from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// `model`: `gpt2` is byte-level BPE, `llama` SentencePiece's BPE, which merges by scores.
    pub model: String,
    /// `pre`: by which rules byte-level BPE cuts text into words, under the name that llama.cpp has for them. Where it is missing,
    /// `default` holds, as there.
    pub pre: Option<String>,
    /// `general.name`: the special tokens of Phi-3 swallow white space after them, which no key of a file says.
    pub name: Option<String>,
    /// `tokens`: how each token is written. An empty one stands for nothing.
    pub tokens: Vec<String>,
    /// `scores`: of each token, how soon it is merged; the highest first. Only `llama` has need of them.
    pub scores: Vec<f32>,
    /// `token_type`: of each token, 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. All are normal where it is empty.
    pub token_types: Vec<i32>,
    /// `merges`: the pairs that become one token, with a space between them; the first come first.
    pub merges: Vec<String>,
    /// `bos_token_id`: what stands before a text.
    pub bos: Option<u32>,
    /// `eos_token_id`: what ends a text.
    pub eos: Option<u32>,
    /// `eot_token_id`: what ends a turn of a chat.
    pub eot: Option<u32>,
    /// `eom_token_id`: what ends a message of a turn.
    pub eom: Option<u32>,
    /// `unknown_token_id`: what stands for text that no token writes.
    pub unk: Option<u32>,
    /// `seperator_token_id`, spelt so in the format.
    pub sep: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `cls_token_id`.
    pub cls: Option<u32>,
    /// `mask_token_id`.
    pub mask: Option<u32>,
    /// `add_bos_token`: whether `bos` is put before a text.
    pub add_bos: Option<bool>,
    /// `add_eos_token`: whether `eos` is put behind a text.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: whether `llama` puts a space before a text.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`: the default one.
    pub chat_template: Option<String>,
    /// `tokenizer.chat_template.*`: the others, by name.
    pub chat_templates: Vec<(String, String)>,
}

/// What a token is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing: the file only fills a row of the embedding with it.
    Absent,
    /// The model splits text into it.
    Normal,
    /// Cut out of a text where it is written, before all else. If `special`, decoding can leave it out.
    Added { special: bool },
}

impl Tokenizer {
    /// The tokenizer whose ids and texts are those of the `tokenizer.json` that the file was made from.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownKind`], [`TokenizerError::UnknownPreTokenizer`], and [`TokenizerError::Vocabulary`] for what contradicts itself.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        vocabulary.check()?;
        match vocabulary.model.as_str() {
            "gpt2" => byte_level::build(vocabulary).map(Self::from_crate),
            "llama" | "gemma4" => sentence_piece::build(vocabulary).map(Self::from_crate),
            kind => Err(TokenizerError::UnknownKind { kind: shorten(kind), supported: &KINDS }),
        }
    }
}

fn bad(key: &'static str, detail: impl Into<String>) -> TokenizerError {
    TokenizerError::Vocabulary { key, detail: detail.into() }
}

/// What the crate says of what we hand it; our own checks come before.
fn refused(key: &'static str) -> impl Fn(tokenizers::Error) -> TokenizerError {
    move |error| bad(key, shorten(&error.to_string()))
}

impl Vocabulary {
    /// Lengths and ids agree.
    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        let count = self.tokens.len();
        if count == 0 || u32::try_from(count).is_err() {
            return Err(bad("tokens", format!("it has {count} tokens")));
        }
        for (key, length) in [("scores", self.scores.len()), ("token_type", self.token_types.len())] {
            if length != 0 && length != count {
                return Err(bad(key, format!("it has {length} entries for {count} tokens")));
            }
        }
        for (key, id) in self.ids() {
            if id.is_some_and(|id| id as usize >= count) {
                return Err(bad(key, format!("it is {}, and there are {count} tokens", id.unwrap_or(0))));
            }
        }
        Ok(())
    }

    /// The tokens that have a part to play, with their keys.
    fn ids(&self) -> [(&'static str, Option<u32>); 9] {
        [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("eom_token_id", self.eom),
            ("unknown_token_id", self.unk),
            ("seperator_token_id", self.sep),
            ("padding_token_id", self.pad),
            ("cls_token_id", self.cls),
            ("mask_token_id", self.mask),
        ]
    }

    /// `bos`, or where the file does not say, what the kind has for it.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.bos.or_else(|| self.default_id(1))
    }

    /// `eos`, or where the file does not say, what the kind has for it.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        self.eos.or_else(|| self.default_id(2))
    }

    /// `unk`, or where the file does not say, what the kind has for it.
    #[must_use]
    pub fn unk_id(&self) -> Option<u32> {
        self.unk.or_else(|| self.default_id(0))
    }

    /// The tokens that end what a model writes: `eos`, `eot` and `eom`, and those that are known by their names, as llama.cpp has them.
    /// They rise.
    #[must_use]
    pub fn stop_ids(&self) -> Vec<u32> {
        // in the format with channels of gpt-oss, `<|end|>` ends but a part of an answer
        let has_parts = self.tokens.iter().any(|token| token == "<|return|>");
        let ends = |(id, token): &(u32, &String)| {
            ENDS.contains(&token.as_str())
                && !(has_parts && *token == "<|end|>")
                && matches!(self.role(*id as usize), Role::Added { .. })
        };
        let named = (0_u32..).zip(&self.tokens).filter(ends).map(|(id, _)| id);
        let keys =
            [self.eos_id(), self.eot, self.eom].into_iter().flatten().filter(|id| (*id as usize) < self.tokens.len());
        named.chain(keys).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The models of Llama's kind number their first tokens alike.
    fn default_id(&self, id: u32) -> Option<u32> {
        Some(id).filter(|id| self.model == "llama" && (*id as usize) < self.tokens.len())
    }

    fn kind(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(NORMAL)
    }

    fn role(&self, id: usize) -> Role {
        let (token, kind) = (self.tokens[id].as_str(), self.kind(id));
        let is_special = || self.ids().iter().any(|(_, special)| special.is_some_and(|special| special as usize == id));
        match kind {
            _ if token.is_empty() => Role::Absent,
            // rows beyond the tokenizer's vocabulary are written so, under one type or another
            UNKNOWN | USER_DEFINED | UNUSED if is_filler(token, id) => Role::Absent,
            UNKNOWN | CONTROL => Role::Added { special: true },
            USER_DEFINED => Role::Added { special: is_special() },
            _ => Role::Normal,
        }
    }

    /// Ids by token, and what is cut out of a text. `rewritten` gives the tokens that the model has, but writes in another way.
    fn sort_out(
        &self,
        rewritten: impl Fn(usize) -> Option<String>,
    ) -> Result<(Vocab, Vec<AddedToken>), TokenizerError> {
        let (mut vocab, mut added) = (Vocab::with_capacity(self.tokens.len()), Vec::new());
        for (id, token) in (0_u32..).zip(&self.tokens) {
            let text = rewritten(id as usize);
            match self.role(id as usize) {
                Role::Absent => continue,
                Role::Added { special } if text.is_none() => {
                    added.push(AddedToken::from(token.clone(), special).normalized(false));
                }
                _ => {}
            }
            if let Some(other) = vocab.insert(text.unwrap_or_else(|| token.clone()), id) {
                return Err(bad("tokens", format!("{other} and {id} are both {:?}", shorten(token))));
            }
        }
        Ok((vocab, added))
    }

    /// The pairs of `merges`, less those that are no tokens or make none: the crate counts on it, and llama.cpp does not mind them.
    fn pairs(&self, vocab: &Vocab) -> Result<Vec<(String, String)>, TokenizerError> {
        let mut whole = String::new();
        let pair = |merge: &String| {
            // the first of a pair may be a space itself
            let space = merge.bytes().skip(1).position(|byte| byte == b' ').map(|at| at + 1);
            let (left, right) = space.map(|at| (&merge[..at], &merge[at + 1..])).ok_or("is no pair")?;
            whole.clear();
            whole.extend([left, right]);
            let are_tokens = [left, right, &whole].into_iter().all(|token| vocab.contains_key(token));
            Ok(are_tokens.then(|| (left.to_owned(), right.to_owned())))
        };
        let pairs: Result<_, &str> = self.merges.iter().map(pair).filter_map(Result::transpose).collect();
        pairs.map_err(|what| bad("merges", what))
    }

    /// A tokenizer of this model that puts `bos` and `eos` around a text where the file asks for it.
    fn assemble(&self, model: BPE, add_bos: bool) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let (mut single, mut pair) = (vec![text("A")], vec![text("A"), text("B")]);
        let mut special = serde_json::Map::new();
        let mut surround = |key: &'static str, id: Option<u32>, at_end: bool| {
            let id = id.ok_or_else(|| bad(key, "it is missing, and every text is to have that token"))?;
            special.insert(key.to_owned(), json!({"id": key, "ids": [id], "tokens": [self.tokens[id as usize]]}));
            for template in [&mut single, &mut pair] {
                let place = if at_end { template.len() } else { 0 };
                template.insert(place, json!({"SpecialToken": {"id": key, "type_id": 0}}));
            }
            Ok::<_, TokenizerError>(())
        };
        if self.add_bos.unwrap_or(add_bos) {
            surround("bos_token_id", self.bos_id(), false)?;
        }
        if self.add_eos.unwrap_or(false) {
            surround("eos_token_id", self.eos_id(), true)?;
        }
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        if !special.is_empty() {
            let template =
                json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special});
            let processor: PostProcessorWrapper =
                serde_json::from_value(template).expect("a template of the form that the crate itself writes");
            tokenizer.with_post_processor(Some(processor));
        }
        Ok(tokenizer)
    }
}

/// Whether the token is `[PAD7]`, with its own id.
fn is_filler(token: &str, id: usize) -> bool {
    let digits = token.strip_prefix("[PAD").and_then(|rest| rest.strip_suffix(']'));
    digits.is_some_and(|digits| digits.parse() == Ok(id))
}
