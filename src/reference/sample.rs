//! Sampling from one row of logits, as `shaders/sample.wgsl` does it: the noise is a function of seed, position and token, so
//! the GPU and this make the same draw. Logits that are not finite do not take part.

use crate::shaders::Sampling;

/// Draws the token at `position` (the number of tokens before it) from `logits`, `[V]`. Greedy at temperature 0, the lowest
/// id among equals; otherwise the Gumbel-max trick (Gumbel 1954) over what top-k and top-p leave. `None`: no logit is finite.
#[must_use]
pub fn sample(logits: &[f32], params: &Sampling, position: u32) -> Option<u32> {
    scores(logits, params, position)
        .into_iter()
        .reduce(|best, other| if other.1 > best.1 { other } else { best })
        .map(|(id, _)| id)
}

/// What [`sample`] takes the greatest of: the tokens that take part, in order, and their logits, perturbed by noise.
#[must_use]
pub fn scores(logits: &[f32], params: &Sampling, position: u32) -> Vec<(u32, f64)> {
    let all = (0..).zip(logits).filter(|(_, v)| v.is_finite());
    if params.temperature <= 0.0 {
        return all.map(|(id, &v)| (id, f64::from(v))).collect();
    }
    let least = cut(logits, params.temperature, params.top_k, params.top_p);
    let temperature = f64::from(params.temperature);
    let [x, y, z] = pcg3d([params.seed_low, params.seed_high, position]);
    all.filter(|(_, v)| order(**v) >= least)
        .map(|(id, &v)| (id, f64::from(v) / temperature - exponential(pcg3d([x ^ id, y, z])[0]).ln()))
        .collect()
}

/// The distribution that [`sample`] draws from at a temperature above 0: the softmax of `logits / temperature` over the
/// tokens that top-k, then top-p leave. `[V]`, sums to 1; all zero when no logit is finite.
#[must_use]
pub fn probabilities(logits: &[f32], temperature: f32, top_k: u32, top_p: f32) -> Vec<f64> {
    let least = cut(logits, temperature, top_k, top_p);
    let mut weights = weights(logits, temperature);
    for (weight, &v) in weights.iter_mut().zip(logits) {
        if order(v) < least {
            *weight = 0.0;
        }
    }
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    weights
}

/// `exp((logit - greatest) / temperature)`; 0 for what is not finite.
fn weights(logits: &[f32], temperature: f32) -> Vec<f64> {
    let finite = logits.iter().copied().filter(|v| v.is_finite());
    let most = f64::from(finite.fold(f32::MIN, f32::max));
    let weight = |v: f32| ((f64::from(v) - most) / f64::from(temperature)).exp();
    logits.iter().map(|&v| if v.is_finite() { weight(v) } else { 0.0 }).collect()
}

/// The least [`order`] that takes part: of the `top_k`-th greatest logit (0: off), and, of what these leave, of the last
/// that it takes for a mass of `top_p` (1: off). Equal logits stay or go together. At least one stays.
fn cut(logits: &[f32], temperature: f32, top_k: u32, top_p: f32) -> u32 {
    let weights = weights(logits, temperature);
    let mut sorted: Vec<(u32, f64)> =
        logits.iter().map(|&v| order(v)).zip(weights).filter(|&(key, _)| key > 0).collect();
    sorted.sort_by_key(|&(key, _)| std::cmp::Reverse(key));
    let mut least = 1;
    if top_k > 0 && (top_k as usize) < sorted.len() {
        least = sorted[top_k as usize - 1].0;
        sorted.retain(|&(key, _)| key >= least);
    }
    if top_p < 1.0 {
        let wanted = sorted.iter().map(|&(_, w)| w).sum::<f64>() * f64::from(top_p);
        let mut mass = 0.0;
        for &(key, weight) in &sorted {
            mass += weight;
            if mass >= wanted {
                return least.max(key);
            }
        }
    }
    least
}

/// A number that orders as the finite floats do, and is 0 for the rest.
fn order(v: f32) -> u32 {
    let bits = v.to_bits();
    if !v.is_finite() {
        0
    } else if bits >= 0x8000_0000 {
        !bits
    } else {
        bits | 0x8000_0000
    }
}

/// Jarzynski & Olano 2020, "Hash Functions for GPU Rendering".
#[must_use]
pub fn pcg3d(seed: [u32; 3]) -> [u32; 3] {
    let [mut x, mut y, mut z] = seed.map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let mut round = |shift: bool| {
        if shift {
            (x, y, z) = (x ^ x >> 16, y ^ y >> 16, z ^ z >> 16);
        }
        x = x.wrapping_add(y.wrapping_mul(z));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
    };
    round(false);
    round(true);
    [x, y, z]
}

/// An exponential variate from 32 random bits, rounded where the kernel rounds.
fn exponential(bits: u32) -> f64 {
    let u = (bits as f32 + 0.5) * 2.328_306_4e-10;
    if u < 0.001 { f64::from(u + 0.5 * u * u) } else { -f64::from((1.0 - u).max(2.980_232_2e-8)).ln() }
}
