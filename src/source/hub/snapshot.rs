//! Models downloaded into the cache that Python's `huggingface_hub` uses, too.

use super::api::{Entry, Revision};
use super::cache::Cache;
use super::choose::{CONFIG, INDEX, OPTIONAL, SINGLE, WeightFiles};
use super::repo::{self, RepoId, is_commit};
use super::{Hub, MAIN, is_passing};
use crate::error::SourceError;
use crate::source::{Folder, Source};

/// How far a download is, over all files of the model that are fetched in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadProgress {
    /// Bytes that are there, those of an earlier run that broke off included.
    pub done: u64,
    /// Bytes that will be.
    pub total: u64,
}

impl Hub {
    /// The folder of a model at a revision (a branch, a tag or a commit; without one: `main`), downloaded as far as it is not
    /// there: config, generation config, tokenizer, chat template and safetensors weights. What is in the cache is not
    /// downloaded again, and a commit that is wholly there is not asked for. Where the Hub cannot be reached, the cache
    /// answers. `progress` hears of every piece.
    ///
    /// # Errors
    /// [`SourceError::BadRevision`]; [`SourceError::RepoNotFound`], [`SourceError::Gated`], [`SourceError::TokenRefused`],
    /// [`SourceError::RevisionNotFound`], [`SourceError::EntryNotFound`], [`SourceError::NoSafetensors`] for what the Hub does
    /// not have; [`SourceError::NotCached`] offline; [`SourceError::Corrupt`], [`SourceError::HubAnswer`] for what is not as
    /// announced; [`SourceError::CacheWrite`]; and those of the network.
    pub async fn snapshot(
        &self,
        repo: &RepoId,
        revision: Option<&str>,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<Folder, SourceError> {
        let revision = revision.unwrap_or(MAIN);
        let (cache, found) = self.find(repo, revision, false).await?;
        let open = |commit: &str| {
            let folder = Folder::open(cache.snapshot(commit))?;
            Ok(folder.with_meant(self.options.gguf_file.clone()))
        };
        let now = match found {
            Found::Cached(commit) => return open(&commit),
            Found::OnHub(now) => now,
        };
        self.complete(repo, revision, &cache, &now, progress).await?;
        // What is there can be used, even where this cannot be noted: a cache may be read-only.
        if let Err(error) = cache.remember(revision, &now.commit) {
            tracing::warn!(%error, revision, "the cache does not note what the revision leads to");
        }
        open(&now.commit)
    }

    /// A model as [`Hub::snapshot`] has it, but without a download, for a look at its config and headers: its snapshot where that
    /// can be opened already, else its address.
    ///
    /// # Errors
    /// As [`Hub::snapshot`], but for those of downloads.
    pub async fn look(&self, repo: &RepoId, revision: Option<&str>) -> Result<Source, SourceError> {
        let revision = revision.unwrap_or(MAIN);
        let (cache, found) = self.find(repo, revision, true).await?;
        let commit = match found {
            Found::OnHub(now) => {
                let weights = self.require(repo, revision, &now)?;
                let (first, is_there) = match &weights {
                    WeightFiles::Gguf(files) => {
                        (files[0].as_str(), files.iter().all(|file| cache.has(&now.commit, file)))
                    }
                    _ => (CONFIG, cache.is_usable(&now.commit, None)),
                };
                if !is_there {
                    // Whoever may not read it is told why by the Hub's own word.
                    self.entry(repo, &now.commit, first).await?;
                    return self.folder(repo, &now).map(Source::Http);
                }
                now.commit
            }
            Found::Cached(commit) => commit,
        };
        let folder = Folder::open(cache.snapshot(&commit))?;
        Ok(Source::Folder(folder.with_meant(self.options.gguf_file.clone())))
    }

    /// Where a revision is: in the cache, if the Hub is not to be asked, need not be, or does not answer.
    async fn find(&self, repo: &RepoId, revision: &str, sizes: bool) -> Result<(Cache, Found), SourceError> {
        repo::check_revision(revision)?;
        let cache = Cache::new(&self.options.cache, repo, self.options.symlinks);
        let known = cache.commit(revision);
        let meant = self.options.gguf_file.as_deref();
        if self.options.offline {
            return match known.filter(|commit| cache.is_usable(commit, meant)) {
                Some(commit) => Ok((cache, Found::Cached(commit))),
                None => Err(SourceError::NotCached {
                    repo: repo.to_string(),
                    revision: revision.to_owned(),
                    cache: cache.root().display().to_string(),
                }),
            };
        }
        if is_commit(revision) && cache.is_complete(revision, meant) {
            return Ok((cache, Found::Cached(revision.to_owned())));
        }
        match self.revision(repo, revision, sizes).await {
            Ok(now) => Ok((cache, Found::OnHub(now))),
            Err(error) => match known.filter(|commit| is_passing(&error) && cache.is_usable(commit, meant)) {
                Some(commit) => {
                    tracing::warn!(%error, "the Hub does not answer; taking what is in the cache");
                    Ok((cache, Found::Cached(commit)))
                }
                None => Err(error),
            },
        }
    }

    /// Downloads what the snapshot lacks.
    async fn complete(
        &self,
        repo: &RepoId,
        revision: &str,
        cache: &Cache,
        now: &Revision,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), SourceError> {
        let commit = now.commit.as_str();
        let weights = self.require(repo, revision, now)?;
        let mut names: Vec<_> =
            now.files.small_files().into_iter().filter(|file| !cache.has(commit, file)).map(str::to_owned).collect();
        if weights == WeightFiles::Single && !cache.has(commit, SINGLE) {
            names.push(SINGLE.to_owned());
        }
        if let WeightFiles::Gguf(files) = &weights {
            names.extend(files.iter().filter(|file| !cache.has(commit, file)).cloned());
        }
        let meant = self.options.gguf_file.as_deref();
        let needs_index = weights == WeightFiles::Sharded && !cache.has(commit, INDEX);
        let absent: Vec<_> = OPTIONAL.into_iter().filter(|file| !now.files.has(file)).collect();
        if !names.is_empty() || needs_index || !cache.is_complete(commit, meant) {
            // A cache that has all but what cannot be noted is still good.
            if !names.is_empty() || needs_index || !cache.is_usable(commit, meant) {
                cache.prepare(commit)?;
            }
            absent.iter().for_each(|file| cache.note_absent(commit, file));
        }
        // The index says which shards there are, so it comes before the sum is known.
        if weights == WeightFiles::Sharded {
            if needs_index {
                let index = self.entry(repo, commit, INDEX).await?;
                self.fetch(repo, cache, commit, &index, &mut |_| ()).await?;
            }
            let shards = cache.shards(repo, commit)?;
            names.extend(shards.into_iter().filter(|shard| !cache.has(commit, shard)));
        }
        let mut entries = Vec::with_capacity(names.len());
        for name in &names {
            entries.push(self.entry(repo, commit, name).await?);
        }
        self.fetch_all(repo, cache, commit, &entries, progress).await
    }

    async fn fetch_all(
        &self,
        repo: &RepoId,
        cache: &Cache,
        commit: &str,
        entries: &[Entry],
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), SourceError> {
        // A server may announce any size.
        let total = entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.size));
        let mut before: u64 = 0;
        for entry in entries {
            tracing::info!(file = entry.name, bytes = entry.size, "downloading");
            let mut told = |done: u64| progress(DownloadProgress { done: before.saturating_add(done), total });
            self.fetch(repo, cache, commit, entry, &mut told).await?;
            before = before.saturating_add(entry.size);
        }
        Ok(())
    }
}

/// Where a revision is.
enum Found {
    /// This commit, in the cache.
    Cached(String),
    /// This, of which the cache may have some.
    OnHub(Revision),
}
