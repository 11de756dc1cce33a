/// Rows of the positions that are kept of a prompt: of each key head those that it has chosen, then the last ones, up to `kept`.
/// `cache`: `[S, K, E]`; `chosen`: `[K, kept - T]`; returns `[kept, K, E]`.
#[must_use]
pub fn gather_cache(cache: &[f32], [kv_heads, head_dim]: [usize; 2], chosen: &[u32], kept: usize) -> Vec<f32> {
    let (keys, early) = (cache.len() / (kv_heads * head_dim), chosen.len() / kv_heads);
    let mut rows = Vec::with_capacity(kept * kv_heads * head_dim);
    for (i, own) in (0..kept).flat_map(|i| (0..kv_heads).map(move |own| (i, own))) {
        let position = if i < early { chosen[own * early + i] as usize } else { keys - kept + i };
        rows.extend_from_slice(&cache[(position * kv_heads + own) * head_dim..][..head_dim]);
    }
    rows
}
