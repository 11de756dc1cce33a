//! What an answer to a range request promises, checked against what was asked. Pure, so that every way to be wrong is tested.

use crate::error::SourceError;
use std::ops::Range;

/// What tells one version of a file from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct Version {
    pub etag: Option<String>,
    pub modified: Option<String>,
    pub size: Option<u64>,
}

impl Version {
    /// What is not as in `now`; what either does not tell cannot differ.
    fn difference(&self, now: &Self) -> Option<String> {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_some_and(|(a, b)| a != b)
        }
        if differ(self.size.as_ref(), now.size.as_ref()) {
            return Some(format!("{} bytes before, now {}", self.size.unwrap_or(0), now.size.unwrap_or(0)));
        }
        if differ(self.etag.as_ref(), now.etag.as_ref()) {
            return Some("its ETag is another one".to_owned());
        }
        // Times are coarse, and only asked where there is nothing better.
        let tagged = self.etag.is_some() && now.etag.is_some();
        (!tagged && differ(self.modified.as_ref(), now.modified.as_ref())).then(|| "it was modified".to_owned())
    }
}

/// The headers that matter.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Head {
    pub status: u16,
    pub content_range: Option<String>,
    pub content_length: Option<u64>,
    pub version: Version,
    /// Headers may be there and not shown: a browser hides them from other origins.
    pub hides: bool,
}

/// A body that serves the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Body {
    /// Bytes before the first one that was asked for: the whole file came.
    pub skip: u64,
    /// Bytes of the range that this body has, as far as is known.
    pub left: Option<u64>,
    /// The file as it is now; its size where the answer tells it.
    pub version: Version,
}

/// Checks the answer to `bytes=asked`. `strict_end`: the range lies within the file, so it does not end early.
/// `before`: what earlier answers said.
pub(in crate::source) fn check(
    url: &str,
    head: &Head,
    asked: &Range<u64>,
    before: &Version,
) -> Result<Body, SourceError> {
    let wrong = |got: String| SourceError::WrongRange {
        url: url.to_owned(),
        asked: format!("bytes {}-{}", asked.start, asked.end.saturating_sub(1)),
        got,
    };
    let mut version = head.version.clone();
    let body = match head.status {
        200 => {
            version.size = head.content_length;
            let left = head.content_length.map(|size| size.min(asked.end).saturating_sub(asked.start));
            Body { skip: asked.start, left, version }
        }
        206 => match &head.content_range {
            Some(text) => {
                let (range, total) = content_range(text).ok_or_else(|| wrong(format!("Content-Range: {text:.80}")))?;
                version.size = total;
                // Less than was asked for is allowed, and the rest is asked for again.
                if range.start != asked.start || range.end > asked.end || total.is_some_and(|total| range.end > total) {
                    return Err(wrong(format!("bytes {}-{}", range.start, range.end - 1)));
                }
                Body { skip: 0, left: Some(range.end - range.start), version }
            }
            None if head.hides => {
                let left = head.content_length.map(|length| length.min(asked.end - asked.start));
                Body { skip: 0, left, version }
            }
            None => return Err(wrong("no Content-Range".to_owned())),
        },
        _ => return Err(SourceError::Status { url: url.to_owned(), status: head.status }),
    };
    match before.difference(&body.version) {
        Some(detail) => Err(SourceError::Changed { url: url.to_owned(), detail }),
        None => Ok(body),
    }
}

/// `bytes 0-99/1234`, or `/*`: range and size. An empty or reversed range is none.
pub(super) fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let rest = text.trim().strip_prefix("bytes ")?;
    let (range, total) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last).then_some((first..last.checked_add(1)?, total))
}

/// The size in the `Content-Range: bytes */1234` of a 416.
pub(super) fn unsatisfied_size(text: &str) -> Option<u64> {
    text.trim().strip_prefix("bytes */")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, range: Option<&str>, length: Option<u64>) -> Head {
        Head { status, content_range: range.map(str::to_owned), content_length: length, ..Head::default() }
    }

    #[test]
    fn ranges_must_be_those_that_were_asked_for() {
        let of = |range: &str| check("u", &head(206, Some(range), None), &(10..20), &Version::default());
        assert_eq!(of("bytes 10-19/100").map(|body| (body.left, body.version.size)).ok(), Some((Some(10), Some(100))));
        assert_eq!(of("bytes 10-14/*").map(|body| (body.left, body.version.size)).ok(), Some((Some(5), None)));
        for text in [
            "",
            "bytes",
            "bytes 9-19/100",
            "bytes 11-19/100",
            "bytes 10-20/100",
            "bytes 10-19/15",
            "bytes 19-10/100",
            "bytes 10-18446744073709551615/*",
            "items 10-19/100",
            "bytes */100",
            "bytes 10-19",
            "bytes -19/100",
        ] {
            assert!(matches!(of(text), Err(SourceError::WrongRange { .. })), "{text}");
        }
        let hidden = Head { hides: true, ..head(206, None, Some(10)) };
        assert_eq!(check("u", &hidden, &(10..20), &Version::default()).map(|body| body.left).ok(), Some(Some(10)));
        assert!(check("u", &head(206, None, Some(10)), &(10..20), &Version::default()).is_err());
    }

    #[test]
    fn a_whole_file_serves_too() {
        let of = |length| check("u", &head(200, None, length), &(10..20), &Version::default()).expect("a body");
        assert_eq!((of(Some(100)).skip, of(Some(100)).left, of(Some(100)).version.size), (10, Some(10), Some(100)));
        assert_eq!((of(Some(15)).left, of(Some(5)).left, of(None).left), (Some(5), Some(0), None));
    }

    #[test]
    fn another_version_is_an_error() {
        let version = |etag: Option<&str>, modified: Option<&str>, size| Version {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
            size,
        };
        let changed = |a: &Version, b: &Version| a.difference(b).is_some();
        assert!(changed(&version(Some("a"), None, None), &version(Some("b"), None, None)));
        assert!(changed(&version(None, Some("a"), None), &version(Some("x"), Some("b"), None)));
        assert!(changed(&version(Some("a"), None, Some(1)), &version(Some("a"), None, Some(2))));
        assert!(!changed(&version(Some("a"), Some("x"), Some(1)), &version(Some("a"), Some("y"), Some(1))));
        assert!(!changed(&version(Some("a"), None, None), &version(None, None, Some(1))));
    }

    #[test]
    fn sizes_of_refused_ranges() {
        assert_eq!(unsatisfied_size("bytes */0"), Some(0));
        assert_eq!(unsatisfied_size("bytes 0-1/2"), None);
    }
}
