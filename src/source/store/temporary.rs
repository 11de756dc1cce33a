//! A file of the page's own, for as long as somebody has it.

use super::opfs::{Opfs, Writing};
use super::refused;
use crate::error::SourceError;
use js_sys::{Date, Math};
use wasm_bindgen_futures::spawn_local;

/// The folder of such files. It has no record, so it is no model's.
const FOLDER: &str = "temporary";

/// A file in the origin's private file system that is removed when it is dropped.
#[derive(Debug)]
pub struct Temporary {
    opfs: Opfs,
    name: String,
    /// `None` while it is dropped
    file: Option<Writing>,
}

impl Temporary {
    /// An empty one. What pages that are gone have left is removed.
    ///
    /// # Errors
    /// [`SourceError::Storage`] where the page may keep no files.
    pub async fn new() -> Result<Self, SourceError> {
        let opfs = Opfs::open().await.map_err(|error| refused(&error))?;
        for left in opfs.files(FOLDER).await.unwrap_or_default() {
            // one that another tab has cannot be removed
            let _ = opfs.remove_at_once(FOLDER, &left).await;
        }
        let name = format!("{:x}-{:x}", Date::now() as u64, (Math::random() * 2f64.powi(48)) as u64);
        let file = opfs.writer(FOLDER, &name, false).await.map_err(|error| refused(&error))?;
        Ok(Self { opfs, name, file: Some(file) })
    }

    /// Writes `bytes` from `at` on.
    ///
    /// # Errors
    /// [`SourceError::Storage`] where the disk, or what the browser gives of it, is full.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), SourceError> {
        let file = self.file.as_mut().expect("it is there until this is dropped");
        file.write(at, bytes).map_err(|error| refused(&error))
    }

    /// Appends the `count` bytes from `at` on to `out`.
    ///
    /// # Errors
    /// [`SourceError::Storage`] where they cannot be read.
    pub fn read(&self, at: u64, out: &mut Vec<u8>, count: usize) -> Result<(), SourceError> {
        let file = self.file.as_ref().expect("it is there until this is dropped");
        file.read(at, out, count).map_err(|error| refused(&error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // closed first: an open file cannot be removed
        self.file = None;
        let (opfs, name) = (self.opfs.clone(), std::mem::take(&mut self.name));
        spawn_local(async move {
            let _ = opfs.remove(FOLDER, &name).await;
        });
    }
}
