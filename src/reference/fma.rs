//! The chains of `shaders/fma.wgsl`.

/// `[count, 4]`
#[must_use]
pub fn fma(count: usize, rounds: u32, factor: f32, addend: f32) -> Vec<f64> {
    let (factor, addend) = (f64::from(factor), f64::from(addend));
    chains(count, |start| (0..rounds).fold(f64::from(start), |v, _| v * factor + addend))
}

/// The same of 8-bit integers, four to a number: `[count, 4]`
#[must_use]
pub fn fma_int8(count: usize, rounds: u32, factor: i8, addend: i8) -> Vec<f64> {
    let sum = |v: i32| v.to_le_bytes().iter().map(|&byte| i32::from(byte as i8)).sum::<i32>();
    chains(count, |start| {
        f64::from((0..rounds).fold(start as i32, |v, _| sum(v) * i32::from(factor) + i32::from(addend)))
    })
}

fn chains(count: usize, chain: impl Fn(u32) -> f64) -> Vec<f64> {
    (0..count as u32).flat_map(|i| [(0..8).map(|c| chain(i % 16 + c)).sum(); 4]).collect()
}
