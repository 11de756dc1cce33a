use super::rms_norm::rms_norm;

/// Normalizes the query and key heads of `qkv`, `[T, (H + 2 K) E]`, each by itself; values stay. `gain`: `[2, E]`, that of
/// queries, then that of keys. Dehghani et al. 2023.
#[must_use]
pub fn head_norm(qkv: &[f32], [heads, kv_heads, head_dim]: [usize; 3], gain: &[f32], eps: f32) -> Vec<f64> {
    let all = heads + 2 * kv_heads;
    let head = |(i, x): (usize, &[f32])| match i % all {
        h if h < heads => rms_norm(x, &gain[..head_dim], eps),
        h if h < heads + kv_heads => rms_norm(x, &gain[head_dim..], eps),
        _ => x.iter().map(|&v| f64::from(v)).collect(),
    };
    qkv.chunks_exact(head_dim).enumerate().flat_map(head).collect()
}
