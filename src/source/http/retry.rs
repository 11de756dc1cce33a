//! When to try again, and how long to wait before.

use crate::error::SourceError;
use std::time::Duration;
use web_time::{SystemTime, UNIX_EPOCH};

/// No wait is longer, whatever the server asks for: beyond it, the error is told with the time in it.
const LONGEST: Duration = Duration::from_secs(60);
/// A wait that nobody asked for.
const LONGEST_OWN: Duration = Duration::from_secs(10);
/// After that many bytes a failure counts as the first one again: a long download survives more cuts than a short one,
/// and a server that gives a byte at a time still ends.
const PROGRESS: u64 = 1 << 20;

/// How often, and from which wait on; each further wait is twice the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many failures in a row are followed by another try.
    pub retries: u32,
    /// The wait after the first failure.
    pub backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 5, backoff: Duration::from_millis(500) }
    }
}

/// Counts the failures of one file.
#[derive(Debug)]
pub(in crate::source) struct Retry {
    policy: RetryPolicy,
    failures: u32,
    /// Bytes since the last failure that counted.
    bytes: u64,
    /// Whether any answer came.
    answered: bool,
}

impl Retry {
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, bytes: 0, answered: false }
    }

    /// `bytes` arrived.
    pub fn progress(&mut self, bytes: u64) {
        self.answered = true;
        self.bytes += bytes;
        if self.bytes >= PROGRESS {
            self.failures = 0;
            self.bytes = 0;
        }
    }

    /// Waits, or gives `error` back where it is not worth it. `after` is what the server asked for.
    pub async fn failed(&mut self, error: SourceError, after: Option<Duration>) -> Result<(), SourceError> {
        let after = after.unwrap_or_default();
        if self.failures >= self.policy.retries || after > LONGEST {
            return Err(error);
        }
        let own = self.policy.backoff.saturating_mul(1 << self.failures.min(16)).min(LONGEST_OWN);
        self.failures += 1;
        self.bytes = 0;
        let wait = own.max(after);
        tracing::info!(%error, ?wait, try_number = self.failures, "trying again");
        super::client::sleep(wait).await;
        Ok(())
    }

    /// As [`Retry::failed`], for a host that cannot be reached at all: one more try, and none where there is no network.
    pub async fn not_connected(&mut self, error: SourceError) -> Result<(), SourceError> {
        if !self.answered && self.failures >= 1 {
            return Err(error);
        }
        self.failed(error, None).await
    }
}

/// `Retry-After`: seconds, or a date of RFC 9110.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(date(value)?).saturating_sub(now))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(value: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<_> = value.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = parts[..] else { return None };
    let number = |text: &str| text.parse::<u64>().ok();
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day)?, number(year)?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970, in years that begin in March, so that the leap day is the last one.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + number(hour)?.min(23)) * 60 + number(minute)?.min(59)) * 60 + number(second)?.min(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        for text in ["", "tomorrow", "Sun, 06 Nov 1994 08:49:37", "Sun, 99 Nov 1994 08:49:37 GMT", "a b c d e f g h"] {
            assert_eq!(date(text), None, "{text}");
        }
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("-1"), None);
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[test]
    fn tries_are_bounded_and_progress_begins_anew() {
        let error = || SourceError::Unreachable { url: "u".into(), detail: "d".into() };
        pollster::block_on(async {
            let mut retry = Retry::new(RetryPolicy { retries: 2, backoff: Duration::ZERO });
            assert!(retry.failed(error(), None).await.is_ok() && retry.failed(error(), None).await.is_ok());
            assert!(retry.failed(error(), None).await.is_err());
            retry.progress(PROGRESS - 1);
            assert!(retry.failed(error(), None).await.is_err());
            retry.progress(PROGRESS);
            assert!(retry.failed(error(), None).await.is_ok());
            let mut retry = Retry::new(RetryPolicy { retries: 5, backoff: Duration::ZERO });
            assert!(retry.failed(error(), Some(LONGEST + Duration::from_secs(1))).await.is_err());
            assert!(retry.not_connected(error()).await.is_ok() && retry.not_connected(error()).await.is_err());
        });
    }
}
