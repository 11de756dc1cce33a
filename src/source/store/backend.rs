//! Where a browser keeps files: its private file system (OPFS), or its caches where there is none.
//!
//! Both are folders of files here. Errors are the browser's own: who calls decides what they mean.

use super::caches::{Caches, Gathering};
use super::opfs::{Opfs, Writing};
use crate::source::js;
use js_sys::{Reflect, global};
use wasm_bindgen::JsValue;
use web_sys::Blob;

/// What a page is let to keep files in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The origin's private file system.
    Opfs,
    /// The origin's caches.
    Caches,
}

#[derive(Clone, Debug)]
pub(super) enum Backend {
    Opfs(Opfs),
    Caches(Caches),
}

impl Backend {
    /// The one that is asked for, or the first that the browser gives.
    pub async fn open(place: Option<Place>) -> Result<Self, JsValue> {
        let opfs = async || Opfs::open().await.map(Self::Opfs);
        let caches = async || Caches::open().await.map(Self::Caches);
        match place {
            Some(Place::Opfs) => opfs().await,
            Some(Place::Caches) => caches().await,
            None => match opfs().await {
                Err(error) => {
                    tracing::debug!(error = js::describe(&error), "no private file system");
                    caches().await
                }
                found => found,
            },
        }
    }

    /// The names of all folders.
    pub async fn folders(&self) -> Result<Vec<String>, JsValue> {
        match self {
            Self::Opfs(opfs) => opfs.folders().await,
            Self::Caches(caches) => caches.folders().await,
        }
    }

    /// The names of the files in a folder; none where there is no such folder.
    pub async fn files(&self, folder: &str) -> Result<Vec<String>, JsValue> {
        match self {
            Self::Opfs(opfs) => opfs.files(folder).await,
            Self::Caches(caches) => caches.files(folder).await,
        }
    }

    /// A file, to be read where it is; `None` where there is none.
    pub async fn get(&self, folder: &str, file: &str) -> Result<Option<Blob>, JsValue> {
        match self {
            Self::Opfs(opfs) => opfs.get(folder, file).await,
            Self::Caches(caches) => caches.get(folder, file).await,
        }
    }

    /// Writes a small file, in place of one that is there.
    pub async fn put(&self, folder: &str, file: &str, bytes: &[u8]) -> Result<(), JsValue> {
        let mut writer = self.writer(folder, file, false).await?;
        writer.write(0, bytes)?;
        writer.finish().await
    }

    /// Begins a file; with `go_on` after what is there.
    pub async fn writer(&self, folder: &str, file: &str, go_on: bool) -> Result<Writer, JsValue> {
        match self {
            Self::Opfs(opfs) => opfs.writer(folder, file, go_on).await.map(Writer::Opfs),
            Self::Caches(caches) => Ok(Writer::Caches(caches.writer(folder, file))),
        }
    }

    /// Removes a file, if it is there.
    pub async fn remove(&self, folder: &str, file: &str) -> Result<(), JsValue> {
        match self {
            Self::Opfs(opfs) => opfs.remove(folder, file).await,
            Self::Caches(caches) => caches.remove(folder, file).await,
        }
    }

    /// Removes a folder with all that is in it; whether it was there.
    pub async fn remove_folder(&self, folder: &str) -> Result<bool, JsValue> {
        match self {
            Self::Opfs(opfs) => opfs.remove_folder(folder).await,
            Self::Caches(caches) => caches.remove_folder(folder).await,
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Writer {
    Opfs(Writing),
    Caches(Gathering),
}

impl Writer {
    /// Bytes that were there before.
    pub fn prefix(&self) -> u64 {
        match self {
            Self::Opfs(writing) => writing.prefix(),
            Self::Caches(_) => 0,
        }
    }

    /// Appends `count` of the bytes that were there before.
    pub fn read(&self, at: u64, out: &mut Vec<u8>, count: usize) -> Result<(), JsValue> {
        match self {
            Self::Opfs(writing) => writing.read(at, out, count),
            Self::Caches(_) => Err(js::error("nothing was there before")),
        }
    }

    /// Puts bytes where they belong, which is behind all that were written so far.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), JsValue> {
        match self {
            Self::Opfs(writing) => writing.write(at, bytes),
            Self::Caches(gathering) => gathering.write(bytes),
        }
    }

    /// Whoever asks for the file from now on finds all of it.
    pub async fn finish(self) -> Result<(), JsValue> {
        match self {
            Self::Opfs(writing) => writing.finish(),
            Self::Caches(gathering) => gathering.finish().await,
        }
    }
}

/// Something of the page or worker, where it has it: what `path` leads to.
pub(super) fn find(path: &[&str]) -> Result<JsValue, JsValue> {
    let mut at = JsValue::from(global());
    for name in path {
        at = Reflect::get(&at, &(*name).into())?;
        if at.is_null() || at.is_undefined() {
            return Err(js::error(&format!("this browser has no {}", path.join("."))));
        }
    }
    Ok(at)
}
