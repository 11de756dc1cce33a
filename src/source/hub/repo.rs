//! Names of repositories, revisions and commits. All become parts of paths, so none is taken on trust.

use crate::error::SourceError;
use crate::source::{check_name, shorten};
use std::fmt;
use std::str::FromStr;

/// `organization/name`, or `name` alone as the oldest models have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoId(String);

impl RepoId {
    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its folder in the cache.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoId {
    type Err = SourceError;

    /// By the rules of the Hub: one or two parts of 1 to 96 characters `[A-Za-z0-9._-]` that neither begin nor end with `-` or
    /// `.`, without `--` and `..`, not ending in `.git`.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let edge = |c: char| c == '-' || c == '.';
        let parts: Vec<_> = text.split('/').collect();
        let why = if parts.len() > 2 {
            "it has more than one slash"
        } else if parts.iter().any(|part| part.is_empty()) {
            "a part of it is empty"
        } else if parts.iter().any(|part| part.len() > 96) {
            "a part of it is longer than 96 characters"
        } else if !parts.iter().all(|part| part.chars().all(plain)) {
            "it has other characters"
        } else if parts.iter().any(|part| part.starts_with(edge) || part.ends_with(edge)) {
            "a part of it begins or ends with - or ."
        } else if text.contains("--") || text.contains("..") {
            "it has -- or .."
        } else if text.ends_with(".git") {
            "it ends in .git"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(SourceError::BadRepo { name: shorten(text), why })
    }
}

/// Whether `text` is a whole commit: 40 hexadecimal digits in lower case.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A branch, a tag or a commit: a path below `refs`, so it must not lead out of it.
pub(super) fn check_revision(revision: &str) -> Result<(), SourceError> {
    let why = match check_name(revision) {
        Err(SourceError::BadName { why, .. }) => why,
        _ if revision.chars().any(|c| c.is_control() || " ~^?*[".contains(c)) => {
            "it has characters that git does not take"
        }
        _ => return Ok(()),
    };
    Err(SourceError::BadRevision { revision: shorten(revision), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_names_as_on_the_hub() {
        for good in ["gpt2", "a/b", "org-1/name_2.5-x", "_a/b_", "datasets/x", &"x".repeat(96)] {
            assert_eq!(good.parse::<RepoId>().map(|repo| repo.to_string()).ok().as_deref(), Some(good));
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "a--b",
            "a..b",
            ".a",
            "a.",
            "-a/b",
            "a/b-",
            "a b",
            "ä",
            "a\\b",
            "a/b.git",
            "..",
            "../x",
            "~/x",
            "C:x",
            "a/b@c",
            "a\0",
            &"x".repeat(97),
        ] {
            assert!(matches!(bad.parse::<RepoId>(), Err(SourceError::BadRepo { .. })), "{bad:?}");
        }
    }

    #[test]
    fn revisions_stay_below_their_folder() {
        for good in ["main", "refs/pr/1", "v1.0", "feature/x-y", &"0".repeat(40)] {
            assert!(check_revision(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a/../b", "/etc", "a\\b", "C:", "a\nb", "a b", "x//y", "-\0"] {
            assert!(matches!(check_revision(bad), Err(SourceError::BadRevision { .. })), "{bad:?}");
        }
        assert!(is_commit(&"0123456789abcdef0123456789abcdef01234567"[..40]));
        assert!(!is_commit("main") && !is_commit(&"A".repeat(40)) && !is_commit(&"a".repeat(41)));
    }
}
