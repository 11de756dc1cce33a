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
#[cfg(not(target_arch = "wasm32"))]
use api::Revision;
#[cfg(target_arch = "wasm32")]
pub(super) use api::Revision;
#[cfg(not(target_arch = "wasm32"))]
use choose::CONFIG;
use choose::WeightFiles;
#[cfg(target_arch = "wasm32")]
pub(super) use choose::{CONFIG, INDEX, Listed, SINGLE, shards};

/// The branch that is meant where none is named.
pub(super) const MAIN: &str = "main";

/// An error that says nothing of the model: what is kept may answer instead.
pub(super) fn is_passing(error: &SourceError) -> bool {
    match error {
        SourceError::Unreachable { .. } | SourceError::RateLimited { .. } | SourceError::HubAnswer { .. } => true,
        SourceError::Status { status, .. } => *status >= 500,
        _ => false,
    }
}

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
        let meant = self.options.gguf_file.as_deref();
        let weights =
            now.files.weights(meant).map_err(|found| SourceError::gguf_choice(repo.to_string(), meant, &found))?;
        match weights {
            WeightFiles::Gguf(_) => Ok(weights),
            _ if !now.files.has(CONFIG) => {
                let (repo, revision) = (repo.to_string(), revision.to_owned());
                Err(SourceError::EntryNotFound { repo, revision, file: CONFIG.to_owned() })
            }
            WeightFiles::Other(found) => Err(SourceError::NoSafetensors { repo: repo.to_string(), found }),
            weights => Ok(weights),
        }
    }

    /// The files of a commit at their addresses, with the digests that the Hub told.
    pub(super) fn folder(&self, repo: &RepoId, now: &Revision) -> Result<Http, SourceError> {
        let mut options = HttpOptions::default();
        (options.token, options.retry) = (self.options.token.clone(), self.options.retry);
        #[cfg(target_arch = "wasm32")]
        {
            options.concurrency = self.options.concurrency;
        }
        options.digests = now.files.digests();
        let url = format!("{}/{repo}/resolve/{}", self.options.endpoint, now.commit);
        Ok(Http::open(&url, options)?.with_names(now.files.names()).with_meant(self.options.gguf_file.clone()))
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
        let now = self.listing(repo, revision.unwrap_or(MAIN)).await?;
        let http = self.folder(repo, &now)?;
        self.check_access(repo, &now, &http).await?;
        Ok(super::Source::Http(http))
    }

    /// What a revision has, if it can be opened at all.
    pub(super) async fn listing(&self, repo: &RepoId, revision: &str) -> Result<Revision, SourceError> {
        repo::check_revision(revision)?;
        let now = self.revision(repo, revision, true).await?;
        self.require(repo, revision, &now)?;
        Ok(now)
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.options.endpoint
    }

    /// Anyone may see the files of a gated repository listed, and not read them.
    pub(super) async fn check_access(&self, repo: &RepoId, now: &Revision, http: &Http) -> Result<(), SourceError> {
        // one with GGUF files alone has no config
        let gguf = || now.files.names().find(|name| name.ends_with(super::gguf::ENDING));
        let file = if now.files.has(CONFIG) { None } else { gguf() };
        match http.facts(file.as_deref().unwrap_or(CONFIG)).await {
            Err(SourceError::Refused { .. }) if now.gated => {
                Err(SourceError::Gated { repo: repo.to_string(), endpoint: self.options.endpoint.clone() })
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}
