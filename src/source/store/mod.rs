//! What a browser keeps of models between visits.
//!
//! An entry is a model: one revision of a repository, or one address. Its files lie beside what is known of their version, each with a
//! marker that is written after its last byte: a file without one is never taken as whole, and one whose size is another
//! is thrown away. Keeping is a help and never a condition: where it fails, the page is told, and the network is read.

mod backend;
mod caches;
mod kept;
mod opfs;
mod record;
mod shelf;
mod temporary;

pub use backend::Place;
pub(super) use kept::Found;
pub use kept::{Keeper, Kept};
pub(super) use shelf::Keeping;
pub use temporary::Temporary;

use super::browser::{Notice, NoticeCode};
use super::hub::{self, CONFIG, Hub, INDEX, RepoId, SINGLE};
use super::{Http, Source, js};
use crate::error::SourceError;
use backend::Backend;
use record::{Marker, Names, OURS, RECORD, Record};
use shelf::Shelf;
use std::rc::Rc;
use wasm_bindgen::JsValue;

/// What is kept of a model.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What [`Store::delete`] takes.
    pub key: String,
    /// `hub` or `url`.
    pub kind: String,
    /// The repository, or the address.
    pub name: String,
    /// The branch, tag or commit that was asked for.
    pub revision: Option<String>,
    /// The commit that it led to.
    pub commit: Option<String>,
    /// Bytes that it takes, those of files that are not whole included.
    pub bytes: u64,
    /// The whole files, with their bytes.
    pub files: Vec<(String, u64)>,
    /// Whether the model opens without a network.
    pub complete: bool,
    /// When it was first kept, in milliseconds since 1970.
    pub created: f64,
    /// When it was opened last.
    pub last_used: f64,
}

/// All that is kept for this origin.
#[derive(Debug)]
pub struct Store {
    backend: Backend,
}

impl Store {
    /// Where the browser keeps files; `place`: which of its places, else the first that there is.
    ///
    /// # Errors
    /// [`SourceError::Storage`] where the page may keep nothing.
    pub async fn open(place: Option<Place>) -> Result<Self, SourceError> {
        Ok(Self { backend: Backend::open(place).await.map_err(|error| refused(&error))? })
    }

    /// All entries, the one that was used last first.
    ///
    /// # Errors
    /// [`SourceError::Storage`].
    pub async fn list(&self) -> Result<Vec<Entry>, SourceError> {
        let mut entries = Vec::new();
        for folder in self.backend.folders().await.map_err(|error| refused(&error))? {
            // one without a record is what another tab begins just now, or what is left of one
            if let Some(record) = shelf::read::<Record>(&self.backend, &folder, RECORD).await {
                entries.push(self.entry(&folder, record).await);
            }
        }
        entries.sort_by(|a, b| b.last_used.total_cmp(&a.last_used));
        Ok(entries)
    }

    async fn entry(&self, folder: &str, record: Record) -> Entry {
        let (mut files, mut bytes) = (Vec::new(), 0);
        let markers = shelf::markers(&self.backend, folder).await;
        for file in self.backend.files(folder).await.unwrap_or_default() {
            if !Names::is_data(&file) {
                continue;
            }
            let size = self.backend.get(folder, &file).await.ok().flatten().map_or(0, |blob| blob.size() as u64);
            bytes += size;
            let is_it = |marker: &&Marker| Names::of(&marker.name).data == file && marker.tag.size == size;
            files.extend(markers.iter().find(is_it).map(|marker| (marker.name.clone(), size)));
        }
        files.sort();
        let complete = self.is_complete(folder, &files).await;
        let Record { key, kind, name, revision, commit, created, last_used, .. } = record;
        Entry { key, kind, name, revision, commit, bytes, files, complete, created, last_used }
    }

    async fn is_complete(&self, folder: &str, files: &[(String, u64)]) -> bool {
        let has = |name: &str| files.iter().any(|(file, _)| file == name);
        let ours = || files.iter().any(|(file, _)| file.starts_with(OURS));
        has(CONFIG) && (has(SINGLE) || ours() || (has(INDEX) && self.has_shards(folder, has).await))
    }

