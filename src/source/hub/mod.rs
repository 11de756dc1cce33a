//! Models by their name on the Hugging Face Hub: natively downloaded into the cache that Python's `huggingface_hub` uses, too, in
//! browsers read from its addresses.
//!
//! `docs/adr/0009-sources.md` says why this is not a crate, and where hashing, locking and resuming live.

mod api;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
mod choose;
#[cfg(not(target_arch = "wasm32"))]
mod download;
mod options;
mod repo;
#[cfg(not(target_arch = "wasm32"))]
mod snapshot;

pub use options::HubOptions;
pub use repo::{RepoId, is_commit};
#[cfg(not(target_arch = "wasm32"))]
pub use snapshot::DownloadProgress;

use super::http::client::Client;
use super::{Http, HttpOptions};
use crate::error::SourceError;
use api::Revision;
use choose::{CONFIG, WeightFiles};

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// The Hub, and natively the cache folder.
#[derive(Debug)]
pub struct Hub {
    options: HubOptions,
    client: Client,
}

impl Hub {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(options: HubOptions) -> Self {
        Self { options, client: Client::new() }
    }

    /// Where the weights of a revision are, if it can be opened at all.
    fn require(&self, repo: &RepoId, revision: &str, now: &Revision) -> Result<WeightFiles, SourceError> {
        if !now.files.has(CONFIG) {
            let (repo, revision) = (repo.to_string(), revision.to_owned());
            return Err(SourceError::EntryNotFound { repo, revision, file: CONFIG.to_owned() });
        }
        match now.files.weights() {
            WeightFiles::Other(found) => Err(SourceError::NoSafetensors { repo: repo.to_string(), found }),
            weights => Ok(weights),
        }
    }

    /// The files of a commit at their addresses, with the digests that the Hub told.
    fn folder(&self, repo: &RepoId, now: &Revision) -> Result<Http, SourceError> {
        let mut options = HttpOptions::default();
        (options.token, options.retry) = (self.options.token.clone(), self.options.retry);
        #[cfg(target_arch = "wasm32")]
        {
            options.concurrency = self.options.concurrency;
        }
        options.digests = now.files.digests();
        let url = format!("{}/{repo}/resolve/{}", self.options.endpoint, now.commit);
        Ok(Http::open(&url, options)?.with_names(now.files.names()))
    }
}

/// Without a folder to keep anything in.
#[cfg(target_arch = "wasm32")]
impl Hub {
    /// A model at a revision (a branch, a tag or a commit; without one: `main`) at its address, read as it is needed. What
    /// the Hub has a SHA-256 of is checked.
    ///
    /// # Errors
    /// [`SourceError::BadRevision`]; [`SourceError::RepoNotFound`], [`SourceError::Gated`], [`SourceError::TokenRefused`],
    /// [`SourceError::RevisionNotFound`], [`SourceError::EntryNotFound`], [`SourceError::NoSafetensors`] for what the Hub does
    /// not have; [`SourceError::HubAnswer`]; and those of the network.
    pub async fn look(&self, repo: &RepoId, revision: Option<&str>) -> Result<super::Source, SourceError> {
        let revision = revision.unwrap_or(MAIN);
        repo::check_revision(revision)?;
        let now = self.revision(repo, revision, true).await?;
        self.require(repo, revision, &now)?;
        let http = self.folder(repo, &now)?;
        self.check_access(repo, &now, &http).await?;
        Ok(super::Source::Http(http))
    }

    /// Anyone may see the files of a gated repository listed, and not read them.
    async fn check_access(&self, repo: &RepoId, now: &Revision, http: &Http) -> Result<(), SourceError> {
        match http.facts(CONFIG).await {
            Err(SourceError::Refused { .. }) if now.gated => {
                Err(SourceError::Gated { repo: repo.to_string(), endpoint: self.options.endpoint.clone() })
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}
