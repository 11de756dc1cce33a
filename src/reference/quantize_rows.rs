/// Rows of `dim` as codes, and each row's scale: its largest magnitude, or `least`, / 127. Rounds to the nearest, ties to even.
#[must_use]
pub fn quantize_rows(x: &[f32], dim: usize, least: f32) -> (Vec<i8>, Vec<f32>) {
    let (mut codes, mut scales) = (Vec::with_capacity(x.len()), Vec::new());
    for row in x.chunks_exact(dim) {
        let most = row.iter().fold(least, |most, v| most.max(v.abs()));
        let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
        codes.extend(row.iter().map(|v| (v * inverse).round_ties_even() as i8));
        scales.push(most / 127.0);
    }
    (codes, scales)
}
