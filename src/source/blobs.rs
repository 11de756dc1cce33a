//! Files that a page has: chosen, dropped, kept by the browser, or bytes of its own. They are read in place, slice by slice, and
//! never as a whole.

use super::{check_name, js, shorten};
use crate::error::SourceError;
use js_sys::{ArrayBuffer, Uint8Array};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

/// Read at once, ...
const PIECE: u64 = 2 << 20;
/// ... and so many pieces are asked for ahead of whoever takes them. They lie outside the memory of wasm.
const AHEAD: usize = 2;

/// Named `Blob`s, of which `File` is one.
#[derive(Debug, Default)]
pub struct Blobs {
    files: BTreeMap<String, Blob>,
    /// The GGUF file that is meant.
    pub(super) meant: Option<String>,
}

impl Blobs {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, in place of one of the same name.
    ///
    /// # Errors
    /// [`SourceError::BadName`] for a name that no folder would give out.
    pub fn insert(&mut self, name: impl Into<String>, blob: Blob) -> Result<(), SourceError> {
        let name = name.into();
        check_name(&name)?;
        self.files.insert(name, blob);
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Blob> {
        self.files.get(name)
    }
}

/// Bytes of a `Blob`.
pub(super) fn size(blob: &Blob) -> u64 {
    blob.size() as u64
}

/// The bytes of a range, which has been checked.
pub(super) async fn read(name: &str, blob: &Blob, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
    let mut out = Vec::new();
    let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    BlobReader::new(name, blob.clone(), range).fill(&mut out, count).await?;
    Ok(out)
}

/// A range of a `Blob` in order, some pieces ahead.
#[derive(Debug)]
pub(super) struct BlobReader {
    name: String,
    blob: Blob,
    /// What nobody asked for yet.
    rest: Range<u64>,
    /// What was asked for, and how long it must be.
    asked: VecDeque<(u64, JsFuture)>,
    current: Option<Uint8Array>,
    /// How much of it was taken.
    taken: u32,
}

impl BlobReader {
    /// The range lies within the file.
    pub fn new(name: &str, blob: Blob, range: Range<u64>) -> Self {
        Self { name: name.to_owned(), blob, rest: range, asked: VecDeque::new(), current: None, taken: 0 }
    }

    fn ask(&mut self) -> Result<(), SourceError> {
        while self.asked.len() <= AHEAD && self.rest.start < self.rest.end {
            let stop = self.rest.end.min(self.rest.start + PIECE);
            // Whole numbers below 2^53: no file is longer.
            let part = self.blob.slice_with_f64_and_f64(self.rest.start as f64, stop as f64);
            let part = part.map_err(|error| self.gone(&error))?;
            self.asked.push_back((stop - self.rest.start, JsFuture::from(part.array_buffer())));
            self.rest.start = stop;
        }
        Ok(())
    }

    /// Appends `count` bytes, which the range must have.
    pub async fn fill(&mut self, out: &mut Vec<u8>, count: usize) -> Result<(), SourceError> {
        js::reserve(out, &self.name, count)?;
        let target = out.len() + count;
        while out.len() < target {
            let current = match &self.current {
                Some(current) if self.taken < current.length() => current,
                _ => {
                    self.ask()?;
                    let Some((length, buffer)) = self.asked.pop_front() else {
                        return Err(self.changed("it ends too early"));
                    };
                    let buffer = buffer.await.map_err(|error| self.gone(&error))?;
                    let bytes = Uint8Array::new(&ArrayBuffer::from(buffer));
                    if u64::from(bytes.length()) != length {
                        return Err(self.changed("it has become shorter"));
                    }
                    self.taken = 0;
                    self.current.insert(bytes)
                }
            };
            let most = u32::try_from(target - out.len()).unwrap_or(u32::MAX);
            let part = current.subarray(self.taken, self.taken + most.min(current.length() - self.taken));
            let before = out.len();
            out.resize(before + part.length() as usize, 0);
            part.copy_to(&mut out[before..]);
            self.taken += part.length();
        }
        Ok(())
    }

    /// Goes on `bytes` further, as far as the range goes.
    pub fn skip(&mut self, bytes: u64) {
        let mut bytes = bytes;
        if let Some(current) = &self.current {
            let now = u64::from(current.length() - self.taken).min(bytes);
            self.taken += now as u32;
            bytes -= now;
        }
        while let Some((length, _)) = self.asked.front()
            && *length <= bytes
        {
            bytes -= *length;
            self.asked.pop_front();
        }
        if bytes > 0 {
            // into the middle of a piece, or beyond all of them
            let asked: u64 = self.asked.drain(..).map(|(length, _)| length).sum();
            self.rest.start = (self.rest.start - asked).saturating_add(bytes).min(self.rest.end);
        }
    }

    fn changed(&self, detail: &str) -> SourceError {
        SourceError::Changed { url: shorten(&self.name), detail: detail.to_owned() }
    }

    /// Browsers refuse to read a file that is not as it was when the page was given it.
    fn gone(&self, error: &JsValue) -> SourceError {
        let detail = match js::error_name(error).as_str() {
            "NotFoundError" => "it is gone".to_owned(),
            _ => js::describe(error),
        };
        self.changed(&detail)
    }
}
