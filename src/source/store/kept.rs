//! A folder below an address of which files are kept: what is there and of the right version is read from there, the rest from the
//! network, and kept while it passes.

use super::record::{Marker, OURS, Tag};
use super::shelf::{Keeping, Shelf};
use crate::error::SourceError;
use crate::source::browser::NoticeCode;
use crate::source::http::{Facts, Http};
use crate::source::hub::{Listed, is_passing};
use crate::source::{Origin, blobs, check_range, shorten};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use web_sys::Blob;

/// Files of an address or a Hub, some of them kept by the browser.
#[derive(Debug)]
pub struct Kept {
    http: Http,
    shelf: Rc<Shelf>,
    /// Of the Hub: its commit, and what that has.
    listing: Option<(String, BTreeMap<String, Listed>)>,
    /// Whether weights are kept as they come.
    weights: bool,
    /// What was said when the network did not answer.
    offline: RefCell<Option<String>>,
    found: RefCell<BTreeMap<String, Found>>,
}

/// Where a file is.
#[derive(Clone, Debug)]
pub(in crate::source) enum Found {
    Absent,
    Kept(Blob),
    Network(Arc<Facts>),
}

impl Kept {
    /// `offline`: why the network does not answer, where that is known already.
    pub(super) fn new(
        http: Http,
        shelf: Rc<Shelf>,
        listing: Option<(String, BTreeMap<String, Listed>)>,
        weights: bool,
        offline: Option<String>,
    ) -> Self {
        let kept = Self { http, shelf, listing, weights, offline: RefCell::default(), found: RefCell::default() };
        if let Some(why) = offline {
            kept.go_offline(why);
        }
        kept
    }

    fn go_offline(&self, why: String) {
        let message = format!("the network does not answer; taking what is kept ({why})");
        self.shelf.notice(NoticeCode::Offline, &message);
        *self.offline.borrow_mut() = Some(why);
    }

    pub(in crate::source) fn http(&self) -> &Http {
        &self.http
    }

    pub(in crate::source) fn http_mut(&mut self) -> &mut Http {
        &mut self.http
    }

    /// As far as is known.
    pub(in crate::source) fn origin(&self, name: &str) -> Origin {
        match self.found.borrow().get(name) {
            Some(Found::Kept(_)) => Origin::Cache,
            _ => Origin::Network,
        }
    }

