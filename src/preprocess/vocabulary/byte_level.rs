//! `gpt2`: BPE over bytes, each written as a printable character.

use tokenizers::NormalizerWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{Vocabulary, pre_tokenizer, refused};
use crate::error::TokenizerError;

pub(super) fn build(vocabulary: &Vocabulary) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let rules = pre_tokenizer::of(vocabulary.pre.as_deref().filter(|name| !name.is_empty()))?;
    let (vocab, added) = vocabulary.sort_out(|_| None)?;
    let merges = vocabulary.pairs(&vocab)?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(rules.ignore_merges).build();
    let mut tokenizer = vocabulary.assemble(model.map_err(refused("merges"))?, rules.add_bos)?;
    let nfc = rules.nfc.then_some(NormalizerWrapper::NFC(NFC));
    tokenizer.with_normalizer(nfc).map_err(refused("pre"))?;
    tokenizer.with_pre_tokenizer(Some(rules.pre_tokenizer()?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_tokens(added).map_err(refused("tokens"))?;
    Ok(tokenizer)
}
