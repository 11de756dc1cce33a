use super::attention::weights;

/// How much a prompt's last rows attend to each key before them (Li et al. 2024, "SnapKV"): softmax weights, summed over those rows and
/// over the query heads of a key head. `q`: `[T, H, E]`, the last T rows; `k`: `[S, K, E]`; returns `[K, S - T]`.
#[must_use]
pub fn observe(q: &[f32], k: &[f32], heads: [usize; 3], caps: [f32; 2]) -> Vec<f64> {
    let [h, kv_heads, head_dim] = heads;
    let (rows, keys) = (q.len() / (h * head_dim), k.len() / (kv_heads * head_dim));
    let before = keys - rows;
    let mut sums = vec![0.0; kv_heads * before];
    for (row, query) in q.chunks_exact(head_dim).enumerate() {
        let (t, own) = (row / h, row % h / (h / kv_heads));
        let weights = weights(query, k, own, heads, 0..before + t + 1, caps);
        sums[own * before..][..before].iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
    }
    sums
}
