//! The best number of sequences in a step, from what was measured.

use serde::{Deserialize, Serialize};

/// A step may take so many times as long as one of a single sequence, where nobody names a target for [`Workload::Realtime`].
const REALTIME: f64 = 1.25;
/// Share of the most tokens per second that [`Workload::Throughput`] is content with.
const KNEE: f64 = 0.95;
/// Share of the most tokens per second below which larger batches are not tried: nearer ones differ by noise.
const FALLEN: f64 = 0.97;

/// What one batch size gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Sequences of a step.
    pub batch: u32,
    /// Milliseconds of a step: from a token of a sequence to its next.
    pub step_ms: f64,
    /// Of all sequences together.
    pub tokens_per_s: f64,
    /// Of the cache.
    pub bytes: u64,
}

/// What somebody wants of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Short waits for each token: the largest batch that hardly slows a single sequence down, or that keeps a target.
    Realtime,
    /// Speed at a fair price: the smallest batch within 5 % of the most tokens per second.
    Throughput,
    /// The most tokens per second.
    Batch,
}

impl Workload {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Throughput, Self::Batch];

    /// `realtime`, `throughput`, `batch`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Throughput => "throughput",
            Self::Batch => "batch",
        }
    }
}

/// What must hold whatever the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Bytes of the cache at most.
    pub memory: Option<u64>,
    /// Milliseconds of a step at most, for [`Workload::Realtime`].
    pub target_ms: Option<f64>,
}

/// A batch size, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// For what.
    pub workload: Workload,
    /// Sequences of a step.
    pub batch: u32,
    /// In words.
    pub reason: String,
}

/// What measurements are good for: any other model, type, adapter or program may differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Fingerprint of the model's files.
    pub model: String,
    /// How weights are stored.
    pub dtype: String,
    /// How keys and values are stored.
    pub cache_dtype: String,
    /// The adapter's name.
    pub adapter: String,
    /// Its driver and version.
    pub driver: String,
    /// Of webweft.
    pub version: String,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// What it was measured on.
    pub key: Key,
    /// By ascending batch size.
    pub points: Vec<Point>,
}

/// The batch size to measure after `points`, which are in the order of measuring: 1, 2, 4, ... up to `most`; `None` where throughput has
/// fallen twice in a row, or where the next one would take more than `memory` bytes of cache.
#[must_use]
pub fn next(points: &[Point], most: u32, memory: Option<u64>) -> Option<u32> {
    let Some(last) = points.last() else { return (most > 0).then_some(1) };
    let next = last.batch.saturating_mul(2).min(most);
    let best = points.iter().map(|point| point.tokens_per_s).fold(0.0, f64::max);
    let fallen = points.iter().rev().take_while(|point| point.tokens_per_s < FALLEN * best).count();
    // as much again for each more sequence as the last ones took
    let before = points.len().checked_sub(2).map_or((0, 0), |i| (points[i].batch, points[i].bytes));
    let each = last.bytes.saturating_sub(before.1) / u64::from(last.batch.saturating_sub(before.0)).max(1);
    let bytes = last.bytes.saturating_add(each.saturating_mul(u64::from(next.saturating_sub(last.batch))));
    let fits = memory.is_none_or(|memory| bytes <= memory);
    (next > last.batch && fallen < 2 && fits).then_some(next)
}

/// The batch size for a workload; `None` where no point is within the memory bound.
#[must_use]
pub fn choose(points: &[Point], workload: Workload, bounds: Bounds) -> Option<Choice> {
    let mut points: Vec<&Point> =
        points.iter().filter(|point| bounds.memory.is_none_or(|memory| point.bytes <= memory)).collect();
    points.sort_by_key(|point| point.batch);
    let first = *points.first()?;
    let best = points.iter().copied().fold(first, |best, p| if p.tokens_per_s > best.tokens_per_s { p } else { best });
    let (chosen, reason) = match workload {
        Workload::Realtime => {
            let most = bounds.target_ms.unwrap_or(REALTIME * first.step_ms);
            let (chosen, kept) = match points.iter().rfind(|point| point.step_ms <= most) {
                Some(point) => (*point, "the largest"),
                None => (first, "the smallest; none is"),
            };
            let whose = match bounds.target_ms {
                Some(_) => "the target of".to_owned(),
                None => format!("{REALTIME} times a step of {}:", first.batch),
            };
            (chosen, format!("{kept} within {whose} {most:.1} ms; a step takes {:.1} ms", chosen.step_ms))
        }
        Workload::Throughput => {
            let knee = points.iter().find(|point| point.tokens_per_s >= KNEE * best.tokens_per_s);
            let chosen = knee.copied().unwrap_or(best);
            let share = 100.0 * chosen.tokens_per_s / best.tokens_per_s;
            (chosen, format!("the smallest within 5 % of the most tokens/s: {share:.0} % of {:.0}", best.tokens_per_s))
        }
        Workload::Batch => (best, format!("the most tokens/s: {:.0}", best.tokens_per_s)),
    };
    Some(Choice { workload, batch: chosen.batch, reason })
}
