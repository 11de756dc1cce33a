//! How the bytes of a device went over time, in few points.

use serde::Serialize;

use super::ledger::by_category;

/// Bytes from one moment on, until the next sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Milliseconds since the device was opened.
    pub ms: f64,
    /// Bytes in use, by category ([`Category::ALL`](super::Category::ALL)).
    #[serde(flatten, serialize_with = "by_category")]
    pub bytes: [u64; 4],
}

impl Sample {
    /// Bytes of all categories.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// Samples, at most [`MOST`](Self::MOST) of them however long it goes on: time is cut into intervals, of each of which the sample with the
/// most bytes and the last one are kept. Where there are too many, they become twice as long. So no peak is ever lost.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// milliseconds
    interval: f64,
    kept: Vec<Interval>,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    number: u64,
    highest: Sample,
    last: Sample,
}

impl Interval {
    fn then(&mut self, highest: Sample, last: Sample) {
        if highest.total() > self.highest.total() {
            self.highest = highest;
        }
        self.last = last;
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self { interval: 1.0, kept: Vec::new() }
    }
}

impl Timeline {
    /// The most samples that are kept.
    pub const MOST: usize = 512;

    /// Takes a sample, which is not older than the one before.
    pub fn record(&mut self, sample: Sample) {
        loop {
            let number = (sample.ms / self.interval) as u64;
            let has_room = 2 * self.kept.len() < Self::MOST;
            match self.kept.last_mut() {
                Some(now) if now.number >= number => return now.then(sample, sample),
                _ if has_room => {
                    return self.kept.push(Interval { number, highest: sample, last: sample });
                }
                _ => self.thin(),
            }
        }
    }

    /// Makes intervals twice as long.
    fn thin(&mut self) {
        self.interval *= 2.0;
        self.kept.iter_mut().for_each(|interval| interval.number /= 2);
        self.kept.dedup_by(|later, earlier| {
            let is_same = later.number == earlier.number;
            if is_same {
                earlier.then(later.highest, later.last);
            }
            is_same
        });
    }

    /// The samples, oldest first.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let both = |interval: &Interval| {
            let last = (interval.last != interval.highest).then_some(interval.last);
            [Some(interval.highest), last]
        };
        self.kept.iter().flat_map(both).flatten().collect()
    }
}
