//! The chains of `shaders/fma.wgsl`.

/// `[count, 4]`
#[must_use]
pub fn fma(count: usize, rounds: u32, factor: f32, addend: f32) -> Vec<f64> {
    let (factor, addend) = (f64::from(factor), f64::from(addend));
    let chain = |start: usize| (0..rounds).fold(start as f64, |v, _| v * factor + addend);
    (0..count).flat_map(|i| [(0..8).map(|c| chain(i % 16 + c)).sum(); 4]).collect()
}