    async fn has_shards(&self, folder: &str, has: impl Fn(&str) -> bool) -> bool {
        let index = async {
            let blob = self.backend.get(folder, &Names::of(INDEX).data).await.ok()??;
            js::wait::<JsValue>(blob.text()).await.ok()?.as_string()
        };
        let shards = index.await.and_then(|index| hub::shards(index.as_bytes()).ok());
        shards.is_some_and(|shards| shards.iter().all(|shard| has(shard)))
    }

    /// Deletes an entry; whether there was one.
    ///
    /// # Errors
    /// [`SourceError::Storage`], where another tab writes it, too.
    pub async fn delete(&self, key: &str) -> Result<bool, SourceError> {
        self.backend.remove_folder(&record::folder(key)).await.map_err(|error| refused(&error))
    }

    /// Deletes everything.
    ///
    /// # Errors
    /// As [`Store::delete`]; what can be deleted is.
    pub async fn clear(&self) -> Result<(), SourceError> {
        let mut result = Ok(());
        for folder in self.backend.folders().await.map_err(|error| refused(&error))? {
            if let Err(error) = self.backend.remove_folder(&folder).await {
                result = Err(refused(&error));
            }
        }
        result
    }

    async fn shelf(&self, kind: &str, key: String, name: String, revision: Option<String>, tell: Tell) -> Rc<Shelf> {
        let now = js_sys::Date::now();
        let record = Record {
            key,
            kind: kind.to_owned(),
            name,
            revision,
            commit: None,
            created: now,
            last_used: now,
            listing: None,
            absent: std::collections::BTreeSet::new(),
        };
        let shelf = Shelf::open(self.backend.clone(), record, tell).await;
        shelf.change(|record| record.last_used = now).await;
        Rc::new(shelf)
    }

    /// The files at an address, kept as they are read.
    pub(super) async fn url(&self, http: Http, weights: bool, tell: Tell) -> Source {
        let name = http.describe();
        let shelf = self.shelf("url", name.clone(), name, None, tell).await;
        Source::Kept(Box::new(Kept::new(http, shelf, None, weights, None)))
    }

    /// A revision of a repository, kept as it is read. Where the Hub does not answer, the commit that it was last time.
    pub(super) async fn hub(
        &self,
        hub: &Hub,
        repo: &RepoId,
        revision: &str,
        weights: bool,
        tell: Tell,
    ) -> Result<Source, SourceError> {
        let key = format!("{}/{repo}@{revision}", hub.endpoint());
        let shelf = self.shelf("hub", key, repo.to_string(), Some(revision.to_owned()), tell).await;
        let record = shelf.record();
        let before = record.commit.zip(record.listing);
        let (now, offline) = match before {
            // A commit never changes.
            Some((commit, listing)) if commit == revision => (hub::Revision::of(commit, listing), None),
            before => match (hub.listing(repo, revision).await, before) {
                (Err(error), Some((commit, listing))) if hub::is_passing(&error) => {
                    (hub::Revision::of(commit, listing), Some(error.to_string()))
                }
                (now, _) => (now?, None),
            },
        };
        let listing = now.files.all().clone();
        let http = hub.folder(repo, &now)?;
        if now.gated && offline.is_none() && shelf.marker(CONFIG).is_none() {
            hub.check_access(repo, &now, &http).await?;
        }
        let commit = now.commit.clone();
        if offline.is_none() {
            for name in shelf.names() {
                if !name.starts_with(OURS) && !listing.contains_key(&name) {
                    shelf.remove(&name).await;
                }
            }
            shelf
                .change(|record| {
                    record.commit = Some(commit.clone());
                    record.listing = Some(listing.clone());
                })
                .await;
        }
        Ok(Source::Kept(Box::new(Kept::new(http, shelf, Some((commit, listing)), weights, offline))))
    }
}

/// Where notices go.
pub(super) type Tell = Box<dyn Fn(Notice)>;

/// Where the page may keep nothing, it is told, and goes on without.
pub(super) fn unavailable(tell: &Tell, error: &SourceError) {
    tell(Notice { code: NoticeCode::CacheUnavailable, message: error.to_string() });
}

fn refused(error: &JsValue) -> SourceError {
    SourceError::Storage { name: js::error_name(error), detail: js::describe(error) }
}
