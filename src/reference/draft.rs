//! `shaders/draft.wgsl` and `shaders/adopt.wgsl`

use std::ops::Range;

/// What an assistant computes of a slot next: positions of its rows, and how many drafts may come of them. `last`: the position of the
/// slot's last token; `computed`: how many of its first tokens the assistant has computed, drafts that were not accepted included; `each`:
/// rows at once; `most`: drafts that are wanted.
#[must_use]
pub fn draft(last: usize, computed: usize, each: usize, most: usize) -> (Range<usize>, usize) {
    let begin = computed.min(last);
    let end = (last + 1).min(begin + each);
    // until it has caught up, what it samples is nobody's draft
    (begin..end, if end == last + 1 { most.min(each - 1) } else { 0 })
}
