//! What a run found, as it is written in JSON.

use serde::Serialize;
use webweft::managers::{Distribution, Estimate, Quality};

use super::args::Thresholds;
use super::history::Entry;
use super::table::small;
use crate::sizes;

/// All of it. Sizes in bytes, speeds in tokens per second, divergences in nats.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this program.
    pub version: &'static str,
    /// When it began, UTC.
    pub date: String,
    /// What was measured.
    pub model: Model,
    /// What it was measured against.
    pub against: Model,
    /// On what.
    pub adapter: String,
    /// And by which driver.
    pub driver: String,
    /// What was predicted.
    pub text: Text,
    /// The baseline.
    pub baseline: Baseline,
    /// States that layer errors are of.
    pub states: Vec<String>,
    /// Every format.
    pub formats: Vec<Format>,
    /// What had to hold.
    pub thresholds: Limits,
    /// Whether all of it did.
    pub pass: bool,
    /// Earlier runs of the same, oldest first.
    pub history: Vec<Entry>,
}

/// A model.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// As it was given.
    pub name: String,
    /// Of its config and weights: `fingerprint::of`.
    pub fingerprint: String,
    /// Its weights.
    pub parameters: u64,
    /// How another tool quantized it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<&'static str>,
}

/// A text.
#[derive(Debug, Serialize)]
pub struct Text {
    /// Its files.
    pub names: Vec<String>,
    /// SHA-256.
    pub digest: String,
    /// Tokens that were predicted.
    pub predictions: usize,
    /// Positions of a window.
    pub context: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Positions at a window's beginning that are not predicted: the prompt, behind which caches drop something.
    pub prompt: usize,
    /// The most predictions.
    pub max_tokens: u32,
}

/// The baseline.
#[derive(Debug, Serialize)]
pub struct Baseline {
    /// What it is called.
    pub name: String,
    /// How it keeps keys and values.
    pub cache: &'static str,
    /// Of the text.
    pub perplexity: Estimate,
    /// Bytes.
    pub memory: Memory,
    /// Speeds.
    pub speed: Speed,
}

/// One format: of the weights, and of the cache.
#[derive(Debug, Serialize)]
pub struct Format {
    /// What it is called.
    pub name: String,
    /// How it was loaded.
    pub dtype: &'static str,
    /// How keys and values are kept.
    pub cache: &'static str,
    /// And how many of them.
    pub policy: String,
    /// Bytes.
    pub memory: Memory,
    /// Speeds.
    pub speed: Speed,
    /// What it says of the text; `None` where some of it is not finite.
    pub quality: Option<Quality>,
    /// Relative errors of the states, in the order of [`Report::states`]; `None` where the networks differ.
    pub layer_errors: Option<Vec<f64>>,
    /// Where logits were not finite.
    pub non_finite: Option<NonFinite>,
    /// Each threshold.
    pub checks: Vec<Check>,
    /// Whether all hold, and all logits are finite.
    pub pass: bool,
    /// Since the last run of the same.
    pub change: Option<Change>,
    /// Of every position, for the plots.
    #[serde(skip)]
    pub divergences: Vec<f64>,
}

/// Bytes on the GPU, by the ledger.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Of the weights.
    pub weights: u64,
    /// Of keys and values, where a text is as long as a window; without the tail that a quantized cache keeps in 16 bits.
    pub cache: u64,
    /// Of each weight on average.
    pub bits_per_weight: f64,
    /// The most at once while loading and generating.
    pub peak: u64,
}

/// How fast.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// Milliseconds.
    pub load_ms: f64,
    /// Of a prompt.
    pub prefill_tps: Option<f64>,
    /// Of new tokens.
    pub decode_tps: Option<f64>,
}

/// Logits that are NaN or infinite.
#[derive(Clone, Debug, Serialize)]
pub struct NonFinite {
    /// How many positions have some.
    pub positions: usize,
    /// The first state of the first of them that is not finite.
    pub first: String,
}

