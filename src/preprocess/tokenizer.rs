//! `tokenizer.json`, through the crate `tokenizers`.

use super::TextStream;
use crate::error::TokenizerError;
use crate::source::Source;
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The file of a tokenizer.
const FILE: &str = "tokenizer.json";
/// The largest in use have some 40 MB.
const CAP: u64 = 256 << 20;

/// Splits text into token ids and joins ids to text. Clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: tokenizers::Tokenizer,
    /// Counted when first asked for: the crate gives the vocabulary only as a copy.
    id_bound: OnceLock<u32>,
}

impl fmt::Debug for Tokenizer {
    /// The vocabulary is left out: it would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Parses the bytes of a `tokenizer.json`. Truncation and padding that the file asks for are dropped, as
    /// transformers does when it is not asked for them: both are the caller's.
    ///
    /// # Errors
    /// [`TokenizerError::Parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let parse = |detail: String| TokenizerError::Parse { detail };
        refuse_what_panics(bytes).map_err(parse)?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| parse(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| parse(error.to_string()))?;
        Ok(Self::from_crate(tokenizer))
    }

    /// Takes one that is built already.
    pub(super) fn from_crate(tokenizer: tokenizers::Tokenizer) -> Self {
        Self { inner: Arc::new(Inner { tokenizer, id_bound: OnceLock::new() }) }
    }

    /// Reads `tokenizer.json`; `None` where there is none.
    ///
    /// # Errors
    /// [`TokenizerError::Source`] (also above 256 MiB), [`TokenizerError::Parse`].
    pub async fn load(source: &Source) -> Result<Option<Self>, TokenizerError> {
        match source.read_all(FILE, CAP).await? {
            Some(bytes) => Self::from_bytes(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The ids of `text`, with what the tokenizer puts around a sequence (`<s>`, `[CLS]`) if `add_special_tokens`.
    /// Names of special tokens within the text become those tokens, as in transformers.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`], where the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        self.inner
            .tokenizer
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| TokenizerError::Encode { bytes: text.len(), detail: error.to_string() })
    }

    /// Ids and type ids of a text, or of two that belong together, with what the tokenizer puts around them; what is beyond `max_length`
    /// ids is cut off before that, of two texts from the longer one, as transformers' `truncation=True` does.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`], where the vocabulary cannot express a text.
    pub fn encode_input(
        &self,
        text: &str,
        pair: Option<&str>,
        max_length: usize,
    ) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
        use tokenizers::PostProcessor;
        use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
        let tokenizer = &self.inner.tokenizer;
        let of = |text: &str| {
            let wrong =
                |error: tokenizers::Error| TokenizerError::Encode { bytes: text.len(), detail: error.to_string() };
            tokenizer.encode_fast(text, false).map_err(wrong)
        };
        let added = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(pair.is_some()));
        let room = TruncationParams { max_length: max_length.saturating_sub(added), ..TruncationParams::default() };
        let (first, second) = truncate_encodings(of(text)?, pair.map(of).transpose()?, &room)
            .map_err(|error| TokenizerError::Encode { bytes: text.len(), detail: error.to_string() })?;
        let whole = tokenizer.post_process(first, second, true);
        let whole = whole.map_err(|error| TokenizerError::Encode { bytes: text.len(), detail: error.to_string() })?;
        Ok((whole.get_ids().to_vec(), whole.get_type_ids().to_vec()))
    }

    /// The text of `ids`, with or without special tokens. Bytes that are no UTF-8 become U+FFFD. An id that the
    /// tokenizer does not know gives no text, as in transformers: models have rows beyond their vocabulary, and one
    /// of those must not end a generation.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        self.inner
            .tokenizer
            .decode(ids, skip_special_tokens)
            .map_err(|error| TokenizerError::Decode { count: ids.len(), detail: error.to_string() })
    }

    /// A decoder that takes ids one by one and gives the text that continues `prompt`; see [`TextStream`].
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn text_stream(&self, prompt: &[u32], skip_special_tokens: bool) -> Result<TextStream, TokenizerError> {
        TextStream::new(self.clone(), prompt, skip_special_tokens)
    }

    /// How it splits: `byte-level BPE`, `BPE`, `Unigram`, `WordPiece`, `WordLevel`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        use tokenizers::ModelWrapper;
        match self.inner.tokenizer.get_model() {
            ModelWrapper::BPE(_) if self.is_byte_level() => "byte-level BPE",
            ModelWrapper::BPE(_) => "BPE",
            ModelWrapper::Unigram(_) => "Unigram",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::WordLevel(_) => "WordLevel",
        }
    }

    /// How many tokens there are, added ones included. Ids may have gaps: [`Tokenizer::id_bound`] bounds them.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.tokenizer.get_vocab_size(true)
    }

    /// How many tokens the vocabulary has without those that were added to it later.
    #[must_use]
    pub fn base_vocab_size(&self) -> usize {
        self.inner.tokenizer.get_vocab_size(false)
    }

    /// The largest id plus 1; 0 for an empty vocabulary. The first call copies the vocabulary to find it.
    #[must_use]
    pub fn id_bound(&self) -> u32 {
        *self.inner.id_bound.get_or_init(|| {
            let vocab = self.inner.tokenizer.get_vocab(true);
            vocab.values().max().map_or(0, |id| id.saturating_add(1))
        })
    }

    /// The id of the token that is written exactly so, e.g. `<|im_end|>`.
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.tokenizer.token_to_id(token)
    }

    /// How the token is written in the vocabulary, which is not its text.
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.tokenizer.id_to_token(id)
    }

    /// The bytes that the token stands for: with its leading space, which [`Tokenizer::decode`] drops at the start of a text, and of a
    /// character that several tokens make, its part. The name of an added token; nothing for an id that the tokenizer does not know.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.id_to_token(id) else { return Vec::new() };
        if self.inner.tokenizer.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return token.into_bytes();
        }
        if self.is_byte_level() {
            return token.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| token.into_bytes());
        }
        // as SentencePiece writes single bytes and spaces
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|digits| digits.len() == 2);
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => vec![byte],
            None => token.replace('\u{2581}', " ").into_bytes(),
        }
    }

    fn is_byte_level(&self) -> bool {
        use tokenizers::DecoderWrapper::{ByteLevel, Sequence};
        match self.inner.tokenizer.get_decoder() {
            Some(ByteLevel(_)) => true,
            Some(Sequence(all)) => all.get_decoders().iter().any(|decoder| matches!(decoder, ByteLevel(_))),
            _ => false,
        }
    }

    /// Whether [`Tokenizer::decode`] takes the id into account at all.
    pub(super) fn is_decoded(&self, id: u32, skip_special_tokens: bool) -> bool {
        let special = |token: &str| self.inner.tokenizer.get_added_vocabulary().is_special_token(token);
        self.id_to_token(id).is_some_and(|token| !skip_special_tokens || !special(&token))
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable ones of Latin-1 for themselves, the others, in order, for
/// those from U+0100 on (GPT-2's `bytes_to_unicode`).
fn byte_of(c: char) -> Option<u8> {
    let is_printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(u32::from(c)) {
        Ok(byte) => Some(byte).filter(is_printable),
        Err(_) => (0..=u8::MAX).filter(|byte| !is_printable(byte)).nth(c as usize - 0x100),
    }
}

/// The two parts of a `tokenizer.json` that `tokenizers` 0.23 takes in and panics over later.
#[derive(serde::Deserialize)]
struct Parts {
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    post_processor: Value,
}

/// Refuses files that parse but make the crate index out of bounds; no real tokenizer is such a file.
fn refuse_what_panics(bytes: &[u8]) -> Result<(), String> {
    let parts: Parts = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    // `Strip` at the end counts back from the length of each token, also of an empty one.
    visit(&parts.decoder, "decoders", &mut |part| {
        let stop = part.get("stop").and_then(Value::as_u64).unwrap_or(0);
        if part["type"] == "Strip" && stop > 0 {
            return Err(format!("its decoder `Strip` has `stop` = {stop}, and only 0 is supported"));
        }
        Ok(())
    })?;
    // A template looks its special tokens up without asking whether they are declared.
    visit(&parts.post_processor, "processors", &mut |part| {
        if part["type"] != "TemplateProcessing" {
            return Ok(());
        }
        let pieces = ["single", "pair"].iter().filter_map(|side| part[*side].as_array()).flatten();
        for id in pieces.filter_map(|piece| piece["SpecialToken"]["id"].as_str()) {
            if part["special_tokens"].get(id).is_none() {
                let id = crate::source::shorten(id);
                return Err(format!("its template uses {id:?}, which its `special_tokens` lack"));
            }
        }
        Ok(())
    })
}

/// Calls `check` on a part and on all parts of a `Sequence`, which stand under `list`. The depth is that of the JSON,
/// which its parser bounds.
fn visit(part: &Value, list: &str, check: &mut impl FnMut(&Value) -> Result<(), String>) -> Result<(), String> {
    check(part)?;
    for inner in part.get(list).and_then(Value::as_array).into_iter().flatten() {
        visit(inner, list, check)?;
    }
    Ok(())
}
