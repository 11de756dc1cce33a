//! `llama`: SentencePiece's BPE, which joins the neighbours whose token has the highest score. `gemma4` has a list of merges instead.

use std::borrow::Cow;
use std::collections::HashSet;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace};
use tokenizers::{decoders, normalizers};

use super::{BYTE, Role, USER_DEFINED, Vocabulary, bad, refused};
use crate::error::TokenizerError;

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

pub(super) fn build(vocabulary: &Vocabulary) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let by_scores = vocabulary.model == "llama";
    if by_scores && vocabulary.scores.is_empty() {
        return Err(bad("scores", "it is missing, and merges follow from it"));
    }
    let runs = Runs::of(vocabulary);
    let (vocab, mut added) = vocabulary.sort_out(|id| runs.text(id))?;
    let merges = if by_scores { derive(&pieces(vocabulary, &runs))? } else { vocabulary.pairs(&vocab)? };
    let mut model = BPE::builder().byte_fallback(true).fuse_unk(true);
    if let Some(unk) =
        vocabulary.unk_id().map(|id| &vocabulary.tokens[id as usize]).filter(|unk| vocab.contains_key(*unk))
    {
        model = model.unk_token(unk.clone());
    }
    let model = model.vocab_and_merges(vocab, merges).build().map_err(refused("tokens"))?;
    let mut tokenizer = vocabulary.assemble(model, true)?;

    let wide = Replace::new(" ", SPACE).map_err(refused("model"))?.into();
    let narrow = Replace::new(SPACE, " ").map_err(refused("model"))?.into();
    let mut normalizer: Vec<NormalizerWrapper> = vec![wide];
    let mut decoder: Vec<DecoderWrapper> = vec![narrow, ByteFallback::new().into(), Fuse::new().into()];
    if vocabulary.add_space_prefix.unwrap_or(by_scores) {
        normalizer.insert(0, Prepend::new(SPACE.to_owned()).into());
        decoder.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_normalizer(Some(normalizers::Sequence::new(normalizer))).map_err(refused("model"))?;
    tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(decoder)));
    let name = vocabulary.name.as_deref().unwrap_or_default().to_lowercase();
    if name.contains("phi-3") || name.contains("phi3") {
        for token in &mut added {
            token.rstrip = !matches!(token.content.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
        }
    }
    tokenizer.add_tokens(added).map_err(refused("tokens"))?;
    Ok(tokenizer)
}

/// User-defined runs of spaces, as Gemma has them. Files write them with either sort of space. They come by merging, before all
/// others, as in its `tokenizer.json`, and are not cut out of a text: that would be the same except for runs longer than any token.
struct Runs<'a> {
    vocabulary: &'a Vocabulary,
    /// Runs that are ordinary tokens.
    plain: HashSet<&'a str>,
}

impl<'a> Runs<'a> {
    fn of(vocabulary: &'a Vocabulary) -> Self {
        let is_plain = |(id, token): &(usize, &String)| is_spaces(token) && vocabulary.role(*id) == Role::Normal;
        let plain = vocabulary.tokens.iter().enumerate().filter(is_plain).map(|(_, token)| token.as_str()).collect();
        Self { vocabulary, plain }
    }

    /// How the token is written in the model, if it is such a run.
    fn text(&self, id: usize) -> Option<String> {
        let token = &self.vocabulary.tokens[id];
        let is_run = self.vocabulary.kind(id) == USER_DEFINED && is_spaces(token) && token.chars().nth(1).is_some();
        is_run.then(|| token.replace(' ', SPACE)).filter(|text| !self.plain.contains(text.as_str()))
    }
}

fn is_spaces(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|c| c == ' ' || c == '\u{2581}')
}

/// A token that merging can give.
struct Piece<'a> {
    text: Cow<'a, str>,
    /// Characters.
    length: u32,
    score: f32,
}

