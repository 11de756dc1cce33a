//! What is written beside kept files, so that nothing is taken for what it is not.

use crate::source::digest;
use crate::source::http::Facts;
use crate::source::http::answer::Version;
use crate::source::hub::Listed;
use crate::source::url::encode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The file of an entry's [`Record`].
pub(super) const RECORD: &str = "entry";
/// Files of our own making, which no server is asked for, begin so.
pub(super) const OURS: &str = "webweft-";

/// One version of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tag {
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

impl Tag {
    /// By what a server says.
    pub fn of(facts: &Facts) -> Self {
        let Version { etag, modified, .. } = facts.version().clone();
        Self { size: facts.size, etag, modified, ..Self::default() }
    }

    /// Whether this is the same version as `now`, by the best word that both have: `None` where sizes are all that is known, and equal.
    pub fn same(&self, now: &Self) -> Option<bool> {
        if self.size != now.size {
            return Some(false);
        }
        let words = |tag: &Self| {
            [tag.sha256.clone(), tag.blob.clone(), tag.commit.clone(), tag.etag.clone(), tag.modified.clone()]
        };
        words(self).into_iter().zip(words(now)).find_map(|(a, b)| Some(a? == b?))
    }
}

/// Says that a file is there to its last byte. It is written after that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Marker {
    pub name: String,
    pub tag: Tag,
    /// For a file of our own making: what it was made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub made_of: BTreeMap<String, Tag>,
}

/// What an entry is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub key: String,
    /// `hub` or `url`.
    pub kind: String,
    pub name: String,
    pub revision: Option<String>,
    pub commit: Option<String>,
    /// Milliseconds since 1970.
    pub created: f64,
    pub last_used: f64,
    /// What the Hub has at the commit.
    pub listing: Option<BTreeMap<String, Listed>>,
    /// What a server did not have.
    #[serde(default)]
    pub absent: BTreeSet<String>,
}

/// The folder of an entry.
pub(super) fn folder(key: &str) -> String {
    digest::hex(&digest::of(key.as_bytes()))[..32].to_owned()
}

/// The names under which a file of an entry is kept: its bytes, the marker of a whole one, the tag of a begun one.
pub(super) struct Names {
    pub data: String,
    pub marker: String,
    pub begun: String,
}

impl Names {
    pub fn of(name: &str) -> Self {
        let encoded = encode(name, false).replace('/', "%2F");
        // file systems end at 255 bytes
        let short = if encoded.len() <= 150 { encoded } else { digest::hex(&digest::of(name.as_bytes())) };
        Self { data: format!("data-{short}"), marker: format!("whole-{short}"), begun: format!("begun-{short}") }
    }

    pub fn is_marker(file: &str) -> bool {
        file.starts_with("whole-")
    }

    pub fn is_data(file: &str) -> bool {
        file.starts_with("data-")
    }
}
