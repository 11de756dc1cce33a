/// `y[t, ..] = table[ids[t], ..] * scale`. `table`: `[V, dim]`; returns `[T, dim]`.
#[must_use]
pub fn embed(table: &[f32], dim: usize, ids: &[u32], scale: f32) -> Vec<f64> {
    let row = |&id: &u32| &table[id as usize * dim..][..dim];
    ids.iter().flat_map(row).map(|&v| f64::from(v) * f64::from(scale)).collect()
}

/// `x[t, ..] + table[ids[t], ..]`. `x`: `[T, dim]`; returns the same.
#[must_use]
pub fn embed_types(x: &[f32], table: &[f32], dim: usize, ids: &[u32]) -> Vec<f64> {
    x.iter().zip(embed(table, dim, ids, 1.0)).map(|(&x, added)| f64::from(x) + added).collect()
}

/// `x[t, ..] + table[position + t, ..]`, `position` counted from the table's first row. `x`: `[T, dim]`; returns the same.
#[must_use]
pub fn embed_positions(x: &[f32], table: &[f32], dim: usize, position: usize) -> Vec<f64> {
    x.iter().zip(&table[position * dim..]).map(|(&x, &p)| f64::from(x) + f64::from(p)).collect()
}
