/// `cap * tanh(x / cap)`. Gemma 2, 2024.
#[must_use]
pub fn softcap(x: &[f32], cap: f32) -> Vec<f64> {
    x.iter().map(|&v| f64::from(cap) * (f64::from(v) / f64::from(cap)).tanh()).collect()
}