/// The thresholds that were given.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Limits {
    max_perplexity_ratio: Option<f64>,
    max_kl: Option<f64>,
    min_top1: Option<f64>,
    max_layer_error: Option<f64>,
    max_memory: Option<u64>,
}

/// One of them, of one format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The flag, without its dashes.
    pub threshold: &'static str,
    /// What was wanted.
    pub limit: f64,
    /// What there is; `None` where it is no number, which never passes.
    pub got: Option<f64>,
    /// Whether it holds.
    pub pass: bool,
}

/// What is other than in an earlier run.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When that was.
    pub since: String,
    /// This run's less that one's.
    pub perplexity_ratio: Option<f64>,
    /// The same of the mean.
    pub kl: Option<f64>,
    /// This run's over that one's.
    pub decode_tps: Option<f64>,
    /// Whether the model's files were others.
    pub other_files: bool,
}

impl From<Thresholds> for Limits {
    fn from(t: Thresholds) -> Self {
        Self {
            max_perplexity_ratio: t.max_perplexity_ratio,
            max_kl: t.max_kl,
            min_top1: t.min_top1,
            max_layer_error: t.max_layer_error,
            max_memory: t.max_memory,
        }
    }
}

impl Format {
    /// Its worst layer: which, and how far off. NaN is worst of all.
    pub fn worst_layer(&self) -> Option<(usize, f64)> {
        let errors = self.layer_errors.as_deref()?.iter().copied().enumerate();
        let key = |error: f64| if error.is_nan() { f64::INFINITY } else { error };
        errors.reduce(|worst, next| if key(next.1) > key(worst.1) { next } else { worst })
    }

    /// The divergence, where there is one.
    pub fn kl(&self) -> Option<Distribution> {
        self.quality.map(|quality| quality.kl)
    }

    /// Compares with the thresholds: what is not finite passes none, and does not pass without one either.
    pub fn judge(&mut self, limits: &Limits) {
        let quality = self.quality.as_ref();
        let finite = |value: Option<f64>| value.filter(|v| v.is_finite());
        let worst = finite(self.worst_layer().map(|(_, error)| error)).filter(|_| self.non_finite.is_none());
        let memory = limits.max_memory.map(|limit| limit as f64);
        let most = [
            ("max-perplexity-ratio", limits.max_perplexity_ratio, finite(quality.map(|q| q.perplexity_ratio.value))),
            ("max-kl", limits.max_kl, finite(quality.map(|q| q.kl.mean))),
            ("max-layer-error", limits.max_layer_error, worst),
            ("max-memory", memory, Some(self.memory.peak as f64).filter(|_| self.non_finite.is_none())),
        ];
        let top1 = finite(quality.map(|q| q.top1));
        let check = |threshold, limit, got: Option<f64>, holds: fn(f64, f64) -> bool| Check {
            threshold,
            limit,
            got,
            pass: got.is_some_and(|got| holds(got, limit)),
        };
        self.checks = most
            .into_iter()
            .filter_map(|(name, limit, got)| Some(check(name, limit?, got, |got, limit| got <= limit)))
            .chain(limits.min_top1.map(|limit| check("min-top1", limit, top1, |got, limit| got >= limit)))
            .collect();
        self.pass = self.non_finite.is_none() && self.checks.iter().all(|check| check.pass);
    }
}

impl Memory {
    /// Of weights and cache.
    pub fn lasting(&self) -> u64 {
        self.weights.saturating_add(self.cache)
    }
}

impl Check {
    /// A value of it, in its unit.
    pub fn show(&self, value: f64) -> String {
        match self.threshold {
            "max-memory" => sizes::format(value as u64),
            "max-perplexity-ratio" => format!("{value:.4}"),
            _ => small(value),
        }
    }
}