/// Neither bytes nor what is cut out of a text: nobody is to write a control token by parts of its name.
fn pieces<'a>(vocabulary: &'a Vocabulary, runs: &Runs<'_>) -> Vec<Piece<'a>> {
    let piece = |(id, token): (usize, &'a String)| {
        let (text, score) = match (runs.text(id), vocabulary.role(id)) {
            (Some(run), _) => (Cow::Owned(run), f32::INFINITY),
            (None, Role::Normal) if vocabulary.kind(id) != BYTE => (Cow::from(token.as_str()), vocabulary.scores[id]),
            _ => return None,
        };
        let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Some(Piece { text, length, score })
    };
    vocabulary.tokens.iter().enumerate().filter_map(piece).collect()
}

/// Every way to make a piece of two others: those of higher scores first; of one score, those with the longer left part.
///
/// The time is that of sorting the pieces and of reading them once: of each only those parts are looked at that are pieces.
fn derive(pieces: &[Piece<'_>]) -> Result<Vec<(String, String)>, TokenizerError> {
    let starts = nested(pieces, |a, b| a.cmp(b), |whole, part| whole.starts_with(part));
    let ends = nested(pieces, |a, b| a.bytes().rev().cmp(b.bytes().rev()), |whole, part| whole.ends_with(part));
    // Real vocabularies have two merges per token. Without a bound, a small file of tokens that are all parts of one another could
    // ask for any amount of memory.
    let cost = |piece: &Piece<'_>| 64 + piece.text.len();
    let mut budget = pieces.iter().map(cost).sum::<usize>().saturating_mul(16).saturating_add(4 << 20);
    let (mut merges, mut lefts) = (Vec::new(), Vec::new());
    for (whole, piece) in pieces.iter().enumerate() {
        lefts.clear();
        lefts.extend(std::iter::successors(starts[whole], |at| starts[*at]));
        // both go from the longest part to the shortest, so the lefts are taken from behind
        let from = merges.len();
        for right in std::iter::successors(ends[whole], |at| ends[*at]) {
            let at = piece.text.len() - pieces[right].text.len();
            while lefts.last().is_some_and(|left| pieces[*left].text.len() < at) {
                lefts.pop();
            }
            if let Some(left) = lefts.last().filter(|left| pieces[**left].text.len() == at) {
                budget = budget.checked_sub(cost(piece)).ok_or_else(|| {
                    bad("tokens", "they are made of one another in more ways than those of any known tokenizer")
                })?;
                merges.push((whole, *left, right));
            }
        }
        merges[from..].sort_unstable_by_key(|(_, left, right)| (*left, *right));
    }
    // stable: what is equal in all of these stays in the order of ids
    merges.sort_by(|(a, a_left, a_right), (b, b_left, b_right)| {
        let lengths = |left: &usize, right: &usize| (pieces[*left].length, pieces[*right].length);
        let scores = pieces[*b].score.total_cmp(&pieces[*a].score);
        scores.then_with(|| lengths(b_left, b_right).cmp(&lengths(a_left, a_right)))
    });
    Ok(merges
        .into_iter()
        .map(|(_, left, right)| (pieces[left].text.to_string(), pieces[right].text.to_string()))
        .collect())
}

/// Of each piece, the longest other that it starts with (or ends with), given an order in which such parts stand right before the wholes.
fn nested(
    pieces: &[Piece<'_>],
    order: impl Fn(&str, &str) -> std::cmp::Ordering,
    has: impl Fn(&str, &str) -> bool,
) -> Vec<Option<usize>> {
    let mut sorted: Vec<usize> = (0..pieces.len()).collect();
    sorted.sort_unstable_by(|a, b| order(&pieces[*a].text, &pieces[*b].text));
    let (mut parts, mut open) = (vec![None; pieces.len()], Vec::<usize>::new());
    for whole in sorted {
        while open.last().is_some_and(|part| !has(&pieces[whole].text, &pieces[*part].text)) {
            open.pop();
        }
        parts[whole] = open.last().copied();
        open.push(whole);
    }
    parts
}
