/// `y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]`. `x`: `[T, K]`, K being `inputs`; `w`: `[N, K]`; `bias`: `[N]`;
/// returns `[T, N]`. The twin of both kernels, for few rows and for many.
#[must_use]
pub fn matmul(x: &[f32], w: &[f32], inputs: usize, bias: Option<&[f32]>) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let mut y = Vec::with_capacity(x.len() / inputs * (w.len() / inputs));
    for row in x.chunks_exact(inputs) {
        for (n, column) in w.chunks_exact(inputs).enumerate() {
            y.push(dot(row, column) + bias.map_or(0.0, |b| f64::from(b[n])));
        }
    }
    y
}
