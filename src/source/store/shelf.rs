//! The files of one entry. Nothing that goes wrong here is an error: what cannot be read is not there, and what cannot be written
//! is told as a notice and not kept.

use super::backend::{Backend, Writer};
use super::record::{Marker, Names, RECORD, Record, Tag};
use crate::source::browser::{Notice, NoticeCode};
use crate::source::js;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use web_sys::Blob;

/// Reads a small file that is JSON; `None` for one that is not there, or not whole.
pub(super) async fn read<T: DeserializeOwned>(backend: &Backend, folder: &str, file: &str) -> Option<T> {
    const CAP: f64 = (16 << 20) as f64;
    let blob = backend.get(folder, file).await.ok().flatten().filter(|blob| blob.size() <= CAP)?;
    let text: JsValue = js::wait(blob.text()).await.ok()?;
    serde_json::from_str(&text.as_string()?).ok()
}

async fn write(backend: &Backend, folder: &str, file: &str, value: &impl Serialize) -> Result<(), JsValue> {
    let text = serde_json::to_vec(value).map_err(|error| js::error(&error.to_string()))?;
    backend.put(folder, file, &text).await
}

/// The markers of an entry.
pub(super) async fn markers(backend: &Backend, folder: &str) -> Vec<Marker> {
    let mut markers = Vec::new();
    for file in backend.files(folder).await.unwrap_or_default() {
        if Names::is_marker(&file) {
            markers.extend(read::<Marker>(backend, folder, &file).await);
        }
    }
    markers
}

pub(super) struct Shelf {
    backend: Backend,
    folder: String,
    record: RefCell<Record>,
    /// Whether the record is written: not before there is something to keep.
    exists: Cell<bool>,
    markers: RefCell<BTreeMap<String, Marker>>,
    /// Nothing more is written: there is no room, or it was forbidden.
    full: Cell<bool>,
    told: RefCell<BTreeSet<&'static str>>,
    on_notice: Box<dyn Fn(Notice)>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Shelf {
    /// What there is of the entry that `record` describes; its own record goes on where it has one.
    pub async fn open(backend: Backend, record: Record, on_notice: Box<dyn Fn(Notice)>) -> Self {
        let folder = super::record::folder(&record.key);
        let before: Option<Record> = read(&backend, &folder, RECORD).await;
        let before = before.filter(|before| before.key == record.key);
        let mut found = BTreeMap::new();
        if before.is_some() {
            found.extend(markers(&backend, &folder).await.into_iter().map(|marker| (marker.name.clone(), marker)));
        }
        Self {
            backend,
            folder,
            exists: Cell::new(before.is_some()),
            record: RefCell::new(before.unwrap_or(record)),
            markers: RefCell::new(found),
            full: Cell::new(false),
            told: RefCell::default(),
            on_notice,
        }
    }

    /// Tells the page, once of each kind.
    pub fn notice(&self, code: NoticeCode, message: &str) {
        if self.told.borrow_mut().insert(code.as_str()) {
            tracing::info!(code = code.as_str(), message, "notice");
            (self.on_notice)(Notice { code, message: message.to_owned() });
        }
    }

    pub fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Changes the record, and writes it if the entry exists.
    pub async fn change(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record.borrow_mut());
        if self.exists.get() && !self.full.get() {
            let record = self.record();
            if let Err(error) = write(&self.backend, &self.folder, RECORD, &record).await {
                // Another tab may be at it; what it says is as good.
                tracing::debug!(error = js::describe(&error), "the record is not written");
            }
        }
    }

    pub fn marker(&self, name: &str) -> Option<Marker> {
        self.markers.borrow().get(name).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.markers.borrow().keys().cloned().collect()
    }

    /// A file that is there to its last byte. What is left of one that is not is removed.
    pub async fn kept(&self, name: &str) -> Option<Blob> {
        let marker = self.marker(name)?;
        match self.backend.get(&self.folder, &Names::of(name).data).await {
            Ok(Some(blob)) if blob.size() as u64 == marker.tag.size => Some(blob),
            _ => {
                tracing::info!(name, "a kept file is damaged or gone");
                self.remove(name).await;
                None
            }
        }
    }

    /// Forgets a file. Its marker goes first.
    pub async fn remove(&self, name: &str) {
        self.markers.borrow_mut().remove(name);
        let names = Names::of(name);
        for file in [names.marker, names.begun, names.data] {
            if let Err(error) = self.backend.remove(&self.folder, &file).await {
                tracing::debug!(error = js::describe(&error), file, "is not removed");
            }
        }
    }

