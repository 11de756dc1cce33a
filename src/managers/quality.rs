//! What it costs to run a model in fewer bits: how far its predictions are from those of a baseline, position by position, and where
//! in the network the difference comes from. Sums are f64; logarithms are natural, so divergences are in nats.

use serde::Serialize;

/// How many of the most likely tokens [`Prediction::top5`] compares.
const MOST_LIKELY: usize = 5;

/// `ln softmax(logits)`: `(logits[i] - max) - ln(sum(exp(logits[..] - max)))`.
#[must_use]
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - most).exp()).sum();
    let ln_sum = sum.ln();
    logits.iter().map(|&v| (f64::from(v) - most) - ln_sum).collect()
}

/// What a baseline and a candidate say of one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// `-ln p(target)` by the baseline.
    pub baseline_nll: f64,
    /// `-ln p(target)` by the candidate.
    pub nll: f64,
    /// `KL(baseline || candidate)` (Kullback & Leibler 1951), nats: what is lost on average by coding what the baseline expects with
    /// the candidate's probabilities. 0 where both are equal; what rounding takes below 0 is 0.
    pub kl: f64,
    /// Whether both find the same token most likely; of equal ones the first counts.
    pub top1: bool,
    /// Share of the baseline's five most likely tokens that are among the candidate's five.
    pub top5: f64,
    /// Mean of `|logit - baseline's logit|`.
    pub mean_delta: f64,
    /// Its maximum.
    pub max_delta: f64,
}

impl Prediction {
    /// Compares the logits of one position, `[V]` each, whose next token is `target`. Without a finite answer (NaN, or an infinity
    /// among the logits; a `target` that is none of them) there is none.
    #[must_use]
    pub fn compare(baseline: &[f32], candidate: &[f32], target: usize) -> Option<Self> {
        let finite = |logits: &[f32]| logits.iter().all(|v| v.is_finite());
        if baseline.len() != candidate.len() || target >= baseline.len() || !finite(baseline) || !finite(candidate) {
            return None;
        }
        let (p, q) = (log_softmax(baseline), log_softmax(candidate));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        let (best, others) = (most_likely(baseline), most_likely(candidate));
        let common = best.iter().filter(|token| others.contains(token)).count();
        let deltas = || baseline.iter().zip(candidate).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        Some(Self {
            baseline_nll: -p[target],
            nll: -q[target],
            kl: kl.max(0.0),
            top1: best.first() == others.first(),
            top5: common as f64 / best.len() as f64,
            mean_delta: deltas().sum::<f64>() / baseline.len() as f64,
            max_delta: deltas().fold(0.0, f64::max),
        })
    }
}

/// The [`MOST_LIKELY`] greatest, greatest first; of equal ones the first.
fn most_likely(logits: &[f32]) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(MOST_LIKELY + 1);
    for (i, v) in logits.iter().enumerate() {
        if best.len() == MOST_LIKELY && best.last().is_some_and(|&last| *v <= logits[last]) {
            continue;
        }
        let at = best.partition_point(|&other| logits[other] >= *v);
        best.insert(at, i);
        best.truncate(MOST_LIKELY);
    }
    best
}

/// A mean that was measured, or what was made of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error, taking positions for independent; none of a single one.
    pub standard_error: Option<f64>,
}

impl Estimate {
    /// The mean, and the deviation (of a sample) over the root of how many there are. `None` of nothing.
    #[must_use]
    pub fn mean(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let count = values.clone().count();
        if count == 0 {
            return None;
        }
        let mean = values.clone().sum::<f64>() / count as f64;
        let squares: f64 = values.map(|v| (v - mean) * (v - mean)).sum();
        let standard_error = (count > 1).then(|| (squares / (count - 1) as f64 / count as f64).sqrt());
        Some(Self { value: mean, standard_error })
    }

    /// `exp` of it; the error to first order.
    #[must_use]
    pub fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, standard_error: self.standard_error.map(|error| error * value) }
    }
}

/// How values are spread. Quantiles are values that occur: the least that the share of all does not exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// The mean.
    pub mean: f64,
    /// Half of the values are at most this.
    pub median: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Distribution {
    /// Of `values`; all zero of none.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let Some(&max) = sorted.last() else { return Self::default() };
        let count = sorted.len();
        let quantile = |share: f64| sorted[((share * count as f64).ceil() as usize).clamp(1, count) - 1];
        let mean = sorted.iter().sum::<f64>() / count as f64;
        Self { mean, median: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max }
    }
}

