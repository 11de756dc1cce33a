use std::ops::Range;

/// Causal attention, softmax written out:
/// `y[t, h, ..] = sum_s softmax_s(scale * q[t, h, ..] . k[s, h', ..]) v[s, h', ..]`, `s <= position + t`, `h' = h / (H / K)`,
/// scores bounded to `cap * tanh(score / cap)` where `softcap` is above 0, and with a `window` of w > 0 only the last w keys.
/// `q`: `[T, H, E]`; `k`, `v`: `[S, K, E]` in order of position, S at least `position + T`; returns `[T, H, E]`. Vaswani et al. 2017; grouped heads: Ainslie et al. 2023.
#[must_use]
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    sizes: [usize; 3],
    position: usize,
    caps: [f32; 2],
    window: usize,
) -> Vec<f64> {
    let [heads, kv_heads, head_dim] = sizes;
    let mut y = Vec::with_capacity(q.len());
    for (row, query) in q.chunks_exact(head_dim).enumerate() {
        let (t, h) = (row / heads, row % heads);
        let own = h / (heads / kv_heads);
        let end = position + t + 1;
        let begin = if window == 0 { 0 } else { end.saturating_sub(window) };
        let of = |s: usize, e: usize| f64::from(v[(s * kv_heads + own) * head_dim + e]);
        let weights = weights(query, k, own, sizes, begin..end, caps);
        y.extend((0..head_dim).map(|e| (begin..end).zip(&weights).map(|(s, w)| w * of(s, e)).sum::<f64>()));
    }
    y
}

/// The softmax of one query over some keys of key head `own`.
pub(super) fn weights(
    query: &[f32],
    k: &[f32],
    own: usize,
    [_, kv_heads, head_dim]: [usize; 3],
    keys: Range<usize>,
    [scale, softcap]: [f32; 2],
) -> Vec<f64> {
    let of = |s: usize, e: usize| f64::from(k[(s * kv_heads + own) * head_dim + e]);
    let score = |s| {
        let score = (0..head_dim).map(|e| f64::from(query[e]) * of(s, e)).sum::<f64>() * f64::from(scale);
        let cap = f64::from(softcap);
        if cap > 0.0 { cap * (score / cap).tanh() } else { score }
    };
    let scores: Vec<f64> = keys.map(score).collect();
    let most = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// As [`attention`], each row seeing all keys of `k`, those after it too (Devlin et al. 2018).
#[must_use]
pub fn attention_of_all(q: &[f32], k: &[f32], v: &[f32], sizes: [usize; 3], caps: [f32; 2]) -> Vec<f64> {
    let [heads, kv_heads, head_dim] = sizes;
    let keys = k.len() / (kv_heads * head_dim);
    // one row after another in the place of the last
    q.chunks_exact(heads * head_dim).flat_map(|row| attention(row, k, v, sizes, keys - 1, caps, 0)).collect()
}
