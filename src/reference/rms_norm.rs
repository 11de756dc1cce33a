/// `y[r, c] = x[r, c] * gain[c] / sqrt(mean(x[r, ..]^2) + eps)`. `x`: `[T, D]`; `gain`: `[D]`; returns `[T, D]`.
/// Zhang & Sennrich 2019.
#[must_use]
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32) -> Vec<f64> {
    let normed = |row: &[f32]| {
        let squares: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
        let norm = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
        row.iter().zip(gain).map(|(&v, &g)| f64::from(v) * norm * f64::from(g)).collect::<Vec<_>>()
    };
    x.chunks_exact(gain.len()).flat_map(normed).collect()
}