impl Report {
    /// What has the fewest bytes, of weights and a window's cache, of all that pass, and is within `ratio` of the baseline's perplexity; of equal ones the one that
    /// diverges least.
    pub fn smallest_within(&self, ratio: f64) -> Option<&Format> {
        let fits = |f: &&Format| f.pass && f.quality.is_some_and(|q| q.perplexity_ratio.value <= ratio);
        let kl = |f: &Format| f.kl().map_or(f64::INFINITY, |kl| kl.mean);
        let order =
            |a: &&Format, b: &&Format| a.memory.lasting().cmp(&b.memory.lasting()).then(kl(a).total_cmp(&kl(b)));
        self.formats.iter().filter(fits).min_by(order)
    }
}

#[cfg(test)]
pub mod tests {
    use webweft::managers::Prediction;

    use super::*;

    /// A format that costs `cost` nats at every one of three positions.
    pub fn format(name: &str, cost: f64, weights: u64) -> Format {
        let at = |nll: f64| Prediction {
            baseline_nll: nll,
            nll: nll + cost,
            kl: cost,
            top1: nll < 2.0,
            top5: 1.0,
            mean_delta: cost,
            max_delta: cost,
        };
        let predictions = [at(1.0), at(1.5), at(3.0)];
        Format {
            name: name.to_owned(),
            dtype: "q4",
            cache: "f16",
            policy: "full".to_owned(),
            memory: Memory { weights, cache: 100, bits_per_weight: 4.5, peak: weights * 2 },
            speed: Speed { load_ms: 10.0, prefill_tps: Some(100.0), decode_tps: Some(10.0) },
            quality: Quality::of(&predictions),
            layer_errors: Some(vec![0.0, cost, cost / 2.0]),
            non_finite: None,
            checks: Vec::new(),
            pass: true,
            change: None,
            divergences: predictions.iter().map(|p| p.kl).collect(),
        }
    }

    #[test]
    fn thresholds_hold_at_their_limit_and_not_beyond() {
        let mut f = format("q4", 0.01, 1000);
        let all = Limits {
            max_perplexity_ratio: Some(0.01f64.exp() + 1e-12),
            max_kl: Some(0.01),
            min_top1: Some(2.0 / 3.0),
            max_layer_error: Some(0.01),
            max_memory: Some(2000),
        };
        f.judge(&all);
        assert!(f.pass && f.checks.len() == 5 && f.checks.iter().all(|check| check.pass), "{:?}", f.checks);
        for (name, limits) in [
            ("max-perplexity-ratio", Limits { max_perplexity_ratio: Some(1.0), ..all }),
            ("max-kl", Limits { max_kl: Some(0.0099), ..all }),
            ("min-top1", Limits { min_top1: Some(0.67), ..all }),
            ("max-layer-error", Limits { max_layer_error: Some(0.0), ..all }),
            ("max-memory", Limits { max_memory: Some(1999), ..all }),
        ] {
            f.judge(&limits);
            let failed: Vec<_> = f.checks.iter().filter(|check| !check.pass).map(|check| check.threshold).collect();
            assert_eq!((failed, f.pass), (vec![name], false));
        }
    }

    #[test]
    fn what_is_not_finite_passes_nothing() {
        let mut f = format("q4", 0.01, 1000);
        f.judge(&Limits::default());
        assert!(f.pass && f.checks.is_empty());
        f.quality = None;
        f.layer_errors = Some(vec![0.0, f64::NAN, 0.5]);
        f.non_finite = Some(NonFinite { positions: 1, first: "layer 0".to_owned() });
        assert_eq!(f.worst_layer().map(|(layer, _)| layer), Some(1));
        f.judge(&Limits::default());
        assert!(!f.pass, "even where nothing was asked for");
        let limits = Limits {
            max_perplexity_ratio: Some(9.0),
            max_kl: Some(9.0),
            min_top1: Some(0.0),
            max_layer_error: Some(9.0),
            max_memory: Some(u64::MAX),
        };
        f.judge(&limits);
        assert!(f.checks.len() == 5 && f.checks.iter().all(|check| !check.pass), "{:?}", f.checks);
    }
}
