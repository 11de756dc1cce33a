//! What is given up where memory runs short while a model is in use: first bits of the cache, then positions, then layers that stay on the
//! GPU. What somebody set is kept.

use std::fmt;

use serde::Serialize;

use crate::step::BLOCK;
use crate::tensor::CacheDtype;

/// Something that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Concession {
    /// Keys and values have fewer bits. What was cached is computed again.
    Cache {
        /// What they had.
        from: CacheDtype,
        /// What they have.
        to: CacheDtype,
    },
    /// Sequences have fewer positions: one that reaches the last ends, as at its `max_new_tokens`.
    Context {
        /// How many the longest wanted.
        from: u32,
        /// How many there are.
        to: u32,
    },
    /// Fewer layers stay on the GPU. What is computed is the same; it takes longer.
    Layers {
        /// How many stayed.
        from: usize,
        /// How many do.
        to: usize,
    },
}

impl fmt::Display for Concession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache { from, to } => write!(f, "the cache is {} in place of {}", to.name(), from.name()),
            Self::Context { from, to } => write!(f, "sequences end after {to} positions, of {from} that were wanted"),
            Self::Layers { from, to } => {
                write!(f, "{to} layers stay on the GPU in place of {from}, the others are copied there for every step")
            }
        }
    }
}

/// What could be given up. `None`: it was set by somebody, or cannot change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holding<'a> {
    /// What keys and values are kept as.
    pub cache: Option<CacheDtype>,
    /// Positions that the longest sequence wants at most, and that it has by now.
    pub context: Option<(u32, u32)>,
    /// How many layers stay, and the bytes of the buffers of each layer of the model.
    pub layers: Option<(usize, &'a [Vec<u64>])>,
    /// Bytes that were asked for in vain.
    pub missing: u64,
}

/// Fewer positions are not worth a sequence's while.
const LEAST_CONTEXT: u32 = 4 * BLOCK;

/// What is given up next; `None` where nothing is left.
#[must_use]
pub fn concede(holding: &Holding<'_>) -> Option<Concession> {
    cache(holding).or_else(|| context(holding)).or_else(|| layers(holding))
}

fn cache(holding: &Holding<'_>) -> Option<Concession> {
    let from = holding.cache?;
    let to = CacheDtype::ALL.into_iter().skip_while(|dtype| *dtype != from).nth(1)?;
    Some(Concession::Cache { from, to })
}

/// Half as many, as long as there are some for what is to come.
fn context(holding: &Holding<'_>) -> Option<Concession> {
    let (from, by_now) = holding.context?;
    let least = (by_now + BLOCK).max(LEAST_CONTEXT).next_multiple_of(BLOCK);
    let to = (from / 2).next_multiple_of(BLOCK).max(least);
    (to < from).then_some(Concession::Context { from, to })
}

/// As many as free twice the bytes that are missing, and an eighth of all at least.
fn layers(holding: &Holding<'_>) -> Option<Concession> {
    let (from, layers) = holding.layers?;
    let bytes = |layers: &[Vec<u64>]| layers.iter().flatten().sum::<u64>();
    // two of those that leave, or have left, become slots
    let taken = |resident: usize| bytes(&layers[..resident]) + bytes(&layers[resident..layers.len().min(resident + 2)]);
    let now = if from == layers.len() { bytes(layers) } else { taken(from) };
    let wanted = (2 * holding.missing).max(now / 8).max(1);
    let enough = (0..from).rev().find(|&resident| now.saturating_sub(taken(resident)) >= wanted);
    let to = enough.unwrap_or(0);
    (to < from && taken(to) < now).then_some(Concession::Layers { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bits_of_the_cache_then_positions_then_layers() {
        let layers = vec![vec![600, 400]; 8];
        let mut holding = Holding {
            cache: Some(CacheDtype::F16),
            context: Some((1000, 100)),
            layers: Some((8, &layers)),
            missing: 10,
        };
        let mut given = Vec::new();
        while let Some(next) = concede(&holding) {
            match next {
                Concession::Cache { to, .. } => holding.cache = Some(to),
                Concession::Context { to, .. } => holding.context = Some((to, 100)),
                Concession::Layers { to, .. } => holding.layers = Some((to, &layers)),
            }
            given.push(next);
        }
        use Concession::{Cache, Context, Layers};
        let cache = |from, to| Cache { from, to };
        assert_eq!(
            given,
            [
                cache(CacheDtype::F16, CacheDtype::Q8),
                cache(CacheDtype::Q8, CacheDtype::Q4),
                Context { from: 1000, to: 512 },
                Context { from: 512, to: 256 },
                Context { from: 256, to: 160 },
                // three leave, two of which become slots
                Layers { from: 8, to: 5 },
                Layers { from: 5, to: 4 },
                Layers { from: 4, to: 3 },
                Layers { from: 3, to: 2 },
                Layers { from: 2, to: 1 },
                Layers { from: 1, to: 0 },
            ]
        );
    }

    #[test]
    fn what_was_set_is_kept() {
        assert_eq!(concede(&Holding { missing: 1, ..Holding::default() }), None);
        let layers = vec![vec![100]; 4];
        let holding = Holding { layers: Some((4, &layers)), missing: 60, ..Holding::default() };
        // what is missing counts twice
        assert_eq!(concede(&holding), Some(Concession::Layers { from: 4, to: 0 }));
        // two layers would only become slots
        let two = &layers[..2];
        assert_eq!(concede(&Holding { layers: Some((2, two)), missing: 1, ..Holding::default() }), None);
        assert_eq!(concede(&Holding { context: Some((128, 100)), ..Holding::default() }), None);
        assert_eq!(concede(&Holding { cache: Some(CacheDtype::Q4), ..Holding::default() }), None);
    }
}
