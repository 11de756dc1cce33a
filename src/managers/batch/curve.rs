//! How long something takes by its size, learned from what it took.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept of a size, the latest ones.
const KEPT: usize = 9;
/// Samples of a size without which it counts as unknown: the first ones compile kernels.
const TRUSTED: usize = 5;
/// A sample is forgotten after so many others: what was slow once is tried again.
const FORGOTTEN: u64 = 512;

/// Milliseconds as a function of a size that never falls. Outliers count for nothing: of a size only the median does, and where
/// medians fall they are averaged (isotonic regression by pooling adjacent violators; Ayer et al. 1955).
#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    /// of each size: the number of the sample, and milliseconds
    samples: BTreeMap<u32, VecDeque<(u64, f64)>>,
    learned: u64,
    fit: Vec<(u32, f64)>,
}

impl Curve {
    /// That `size` took so long.
    pub fn learn(&mut self, size: u32, milliseconds: f64) {
        if !milliseconds.is_finite() || milliseconds < 0.0 {
            return;
        }
        self.learned += 1;
        let of_size = self.samples.entry(size).or_default();
        if of_size.len() == KEPT {
            of_size.pop_front();
        }
        of_size.push_back((self.learned, milliseconds));
        let oldest = self.learned.saturating_sub(FORGOTTEN);
        self.samples.retain(|_, samples| {
            samples.retain(|(number, _)| *number > oldest);
            !samples.is_empty()
        });
        self.fit = isotonic(self.samples.iter().filter(|(_, s)| s.len() >= TRUSTED).map(|(&size, samples)| {
            let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
            sorted.sort_by(f64::total_cmp);
            (size, sorted[(sorted.len() - 1) / 2], sorted.len() as f64)
        }));
    }

    /// The largest size that is known; 0 where none is.
    pub fn reach(&self) -> u32 {
        self.fit.last().map_or(0, |last| last.0)
    }

    /// How long `size` will take, at most by what is known: below the least size as long as that, between sizes on a line, beyond the
    /// greatest on the line through the least and the greatest (through zero where there is one size).
    pub fn at(&self, size: u32) -> Option<f64> {
        let (&first, &last) = (self.fit.first()?, self.fit.last()?);
        let line = |(x0, y0): (u32, f64), (x1, y1): (u32, f64)| {
            y0 + (y1 - y0) * (f64::from(size) - f64::from(x0)) / (f64::from(x1) - f64::from(x0)).max(1.0)
        };
        if size <= first.0 {
            return Some(first.1);
        }
        if size > last.0 {
            return Some(if self.fit.len() == 1 { line((0, 0.0), last) } else { line(first, last) });
        }
        self.fit.windows(2).find(|pair| size <= pair[1].0).map(|pair| line(pair[0], pair[1]))
    }
}

/// The values that never fall and are nearest to `points` (size, value, weight; by ascending size) in least squares.
fn isotonic(points: impl Iterator<Item = (u32, f64, f64)>) -> Vec<(u32, f64)> {
    // sizes, mean and weight of each run of equal values
    let mut runs: Vec<(Vec<u32>, f64, f64)> = Vec::new();
    for (size, value, weight) in points {
        let mut run = (vec![size], value, weight);
        while let Some(before) = runs.pop_if(|before| before.1 > run.1) {
            let weight = before.2 + run.2;
            let mean = (before.1 * before.2 + run.1 * run.2) / weight;
            run = ([before.0, run.0].concat(), mean, weight);
        }
        runs.push(run);
    }
    runs.into_iter().flat_map(|(sizes, value, _)| sizes.into_iter().map(move |size| (size, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(samples: &[(u32, f64)]) -> Curve {
        let mut curve = Curve::default();
        samples.iter().for_each(|&(size, ms)| (0..TRUSTED).for_each(|_| curve.learn(size, ms)));
        curve
    }

    #[test]
    fn between_and_beyond_known_sizes_there_are_lines() {
        assert_eq!((curve(&[]).at(1), curve(&[]).reach()), (None, 0));
        let one = curve(&[(4, 8.0)]);
        assert_eq!([1, 4, 5].map(|n| one.at(n)), [8.0, 8.0, 10.0].map(Some));
        let three = curve(&[(1, 10.0), (2, 11.0), (4, 19.0)]);
        assert_eq!([1, 2, 3, 4, 5].map(|n| three.at(n)), [10.0, 11.0, 15.0, 19.0, 22.0].map(Some));
        assert_eq!(three.reach(), 4);
    }

    #[test]
    fn it_never_falls() {
        let odd = curve(&[(1, 10.0), (2, 14.0), (3, 12.0), (4, 13.0), (8, 20.0)]);
        assert_eq!([1, 2, 3, 4, 8].map(|n| odd.at(n)), [10.0, 13.0, 13.0, 13.0, 20.0].map(Some));
        let falling = curve(&[(1, 3.0), (2, 2.0), (3, 1.0)]);
        assert_eq!([1, 2, 3, 9].map(|n| falling.at(n)), [2.0; 4].map(Some));
    }

    #[test]
    fn outliers_and_first_samples_count_for_nothing() {
        let mut curve = curve(&[(1, 10.0)]);
        [900.0, 12.0, 11.0, 800.0].iter().for_each(|&ms| curve.learn(2, ms));
        assert_eq!((curve.reach(), curve.at(2)), (1, Some(20.0)), "four samples are none");
        curve.learn(2, 13.0);
        assert_eq!(curve.at(2), Some(13.0));
        [f64::NAN, f64::INFINITY, -1.0].iter().for_each(|&ms| curve.learn(2, ms));
        assert_eq!(curve.at(2), Some(13.0));
    }

    #[test]
    fn what_was_is_forgotten() {
        let mut curve = curve(&[(1, 10.0), (2, 500.0)]);
        (0..KEPT).for_each(|_| curve.learn(1, 20.0));
        assert_eq!(curve.at(1), Some(20.0));
        (0..FORGOTTEN).for_each(|_| curve.learn(1, 20.0));
        assert_eq!((curve.reach(), curve.at(2)), (1, Some(40.0)));
        assert!(curve.samples.len() == 1 && curve.samples[&1].len() == KEPT);
    }
}
