use super::norm::{Norm, norm};

/// Normalizes the query and key heads of `qkv`, `[T, (H + 2 K) E]`, each by itself; values stay. Gain and bias: `[2, E]`, that
/// of queries, then that of keys. Dehghani et al. 2023.
#[must_use]
pub fn head_norm(qkv: &[f32], [heads, kv_heads, head_dim]: [usize; 3], n: Norm<'_>) -> Vec<f64> {
    let all = heads + 2 * kv_heads;
    let normed = |x: &[f32], first: usize| {
        let own = first..first + head_dim;
        norm(x, Norm { gain: &n.gain[own.clone()], bias: n.bias.map(|bias| &bias[own]), ..n })
    };
    let head = |(i, x): (usize, &[f32])| match i % all {
        h if h < heads => normed(x, 0),
        h if h < heads + kv_heads => normed(x, head_dim),
        _ => x.iter().map(|&v| f64::from(v)).collect(),
    };
    qkv.chunks_exact(head_dim).enumerate().flat_map(head).collect()
}
