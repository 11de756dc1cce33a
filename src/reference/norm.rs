/// A row's mean and deviation, and what they are multiplied by.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Whether the row's mean is taken away first.
    pub center: bool,
    /// Added to every gain.
    pub offset: f32,
    /// Added to the mean square.
    pub eps: f32,
    /// `[D]`
    pub gain: &'a [f32],
    /// `[D]`, where there is one.
    pub bias: Option<&'a [f32]>,
}

/// `y[r, c] = (x[r, c] - m) * (offset + gain[c]) / sqrt(mean((x[r, ..] - m)^2) + eps) + bias[c]`, m being 0 or the row's mean.
/// `x`: `[T, D]`; returns the same. Zhang & Sennrich 2019; Ba et al. 2016.
#[must_use]
pub fn norm(x: &[f32], n: Norm<'_>) -> Vec<f64> {
    let normed = |row: &[f32]| {
        let count = row.len() as f64;
        let mean = if n.center { row.iter().map(|&v| f64::from(v)).sum::<f64>() / count } else { 0.0 };
        let squares: f64 = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        let norm = 1.0 / (squares / count + f64::from(n.eps)).sqrt();
        let value = |c: usize| {
            let bias = n.bias.map_or(0.0, |bias| f64::from(bias[c]));
            (f64::from(row[c]) - mean) * norm * (f64::from(n.offset) + f64::from(n.gain[c])) + bias
        };
        (0..row.len()).map(value).collect::<Vec<_>>()
    };
    x.chunks_exact(n.gain.len()).flat_map(normed).collect()
}
