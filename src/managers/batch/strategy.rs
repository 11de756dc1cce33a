//! When waiting requests join the running ones.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::GenerateError;
use crate::step::MAX_SLOTS;

/// The longest time that a strategy may name, in milliseconds: an hour.
const LONGEST: f64 = 3_600_000.0;

/// When waiting requests join the running ones. As a text, which [`FromStr`] reads: `fixed:8`, `timeout:8:50ms`, `memory-aware`,
/// `latency-aware:40ms`. Whatever the strategy, the cache is never promised twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// As soon as fewer than so many run.
    Fixed {
        /// The most at once.
        sequences: u32,
    },
    /// As `Fixed`; but where nothing runs, so many wait for each other, though none longer than `wait`.
    Timeout {
        /// The most at once.
        sequences: u32,
        /// How long the first of a group waits for others.
        wait: Duration,
    },
    /// As soon as the cache has room for all that they may become.
    #[default]
    MemoryAware,
    /// As soon as, besides, the time between two tokens of a running sequence will stay below a target.
    LatencyAware {
        /// The most time from one token of a sequence to its next.
        target: Duration,
    },
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_micros() as f64 / 1e3;
        match *self {
            Self::Fixed { sequences } => write!(f, "fixed:{sequences}"),
            Self::Timeout { sequences, wait } => write!(f, "timeout:{sequences}:{}ms", milliseconds(wait)),
            Self::MemoryAware => f.write_str("memory-aware"),
            Self::LatencyAware { target } => write!(f, "latency-aware:{}ms", milliseconds(target)),
        }
    }
}

impl FromStr for Strategy {
    type Err = GenerateError;

    /// # Errors
    /// [`GenerateError::Setting`], which says how it is written.
    fn from_str(text: &str) -> Result<Self, GenerateError> {
        let wrong = |expected| GenerateError::Setting { name: "batch strategy", got: format!("`{text}`"), expected };
        let parts: Vec<_> = text.trim().split(':').map(str::trim).collect();
        let (parsed, expected) = match parts[..] {
            ["fixed", n] => (sequences(n).map(|sequences| Self::Fixed { sequences }), "fixed:N, N from 1 to 64"),
            ["timeout", n, wait] => (
                sequences(n).zip(time(wait)).map(|(sequences, wait)| Self::Timeout { sequences, wait }),
                "timeout:N:TIME, N from 1 to 64, TIME as 50ms or 0.5s, an hour at most",
            ),
            ["memory-aware"] => (Some(Self::MemoryAware), ""),
            ["latency-aware", target] => (
                time(target).filter(|target| !target.is_zero()).map(|target| Self::LatencyAware { target }),
                "latency-aware:TIME, TIME above 0 as 40ms or 0.5s, an hour at most",
            ),
            _ => (None, "fixed:N, timeout:N:TIME, memory-aware or latency-aware:TIME, as in timeout:8:50ms"),
        };
        parsed.ok_or_else(|| wrong(expected))
    }
}

fn sequences(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=MAX_SLOTS).contains(n))
}

/// `50ms`, `0.5s`, to whole microseconds.
fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s')?, 1e3),
    };
    let milliseconds = number.parse::<f64>().ok()? * unit;
    (0.0..=LONGEST).contains(&milliseconds).then(|| Duration::from_micros((milliseconds * 1e3).round() as u64))
}
