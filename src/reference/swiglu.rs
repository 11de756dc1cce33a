/// `y[t, f] = silu(gate[t, f]) * up[t, f]`, `silu(v) = v / (1 + exp(-v))`. `x`: `[T, 2 F]`, gate then up, F being `dim`;
/// returns `[T, F]`. Shazeer 2020.
#[must_use]
pub fn swiglu(x: &[f32], dim: usize) -> Vec<f64> {
    let silu = |v: f64| v / (1.0 + (-v).exp());
    x.chunks_exact(2 * dim)
        .flat_map(|row| row[..dim].iter().zip(&row[dim..]).map(|(&gate, &up)| silu(f64::from(gate)) * f64::from(up)))
        .collect()
}