    /// Begins to keep a file; with `go_on` after what an earlier visit left of the same version. `None` where it cannot be kept.
    pub async fn begin(self: &Rc<Self>, marker: Marker, go_on: bool) -> Option<Keeping> {
        if self.full.get() {
            return None;
        }
        match self.try_begin(&marker, go_on).await {
            Ok(writer) => {
                let prefix = writer.prefix();
                Some(Keeping { shelf: self.clone(), marker, writer: Some(writer), prefix })
            }
            Err(error) => {
                self.refused(&error);
                None
            }
        }
    }

    async fn try_begin(&self, marker: &Marker, go_on: bool) -> Result<Writer, JsValue> {
        if !self.exists.replace(true) {
            let record = self.record();
            write(&self.backend, &self.folder, RECORD, &record).await?;
        }
        let names = Names::of(&marker.name);
        let go_on = go_on && {
            let begun: Option<Tag> = read(&self.backend, &self.folder, &names.begun).await;
            begun.is_some_and(|begun| begun.same(&marker.tag) == Some(true))
        };
        let mut writer = self.backend.writer(&self.folder, &names.data, go_on).await?;
        if go_on && writer.prefix() > marker.tag.size {
            // given back first: it is the only one
            drop(writer);
            writer = self.backend.writer(&self.folder, &names.data, false).await?;
        }
        // Whoever holds the writer is the only one at this file.
        self.markers.borrow_mut().remove(&marker.name);
        self.backend.remove(&self.folder, &names.marker).await?;
        if writer.prefix() == 0 {
            write(&self.backend, &self.folder, &names.begun, &marker.tag).await?;
        }
        Ok(writer)
    }

    /// Says why something is not kept; where there is no room, nothing more is tried.
    fn refused(&self, error: &JsValue) {
        let (name, words) = (js::error_name(error), js::describe(error));
        let message = match name.as_str() {
            "QuotaExceededError" => format!("there is no room to keep the model ({words})"),
            "NoModificationAllowedError" => format!("another tab keeps the same model just now ({words})"),
            "SecurityError" | "NotAllowedError" => format!("this page may not keep files ({words})"),
            _ => format!("the model is not kept ({words})"),
        };
        self.full.set(name != "NoModificationAllowedError");
        self.notice(NoticeCode::CacheUnavailable, &message);
    }
}

/// A file that is being kept. Dropped, it stays begun.
#[derive(Debug)]
pub(in crate::source) struct Keeping {
    shelf: Rc<Shelf>,
    marker: Marker,
    /// `None` after a failure.
    writer: Option<Writer>,
    /// Bytes that an earlier visit left.
    prefix: u64,
}

impl Keeping {
    /// Bytes from the beginning that need not be fetched.
    pub fn prefix(&self) -> u64 {
        if self.writer.is_some() { self.prefix } else { 0 }
    }

    /// Appends `count` of those bytes. Where they cannot be read they are to be fetched after all.
    pub fn read(&mut self, at: u64, out: &mut Vec<u8>, count: usize) -> bool {
        let read = self.writer.as_ref().is_some_and(|writer| writer.read(at, out, count).is_ok());
        if !read {
            self.prefix = at;
        }
        read
    }

    /// Writes what was fetched.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.write(at, bytes) {
            self.fail(&error);
        }
    }

    /// Gives up, and frees the room that was taken.
    fn fail(&mut self, error: &JsValue) {
        self.writer = None;
        self.shelf.refused(error);
        let (shelf, name) = (self.shelf.clone(), self.marker.name.clone());
        wasm_bindgen_futures::spawn_local(async move { shelf.remove(&name).await });
    }

    /// For a file whose size was not known.
    pub fn set_size(&mut self, size: u64) {
        self.marker.tag.size = size;
    }

    /// All bytes were written, and are right: from now on the file is kept. Whether it is.
    pub async fn finish(mut self) -> bool {
        let Some(writer) = self.writer.take() else { return false };
        let (shelf, names) = (&self.shelf, Names::of(&self.marker.name));
        let done = async {
            writer.finish().await?;
            write(&shelf.backend, &shelf.folder, &names.marker, &self.marker).await?;
            shelf.backend.remove(&shelf.folder, &names.begun).await
        };
        match done.await {
            Ok(()) => {
                shelf.markers.borrow_mut().insert(self.marker.name.clone(), self.marker.clone());
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// The bytes are wrong.
    pub async fn discard(mut self) {
        self.writer = None;
        self.shelf.remove(&self.marker.name).await;
    }
}
