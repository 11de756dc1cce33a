//! Sampling from one row of logits, as `shaders/sample.wgsl` does it: the noise is a function of seed, position and token, so
//! the GPU and this make the same draw. Logits that are not finite do not take part.

use crate::shaders::Sampling;

/// Draws the token at `position` (the number of tokens before it) from `logits`, `[V]`. Greedy at temperature 0, the lowest
/// id among equals; otherwise the Gumbel-max trick (Gumbel 1954) over what [`warp`] leaves. `None`: no logit is finite.
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
    let kept = (0..).zip(warp(logits, params)).filter(|(_, v)| v.is_finite());
    if params.temperature <= 0.0 {
        return kept.collect();
    }
    let [x, y, z] = pcg3d([params.seed_low, params.seed_high, position]);
    kept.map(|(id, v)| (id, v - exponential(pcg3d([x ^ id, y, z])[0]).ln())).collect()
}

/// The scores that are sampled from, `[V]`: `logits / temperature`, and minus infinity for what top-k, top-p, min-p,
/// typical-p, epsilon and eta, in this order, remove. Each sees the distribution that those before it left, and leaves at
/// least the most likely token. At temperature 0 the logits themselves.
///
/// Equal scores stay or go together. transformers does the same, except for top-p, where it depends on how its sort orders
/// equal scores at the border.
#[must_use]
pub fn warp(logits: &[f32], params: &Sampling) -> Vec<f64> {
    let greedy = params.temperature <= 0.0;
    let temperature = if greedy { 1.0 } else { f64::from(params.temperature) };
    let score = |v: f32| if v.is_finite() { f64::from(v) / temperature } else { f64::NEG_INFINITY };
    let mut scores: Vec<f64> = logits.iter().map(|&v| score(v)).collect();
    if greedy {
        return scores;
    }
    if params.top_k > 0 || params.top_p < 1.0 {
        let least = cut(logits, params);
        drop_where(&mut scores, |i, _| order(logits[i]) < least);
    }
    if params.min_p > 0.0 {
        let most = greatest(&scores);
        let least = f64::from(params.min_p).ln();
        drop_where(&mut scores, |_, v| v - most < least);
    }
    if params.typical_p < 1.0 {
        typical(&mut scores, f64::from(params.typical_p));
    }
    if params.epsilon_cutoff > 0.0 {
        keep_likely(&mut scores, f64::from(params.epsilon_cutoff));
    }
    if params.eta_cutoff > 0.0 {
        let eta = f64::from(params.eta_cutoff);
        let entropy = entropy(&scores);
        keep_likely(&mut scores, eta.min(eta.sqrt() * (-entropy).exp()));
    }
    scores
}

/// The distribution that [`sample`] draws from: the softmax of what [`warp`] leaves. `[V]`, sums to 1; all zero when no logit
/// is finite.
#[must_use]
pub fn probabilities(logits: &[f32], params: &Sampling) -> Vec<f64> {
    log_softmax(&warp(logits, params)).into_iter().map(f64::exp).collect()
}

/// `ln(softmax(scores))`, `[V]`; minus infinity stays.
#[must_use]
pub fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let most = greatest(scores);
    if !most.is_finite() {
        return vec![f64::NEG_INFINITY; scores.len()];
    }
    let sum: f64 = scores.iter().map(|v| (v - most).exp()).sum();
    scores.iter().map(|v| v - most - sum.ln()).collect()
}

fn greatest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn drop_where(scores: &mut [f64], drop: impl Fn(usize, f64) -> bool) {
    for (i, v) in scores.iter_mut().enumerate() {
        if drop(i, *v) {
            *v = f64::NEG_INFINITY;
        }
    }
}

/// Drops what is less likely than `least`, but never the most likely.
fn keep_likely(scores: &mut [f64], least: f64) {
    let most = greatest(scores);
    let logs = log_softmax(scores);
    drop_where(scores, |i, v| logs[i] < least.ln() && v < most);
}

/// In nats.
fn entropy(scores: &[f64]) -> f64 {
    log_softmax(scores).into_iter().filter(|l| l.is_finite()).map(|l| -l * l.exp()).sum()
}

/// Keeps the tokens whose surprise is nearest to the entropy, up to a mass of `mass` (Meister et al. 2022).
fn typical(scores: &mut [f64], mass: f64) {
    let entropy = entropy(scores);
    let logs = log_softmax(scores);
    let distance = |i: usize| (-logs[i] - entropy).abs();
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| logs[i].is_finite()).collect();
    order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    let mut sum = 0.0;
    let last = order.into_iter().find(|&i| {
        sum += logs[i].exp();
        sum >= mass
    });
    if let Some(last) = last {
        drop_where(scores, |i, _| distance(i) > distance(last));
    }
}

/// The least [`order`] that takes part: of the `top_k`-th greatest logit, and, of what these leave, of the last that it takes
/// for a mass of `top_p`.
fn cut(logits: &[f32], params: &Sampling) -> u32 {
    let mut sorted: Vec<(u32, f32)> = logits.iter().map(|&v| (order(v), v)).filter(|&(key, _)| key > 0).collect();
    let descending = |&(key, _): &(u32, f32)| std::cmp::Reverse(key);
    let mut least = 1;
    let top_k = params.top_k as usize;
    if top_k > 0 && top_k < sorted.len() {
        // no need to sort what is dropped
        let (_, &mut (key, _), _) = sorted.select_nth_unstable_by_key(top_k - 1, descending);
        least = key;
        sorted.retain(|&(key, _)| key >= least);
    }
    if params.top_p < 1.0 && !sorted.is_empty() {
        sorted.sort_unstable_by_key(descending);
        let most = f64::from(sorted[0].1);
        let weight = |v: f32| ((f64::from(v) - most) / f64::from(params.temperature)).exp();
        let wanted = sorted.iter().map(|&(_, v)| weight(v)).sum::<f64>() * f64::from(params.top_p);
        let mut mass = 0.0;
        for &(key, v) in &sorted {
            mass += weight(v);
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