/// What a text says of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Tokens that were predicted.
    pub predictions: usize,
    /// `exp` of the mean of `-ln p(target)`, by the baseline.
    pub baseline_perplexity: Estimate,
    /// The same by the candidate.
    pub perplexity: Estimate,
    /// The second over the first. The error is that of the paired differences: much smaller than those of the two, since what is hard for
    /// one is hard for the other.
    pub perplexity_ratio: Estimate,
    /// [`Prediction::kl`].
    pub kl: Distribution,
    /// Share of positions at which both find the same token most likely.
    pub top1: f64,
    /// Mean of [`Prediction::top5`].
    pub top5: f64,
    /// Mean of [`Prediction::mean_delta`].
    pub mean_delta: f64,
    /// Maximum of [`Prediction::max_delta`].
    pub max_delta: f64,
}

impl Quality {
    /// Of all positions; `None` of nothing.
    #[must_use]
    pub fn of(predictions: &[Prediction]) -> Option<Self> {
        let all = predictions.iter();
        let mean = |value: fn(&Prediction) -> f64| Estimate::mean(all.clone().map(value));
        Some(Self {
            predictions: predictions.len(),
            baseline_perplexity: mean(|p| p.baseline_nll)?.exp(),
            perplexity: mean(|p| p.nll)?.exp(),
            perplexity_ratio: mean(|p| p.nll - p.baseline_nll)?.exp(),
            kl: Distribution::of(all.clone().map(|p| p.kl)),
            top1: mean(|p| f64::from(u8::from(p.top1)))?.value,
            top5: mean(|p| p.top5)?.value,
            mean_delta: mean(|p| p.mean_delta)?.value,
            max_delta: all.map(|p| p.max_delta).fold(0.0, f64::max),
        })
    }
}

/// `sqrt(mean over rows of |h - b|^2 / |b|^2)`, `b` being the baseline's hidden state of a position and `h` the candidate's: each row
/// counts the same, whatever its length, since a few positions are often far longer than all others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RelativeError {
    sum: f64,
    rows: u64,
}

impl RelativeError {
    /// Takes in one row.
    pub fn add(&mut self, baseline: &[f32], candidate: &[f32]) {
        let pairs = || baseline.iter().zip(candidate).map(|(b, h)| (f64::from(*b), f64::from(*h)));
        let difference: f64 = pairs().map(|(b, h)| (h - b) * (h - b)).sum();
        let length: f64 = pairs().map(|(b, _)| b * b).sum();
        // nothing that stayed nothing
        self.sum += if difference == 0.0 { 0.0 } else { difference / length };
        self.rows += 1;
    }

    /// The error so far: 0 of no rows; not finite where a row was not, or is something where the baseline's is zero.
    #[must_use]
    pub fn value(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { (self.sum / self.rows as f64).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{got}, not {want}");
    }

    #[test]
    fn log_softmax_is_stable_and_sums_to_one() {
        let ln2 = std::f64::consts::LN_2;
        for shift in [0.0, 3e4, -3e4] {
            log_softmax(&[shift, shift]).into_iter().for_each(|p| close(p, -ln2));
        }
        // 1 : 2 : 4, to f32's rounding of the logarithms
        let third = log_softmax(&[0.0, 2f32.ln(), 4f32.ln()]);
        third.iter().zip([1.0, 2.0, 4.0]).for_each(|(p, w): (_, f64)| assert!((p.exp() - w / 7.0).abs() < 1e-7));
        close(log_softmax(&[1e30, 0.0]).iter().map(|p| p.exp()).sum(), 1.0);
        close(log_softmax(&[7.0])[0], 0.0);
        let wide: Vec<f32> = (0..1000).map(|i| (i % 37) as f32).collect();
        close(log_softmax(&wide).iter().map(|p| p.exp()).sum(), 1.0);
    }

    #[test]
    fn equal_logits_differ_in_nothing() {
        let logits: Vec<f32> = (0..257).map(|i| ((i * 31) % 97) as f32 * 0.3).collect();
        let same = Prediction::compare(&logits, &logits, 5).expect("finite");
        assert_eq!((same.kl, same.top1, same.top5, same.mean_delta, same.max_delta), (0.0, true, 1.0, 0.0, 0.0));
        assert_eq!(same.nll, same.baseline_nll);
        // what is added to all logits changes no probability
        let shifted: Vec<f32> = logits.iter().map(|v| v + 0.5).collect();
        let moved = Prediction::compare(&logits, &shifted, 5).expect("finite");
        assert!(moved.kl < 1e-6 && moved.top1 && (moved.max_delta - 0.5).abs() < 1e-5, "{moved:?}");
    }

    /// Two outcomes with probabilities p and q: `p ln(p/q) + (1-p) ln((1-p)/(1-q))`.
    #[test]
    fn kl_of_two_outcomes_has_a_closed_form() {
        for (a, b) in [(0.0f32, 1.0f32), (2.0, -1.0), (-3.0, 4.0), (10.0, -10.0)] {
            let p = 1.0 / (1.0 + (-f64::from(a)).exp());
            let q = 1.0 / (1.0 + (-f64::from(b)).exp());
            let want = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
            let got = Prediction::compare(&[a, 0.0], &[b, 0.0], 0).expect("finite");
            assert!((got.kl - want).abs() < 1e-9, "{} not {want}", got.kl);
            close(got.baseline_nll, -p.ln());
            close(got.nll, -q.ln());
            assert_eq!(got.top1, (a >= 0.0) == (b >= 0.0));
        }
    }

    #[test]
    fn the_most_likely_tokens_are_compared() {
        let baseline = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0];
        let candidate = [8.0, 9.0, 7.0, 0.0, 0.0, 6.0, 5.0];
        let got = Prediction::compare(&baseline, &candidate, 0).expect("finite");
        assert!(!got.top1 && (got.top5 - 0.6).abs() < 1e-12, "{got:?}");
        assert_eq!(got.max_delta, 6.0);
        close(got.mean_delta, (1.0 + 1.0 + 6.0 + 5.0 + 2.0 + 2.0) / 7.0);
        assert_eq!(most_likely(&[1.0, 3.0, 3.0, 2.0]), [1, 2, 3, 0], "of equal ones the first");
        assert_eq!(most_likely(&[1.0; 9]), [0, 1, 2, 3, 4]);
        let two = Prediction::compare(&[1.0, 0.0], &[1.0, 0.0], 1).expect("finite");
        close(two.top5, 1.0);
    }

