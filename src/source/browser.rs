//! The one way in for a page: where a model is and how it is read -> a [`Source`].

use super::hub::MAIN;
use super::store::{self, Place, Store, Tell};
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
    /// How many requests for parts of a long file are on their way at once; each takes up to 16 MiB of memory.
    pub concurrency: usize,
    /// Which GGUF file is meant, by its name or by the type in its name (`Q8_0`).
    pub gguf_file: Option<String>,
    /// What is kept for the next visit.
    pub keep: Keep,
    /// Where; `None`: the first place that there is.
    pub place: Option<Place>,
}

/// What is kept of a model from an address or the Hub. What is there already is read in any case but [`Keep::Nothing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing, and nothing that is there is read.
    Nothing,
    /// All files as they are.
    #[default]
    Stored,
    /// All but the weights: they are kept in another form, by [`Source::keeper`].
    Quantized,
}

impl Default for Options {
    fn default() -> Self {
        let concurrency = HttpOptions::default().concurrency;
        Self { retry: RetryPolicy::default(), concurrency, gguf_file: None, keep: Keep::default(), place: None }
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
    let tell: Tell = Box::new(on_notice);
    // Where nothing can be kept, that is no error.
    let store = match (&spec, options.keep) {
        (Spec::Files { .. }, _) | (_, Keep::Nothing) => None,
        _ => Store::open(options.place).await.inspect_err(|error| store::unavailable(&tell, error)).ok(),
    };
    let weights = options.keep == Keep::Stored;
    let source: Result<_, SourceError> = match spec {
        Spec::Hub { repo, revision, endpoint, token } => {
            let repo: RepoId = repo.parse()?;
            let (retry, concurrency) = (options.retry, options.concurrency);
            let gguf_file = options.gguf_file.clone();
            let mut hub = HubOptions { token, retry, concurrency, gguf_file, ..HubOptions::default() };
            if let Some(endpoint) = endpoint {
                hub.endpoint = endpoint.trim_end_matches('/').to_owned();
            }
            let (hub, revision) = (Hub::new(hub), revision.as_deref());
            match store {
                Some(store) => store.hub(&hub, &repo, revision.unwrap_or(MAIN), weights, tell).await,
                None => hub.look(&repo, revision).await,
            }
        }
        Spec::Url { url, token, digests } => {
            let mut http = HttpOptions::default();
            (http.token, http.digests) = (token, digests);
            (http.retry, http.concurrency) = (options.retry, options.concurrency);
            let http = Http::open(&url, http)?;
            match store {
                Some(store) => Ok(store.url(http, weights, tell).await),
                None => Ok(Source::Http(http)),
            }
        }
        Spec::Files { files } => {
            let mut blobs = Blobs::new();
            for (name, blob) in files {
                blobs.insert(name, blob)?;
            }
            Ok(Source::Blobs(blobs))
        }
    };
    Ok(source?.meaning(options.gguf_file.clone()))
}
