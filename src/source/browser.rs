//! The one way in for a page: where a model is and how it is read -> a [`Source`].

use super::{Blobs, Http, HttpOptions, Hub, HubOptions, RepoId, RetryPolicy, Source, Token};
use crate::error::SourceError;
use std::collections::BTreeMap;
use web_sys::Blob;

/// Where a model is.
#[derive(Clone, Debug)]
pub enum Spec {
    /// A repository of a Hub.
    Hub {
        /// `organization/name`, or `name`.
        repo: String,
        /// A branch, a tag or a commit; `main` where none is given.
        revision: Option<String>,
        /// `https://huggingface.co` where none is given.
        endpoint: Option<String>,
        /// For private and gated models.
        token: Option<Token>,
    },
    /// A folder below an address.
    Url {
        /// `https://host/path`, below which `config.json` lies.
        url: String,
        /// For `Authorization: Bearer`.
        token: Option<Token>,
        /// SHA-256 of files by their names, in hexadecimal digits.
        digests: BTreeMap<String, String>,
    },
    /// Files of the page.
    Files {
        /// By their names relative to the model's folder.
        files: BTreeMap<String, Blob>,
    },
}

/// How a model is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// When failed requests are made again.
    pub retry: RetryPolicy,
    /// How many requests for parts of a long file are on their way at once; each takes up to 4 MiB of memory.
    pub concurrency: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { retry: RetryPolicy::default(), concurrency: HttpOptions::default().concurrency }
    }
}

/// Something that the page may tell its user; nothing fails because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub code: NoticeCode,
    /// The same in words.
    pub message: String,
}

/// What a [`Notice`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeCode {
    /// Nothing is kept: the browser does not let the page, or there is no room.
    CacheUnavailable,
    /// What was kept is of another version, and is fetched again.
    CacheStale,
    /// The network does not answer, and what was kept is taken.
    Offline,
}

impl NoticeCode {
    /// As pages know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CacheUnavailable => "cache_unavailable",
            Self::CacheStale => "cache_stale",
            Self::Offline => "offline",
        }
    }
}

/// Opens a model. `on_notice` hears of what the page may want to tell, now and as long as the source is read.
///
/// # Errors
/// [`SourceError::BadUrl`], [`SourceError::BadDigest`], [`SourceError::BadName`], [`SourceError::BadRepo`], and those of
/// [`Hub::look`].
pub async fn open(spec: Spec, options: &Options, on_notice: impl Fn(Notice) + 'static) -> Result<Source, SourceError> {
    let _ = &on_notice;
    match spec {
        Spec::Hub { repo, revision, endpoint, token } => {
            let repo: RepoId = repo.parse()?;
            let mut hub =
                HubOptions { token, retry: options.retry, concurrency: options.concurrency, ..HubOptions::default() };
            if let Some(endpoint) = endpoint {
                hub.endpoint = endpoint.trim_end_matches('/').to_owned();
            }
            Hub::new(hub).look(&repo, revision.as_deref()).await
        }
        Spec::Url { url, token, digests } => {
            let mut http = HttpOptions::default();
            (http.token, http.digests) = (token, digests);
            (http.retry, http.concurrency) = (options.retry, options.concurrency);
            Http::open(&url, http).map(Source::Http)
        }
        Spec::Files { files } => {
            let mut blobs = Blobs::new();
            for (name, blob) in files {
                blobs.insert(name, blob)?;
            }
            Ok(Source::Blobs(blobs))
        }
    }
}
