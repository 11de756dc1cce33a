/// `y[s, ..]`: the mean of the rows of text s, or with `first` the first of them, with `normalize` divided by its length.
/// `x`: `[T, D]`, text after text; `rows`: of each text. Returns `[B, D]`. Reimers & Gurevych 2019.
#[must_use]
pub fn pool(x: &[f32], dim: usize, rows: &[usize], first: bool, normalize: bool) -> Vec<f64> {
    let mut begin = 0;
    let text = |&count: &usize| {
        let own = &x[begin * dim..(begin + if first { 1 } else { count }) * dim];
        begin += count;
        let sum = |e: usize| own.iter().skip(e).step_by(dim).map(|&v| f64::from(v)).sum::<f64>();
        let mean: Vec<f64> = (0..dim).map(|e| sum(e) / (own.len() / dim) as f64).collect();
        let length = if normalize { mean.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12) } else { 1.0 };
        mean.into_iter().map(move |v| v / length)
    };
    rows.iter().flat_map(text).collect()
}