    #[test]
    fn what_is_not_finite_is_no_prediction() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Prediction::compare(&[0.0, 1.0], &[wrong, 1.0], 1), None);
            assert_eq!(Prediction::compare(&[wrong, 1.0], &[0.0, 1.0], 1), None);
        }
        assert_eq!(Prediction::compare(&[0.0, 1.0], &[0.0, 1.0], 2), None, "no such token");
        assert_eq!(Prediction::compare(&[0.0, 1.0], &[0.0], 0), None, "another vocabulary");
        assert_eq!(Quality::of(&[]), None);
    }

    #[test]
    fn perplexities_are_paired() {
        let at = |baseline_nll: f64, nll: f64| Prediction {
            baseline_nll,
            nll,
            kl: nll - baseline_nll,
            top1: nll < 2.0,
            top5: 1.0,
            mean_delta: 0.5,
            max_delta: nll,
        };
        let quality = Quality::of(&[at(1.0, 1.25), at(3.0, 3.25), at(0.0, 0.25)]).expect("some");
        close(quality.baseline_perplexity.value, (4.0f64 / 3.0).exp());
        close(quality.perplexity.value, (4.75f64 / 3.0).exp());
        close(quality.perplexity_ratio.value, 0.25f64.exp());
        // the same everywhere: the ratio is certain though neither perplexity is
        close(quality.perplexity_ratio.standard_error.expect("three"), 0.0);
        // deviation of 1, 3, 0: sqrt(7 / 3)
        let error = (7.0f64 / 3.0).sqrt() / 3f64.sqrt() * (4.0f64 / 3.0).exp();
        close(quality.baseline_perplexity.standard_error.expect("three"), error);
        close(quality.top1, 2.0 / 3.0);
        assert_eq!((quality.max_delta, quality.predictions), (3.25, 3));
        let one = Quality::of(&[at(1.0, 2.0)]).expect("one");
        assert_eq!(one.perplexity.standard_error, None, "one says nothing of how they spread");
    }

    #[test]
    fn quantiles_are_values() {
        let hundred = Distribution::of((1..=100).rev().map(f64::from));
        assert_eq!(hundred, Distribution { mean: 50.5, median: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
        let one = Distribution::of([2.0].into_iter());
        assert_eq!(one, Distribution { mean: 2.0, median: 2.0, p90: 2.0, p99: 2.0, max: 2.0 });
        assert_eq!(Distribution::of(std::iter::empty()), Distribution::default());
    }

    #[test]
    fn relative_errors_are_of_rows() {
        let mut error = RelativeError::default();
        assert_eq!(error.value(), 0.0);
        error.add(&[3.0, 4.0], &[3.0, 4.0]);
        assert_eq!(error.value(), 0.0);
        error.add(&[300.0, 400.0], &[330.0, 440.0]); // a tenth off, however long
        close(error.value(), (0.01f64 / 2.0).sqrt());
        error.add(&[0.0, 0.0], &[0.0, 0.0]);
        close(error.value(), (0.01f64 / 3.0).sqrt());
        error.add(&[0.0, 0.0], &[1.0, 0.0]);
        assert_eq!(error.value(), f64::INFINITY);
        let mut broken = RelativeError::default();
        broken.add(&[1.0], &[f32::NAN]);
        assert!(broken.value().is_nan());
    }
}
