//! `shaders/prompt_lookup.wgsl`

/// What may follow `ids`: up to `count` tokens that stand after the first earlier place of their end, the longest end of at most `ngram`
/// tokens that has one (Saxena 2023; transformers' `PromptLookupCandidateGenerator`).
#[must_use]
pub fn prompt_lookup(ids: &[u32], ngram: usize, count: usize) -> &[u32] {
    for size in (1..=ngram.min(ids.len().saturating_sub(1))).rev() {
        let end = &ids[ids.len() - size..];
        // the last place is the end itself
        let found = ids[..ids.len() - 1].windows(size).position(|window| window == end);
        if let Some(at) = found {
            let follows = &ids[at + size..];
            return &follows[..count.min(follows.len())];
        }
    }
    &[]
}