    pub(in crate::source) async fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        Ok(match self.find(name).await? {
            Found::Absent => None,
            Found::Kept(blob) => Some(blobs::size(&blob)),
            Found::Network(facts) => Some(facts.size),
        })
    }

    pub(in crate::source) async fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        match self.find(name).await? {
            Found::Absent => Err(self.http.missing(name)),
            Found::Kept(blob) => {
                check_range(name, blobs::size(&blob), &range)?;
                let read = blobs::read(name, &blob, range).await;
                read.inspect_err(|_| self.lost(name))
            }
            Found::Network(facts) => {
                let whole = range == (0..facts.size);
                let bytes = self.http.read(name, range).await?;
                if whole && let Some(mut keeping) = self.keeping(name, &facts, false).await {
                    keeping.write(0, &bytes);
                    if keeping.finish().await {
                        self.forget(name);
                    }
                }
                Ok(bytes)
            }
        }
    }

    /// Keeps a file that comes from the network, if it is to be kept; with `go_on` from where an earlier visit stopped, if all of
    /// it is going to be checked.
    pub(in crate::source) async fn keeping(&self, name: &str, facts: &Facts, go_on: bool) -> Option<Keeping> {
        if !self.weights && name.ends_with(".safetensors") {
            return None;
        }
        let tag = self.now(name, Some(facts));
        let go_on = go_on && tag.sha256.is_some();
        self.shelf.begin(Marker { name: name.to_owned(), tag, made_of: BTreeMap::new() }, go_on).await
    }

    /// Where a file is, which has a good name.
    pub(in crate::source) async fn find(&self, name: &str) -> Result<Found, SourceError> {
        if let Some(found) = self.found.borrow().get(name) {
            return Ok(found.clone());
        }
        let found = if name.starts_with(OURS) { self.find_ours(name).await } else { self.find_theirs(name).await? };
        self.found.borrow_mut().insert(name.to_owned(), found.clone());
        Ok(found)
    }

    async fn find_theirs(&self, name: &str) -> Result<Found, SourceError> {
        let kept = self.shelf.kept(name).await;
        if let Some((_, listing)) = &self.listing {
            if !listing.contains_key(name) {
                self.stale(name, kept.is_some()).await;
                return Ok(Found::Absent);
            }
            if let Some(blob) = kept {
                let tag = self.shelf.marker(name).map(|marker| marker.tag).unwrap_or_default();
                if self.is_listed(name, &tag) {
                    return Ok(Found::Kept(blob));
                }
                self.stale(name, true).await;
            }
            return self.fetch(name).await;
        }
        let Some(blob) = kept else { return self.fetch(name).await };
        let tag = self.shelf.marker(name).map(|marker| marker.tag).unwrap_or_default();
        if let Some(want) = self.http.digest(name) {
            // What it must be is known: nobody need be asked.
            if tag.sha256 == Some(want) {
                return Ok(Found::Kept(blob));
            }
            self.stale(name, true).await;
            return self.fetch(name).await;
        }
        if self.offline.borrow().is_some() {
            return Ok(Found::Kept(blob));
        }
        match self.http.facts(name).await {
            Ok(Some(facts)) => {
                let same = match tag.same(&self.now(name, Some(&facts))) {
                    Some(same) => same,
                    None => facts.begins(&blobs::read(name, &blob, 0..facts.head_size()).await.unwrap_or_default()),
                };
                if same {
                    return Ok(Found::Kept(blob));
                }
                self.stale(name, true).await;
                Ok(Found::Network(facts))
            }
            Ok(None) => {
                self.stale(name, true).await;
                Ok(Found::Absent)
            }
            Err(error) if is_passing(&error) => {
                self.go_offline(error.to_string());
                Ok(Found::Kept(blob))
            }
            Err(error) => Err(error),
        }
    }

    /// A file that is not kept.
    async fn fetch(&self, name: &str) -> Result<Found, SourceError> {
        let why = self.offline.borrow().clone();
        let known_absent = self.shelf.record().absent.contains(name);
        if let Some(detail) = why {
            // The same network would be waited for again.
            if known_absent {
                return Ok(Found::Absent);
            }
            return Err(SourceError::Unreachable { url: format!("{}/{name}", self.http.describe()), detail });
        }
        match self.http.facts(name).await {
            Ok(Some(facts)) => Ok(Found::Network(facts)),
            Ok(None) => {
                if self.listing.is_none() && !known_absent {
                    let name = name.to_owned();
                    self.shelf.change(|record| _ = record.absent.insert(name)).await;
                }
                Ok(Found::Absent)
            }
            // what is not there cannot be missed: other files may be kept
            Err(error) if is_passing(&error) && known_absent => {
                self.go_offline(error.to_string());
                Ok(Found::Absent)
            }
            Err(error) => Err(error),
        }
    }

    /// A kept file of another version than there is now.
    async fn stale(&self, name: &str, was_kept: bool) {
        if was_kept {
            self.shelf.notice(NoticeCode::CacheStale, &format!("`{}` is kept in another version", shorten(name)));
            self.shelf.remove(name).await;
        }
    }

    /// A file of our own making, if what it was made of is still as it was.
    async fn find_ours(&self, name: &str) -> Found {
        let Some((blob, marker)) = self.shelf.kept(name).await.zip(self.shelf.marker(name)) else {
            return Found::Absent;
        };
        for (of, then) in &marker.made_of {
            if self.is_now(of, then).await == Some(false) {
                self.stale(name, true).await;
                return Found::Absent;
            }
        }
        Found::Kept(blob)
    }

    /// Whether a file is still of that version; `None` where nobody can tell.
    async fn is_now(&self, name: &str, then: &Tag) -> Option<bool> {
        if let Some((_, listing)) = &self.listing {
            return Some(listing.contains_key(name) && self.is_listed(name, then));
        }
        if let (Some(want), Some(had)) = (self.http.digest(name), &then.sha256) {
            return Some(want == *had);
        }
        if self.offline.borrow().is_some() {
            return None;
        }
        match self.http.facts(name).await {
            Ok(Some(facts)) => then.same(&self.now(name, Some(&facts))),
            Ok(None) => Some(false),
            Err(error) => {
                self.go_offline(error.to_string());
                None
            }
        }
    }

    /// Whether that version is the one that the Hub lists.
    fn is_listed(&self, name: &str, tag: &Tag) -> bool {
        let mut now = self.now(name, None);
        if now.size == 0 {
            // Not every Hub tells sizes; then it is the commit that counts.
            now.size = tag.size;
        }
        tag.same(&now) == Some(true)
    }

    /// The version of a file, by all that is known.
    fn now(&self, name: &str, facts: Option<&Facts>) -> Tag {
        let mut tag = facts.map(Tag::of).unwrap_or_default();
        if let Some((commit, listing)) = &self.listing {
            let listed = listing.get(name).cloned().unwrap_or_default();
            tag.size = listed.size.unwrap_or(tag.size);
            (tag.sha256, tag.blob, tag.commit) = (listed.sha256, listed.blob, Some(commit.clone()));
            // of the server that gave the bytes, and not of the file
            (tag.etag, tag.modified) = (None, None);
        }
        tag.sha256 = self.http.digest(name).or(tag.sha256);
        tag
    }

    /// Begins a file of our own making, beside the others; `made_of`: files of the source whose change makes it useless.
    pub(in crate::source) async fn keeper(
        &self,
        name: &str,
        made_of: &[String],
    ) -> Result<Option<Keeper>, SourceError> {
        if !name.starts_with(OURS) {
            return Err(SourceError::BadName {
                name: shorten(name),
                why: "names of our own making begin with webweft-",
            });
        }
        let mut of = BTreeMap::new();
        for file in made_of {
            let tag = match (self.find(file).await?, self.shelf.marker(file)) {
                (Found::Kept(_), Some(marker)) => marker.tag,
                (Found::Network(facts), _) => self.now(file, Some(&facts)),
                _ => return Err(self.http.missing(file)),
            };
            of.insert(file.clone(), tag);
        }
        let marker = Marker { name: name.to_owned(), tag: Tag::default(), made_of: of };
        let keeping = self.shelf.begin(marker, false).await;
        Ok(keeping.map(|keeping| Keeper { keeping, size: 0 }))
    }

    /// Whoever asks for it is looked for anew.
    pub(in crate::source) fn forget(&self, name: &str) {
        self.found.borrow_mut().remove(name);
    }

    /// What is kept of it cannot be read: the next visit fetches it.
    pub(in crate::source) fn lost(&self, name: &str) {
        self.forget(name);
        let (shelf, name) = (self.shelf.clone(), name.to_owned());
        wasm_bindgen_futures::spawn_local(async move { shelf.remove(&name).await });
    }
}

/// A file of our own making that is written beside those of a model. What goes wrong is told as a notice, and the file is not there.
#[derive(Debug)]
pub struct Keeper {
    keeping: Keeping,
    size: u64,
}

impl Keeper {
    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) {
        self.keeping.write(self.size, bytes);
        self.size += bytes.len() as u64;
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// That was all: from now on the file is there. Whether it is.
    pub async fn finish(mut self) -> bool {
        self.keeping.set_size(self.size);
        self.keeping.finish().await
    }
}
