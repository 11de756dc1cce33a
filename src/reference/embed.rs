/// `y[t, ..] = table[ids[t], ..] * scale`. `table`: `[V, dim]`; returns `[T, dim]`.
#[must_use]
pub fn embed(table: &[f32], dim: usize, ids: &[u32], scale: f32) -> Vec<f64> {
    let row = |&id: &u32| &table[id as usize * dim..][..dim];
    ids.iter().flat_map(row).map(|&v| f64::from(v) * f64::from(scale)).collect()
}
