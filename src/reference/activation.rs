use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `y[t, f] = act(x[t, f])`, or with a gate `act(gate[t, f]) * up[t, f]`. `x`: `[T, F]`, or `[T, 2 F]`, gate then up, F being
/// `dim`; returns `[T, F]`. Shazeer 2020.
#[must_use]
pub fn activation(x: &[f32], act: fn(f64) -> f64, gated: bool, dim: usize) -> Vec<f64> {
    let apply = |v: &f32| act(f64::from(*v));
    if !gated {
        return x.iter().map(apply).collect();
    }
    x.chunks_exact(2 * dim)
        .flat_map(|row| row[..dim].iter().zip(&row[dim..]).map(move |(gate, &up)| apply(gate) * f64::from(up)))
        .collect()
}

/// `v * sigmoid(v)`. Elfwing et al. 2018.
#[must_use]
pub fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}

/// The approximation of [`gelu`] by tanh. Hendrycks & Gimpel 2016.
#[must_use]
pub fn gelu_tanh(v: f64) -> f64 {
    0.5 * v * (1.0 + ((2.0 / PI).sqrt() * (v + 0.044_715 * v.powi(3))).tanh())
}

/// `0.5 v (1 + erf(v / sqrt(2)))`. Hendrycks & Gimpel 2016.
#[must_use]
pub fn gelu(v: f64) -> f64 {
    0.5 * v * erfc(-v * FRAC_1_SQRT_2)
}

/// `v * sigmoid(1.702 v)`. Hendrycks & Gimpel 2016.
#[must_use]
pub fn quick_gelu(v: f64) -> f64 {
    v / (1.0 + (-1.702 * v).exp())
}

/// `max(v, 0)`.
#[must_use]
pub fn relu(v: f64) -> f64 {
    v.max(0.0)
}

/// `max(v, 0)^2`. So et al. 2021.
#[must_use]
pub fn relu2(v: f64) -> f64 {
    v.max(0.0).powi(2)
}

/// `1 - erf(x)`: by its Taylor series where that is exact, by its continued fraction (Laplace) beyond.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - 2.0 / PI.sqrt() * sum;
    }
    let fraction = (1..200).rev().fold(x, |f, n| x + f64::from(n) / 2.0 / f);
    (-x * x).exp() / PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::erfc;

    /// Against digits of Abramowitz & Stegun, table 7.1.
    #[test]
    fn erfc_is_that_of_the_tables() {
        for (x, want) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_1),
            (3.0, 2.209_049_699_858_544e-5),
        ] {
            assert!((erfc(x) - want).abs() < 1e-14, "{x}: {}", erfc(x));
            assert!((erfc(-x) - (2.0 - want)).abs() < 1e-14, "-{x}");
        }
    }
}
