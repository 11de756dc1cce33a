//! `shaders/no_repeat_ngram.wgsl`

/// Forbids in `logits`, `[V]`, every token that would complete an n-gram of `size` tokens which is already among `ids`, the
/// tokens so far, prompt included (Paulus, Xiong & Socher 2017). 0: off.
pub fn no_repeat_ngram(logits: &mut [f32], size: u32, ids: &[u32]) {
    let size = size as usize;
    if size == 0 || size > ids.len() {
        return;
    }
    let begun = &ids[ids.len() + 1 - size..];
    for ngram in ids.windows(size) {
        let (before, last) = ngram.split_at(size - 1);
        if before == begun
            && let Some(logit) = logits.get_mut(last[0] as usize)
        {
            *logit = f32::NEG_INFINITY;
        }
    }
}
