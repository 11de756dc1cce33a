//! Where a GGUF file says what of its tokenizer.

use super::Vocabulary;
use crate::checkpoint::{MetaValue, Metadata};
use crate::error::GgufError;

/// Before the names of the templates that are not the default one.
const TEMPLATES: &str = "tokenizer.chat_template.";

impl Vocabulary {
    /// What the keys `tokenizer.*` say; without them nothing, and no tokens. Tokens and merges are taken out of `metadata`.
    ///
    /// # Errors
    /// [`GgufError::Kind`]
    pub fn take(metadata: &mut Metadata) -> Result<Self, GgufError> {
        let tokens = metadata.take_texts("tokenizer.ggml.tokens")?;
        let merges = metadata.take_texts("tokenizer.ggml.merges")?;
        let metadata = &*metadata;
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let text = |key: &str| metadata.text(key).map(|text| text.map(str::to_owned));
        let id = |name: &str| metadata.u32(&key(&format!("{name}_token_id")));
        let flag = |name: &str| metadata.flag(&key(name));
        let types = metadata.ints(&key("token_type"))?;
        let templates = metadata.iter().filter_map(|(key, value)| match value {
            MetaValue::Text(text) => Some((key.strip_prefix(TEMPLATES)?.to_owned(), text.clone())),
            _ => None,
        });
        Ok(Self {
            model: text(&key("model"))?.unwrap_or_default(),
            pre: text(&key("pre"))?,
            name: text("general.name")?,
            tokens,
            scores: metadata.floats(&key("scores"))?.to_vec(),
            token_types: types.iter().map(|kind| i32::try_from(*kind).unwrap_or(i32::MAX)).collect(),
            merges,
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unk: id("unknown")?,
            sep: id("seperator")?,
            pad: id("padding")?,
            cls: id("cls")?,
            mask: id("mask")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            chat_template: text("tokenizer.chat_template")?,
            chat_templates: templates.collect(),
        })
    }
}
