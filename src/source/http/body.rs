//! The bytes of a range: one long answer, or in a browser several shorter ones at once.

use super::Facts;
#[cfg(target_arch = "wasm32")]
use super::lanes::{LEAST, Lanes, Stop};
use super::transfer::{Link, Transfer};
use crate::error::SourceError;
use std::ops::Range;

/// A range that is being read.
#[derive(Debug)]
pub(in crate::source) enum Body {
    One(Box<Transfer>),
    #[cfg(target_arch = "wasm32")]
    Several(Box<Lanes>),
}

impl Body {
    /// The range lies within the file. Nothing is asked yet.
    pub fn new(link: Link, range: Range<u64>, facts: &Facts, concurrency: usize) -> Self {
        #[cfg(target_arch = "wasm32")]
        if facts.ranges && concurrency > 1 && range.end - range.start > LEAST {
            return Self::Several(Box::new(Lanes::new(link, range, facts.version.clone(), concurrency)));
        }
        // Natively a thread reads ahead, which keeps one connection full.
        let _ = concurrency;
        Self::One(Box::new(Transfer::new(link, range, facts.version.clone()).read_ahead()))
    }

    /// Appends `count` bytes, which the range must have.
    pub async fn fill(&mut self, out: &mut Vec<u8>, count: usize) -> Result<(), SourceError> {
        match self {
            Self::One(transfer) => transfer.fill(out, count).await,
            #[cfg(target_arch = "wasm32")]
            Self::Several(lanes) => {
                crate::source::js::reserve(out, &lanes.shown(), count)?;
                let target = out.len() + count;
                match lanes.fill(out, target).await {
                    Ok(()) => Ok(()),
                    Err(Stop::Failed(error)) => Err(error),
                    Err(Stop::Whole) => {
                        let mut one = Box::new(lanes.one());
                        let result = one.fill(out, target - out.len()).await;
                        *self = Self::One(one);
                        result
                    }
                }
            }
        }
    }

    /// Goes on `bytes` further, which the range must have, through the answers that are open.
    pub async fn discard(&mut self, bytes: u64) -> Result<(), SourceError> {
        match self {
            Self::One(transfer) => transfer.discard(bytes).await,
            #[cfg(target_arch = "wasm32")]
            Self::Several(_) => {
                const AWAY: u64 = 256 << 10;
                let (mut away, mut left) = (Vec::new(), bytes);
                while left > 0 {
                    away.clear();
                    let now = left.min(AWAY);
                    Box::pin(self.fill(&mut away, now as usize)).await?;
                    left -= now;
                }
                Ok(())
            }
        }
    }
}
