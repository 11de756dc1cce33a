//! Where bytes come from: a folder of named files, wherever it lies.
//!
//! Everything above reads through [`Source`], so that no layer but this one knows of files, mappings or requests.
//! Reads are asynchronous because browsers only have those; natively they are ready at once.

#[cfg(not(target_arch = "wasm32"))]
mod folder;
mod memory;

#[cfg(not(target_arch = "wasm32"))]
pub use folder::Folder;
pub use memory::Memory;

use crate::error::SourceError;
use std::borrow::Cow;
use std::ops::Range;

/// A folder of named files. An enum and not a trait object: async methods stay plain, and there are few kinds.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// A folder on disk, mapped into memory.
    #[cfg(not(target_arch = "wasm32"))]
    Folder(Folder),
    /// Files held in memory.
    Memory(Memory),
}

impl Source {
    /// Bytes in the file `name`, or `None` where there is no such file.
    ///
    /// # Errors
    /// [`SourceError::BadName`], [`SourceError::Io`].
    #[allow(clippy::unused_async, reason = "browser sources await here")]
    pub async fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        check_name(name)?;
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.size(name),
            Self::Memory(memory) => Ok(memory.bytes(name).map(|bytes| bytes.len() as u64)),
        }
    }

    /// The bytes `range` of the file `name`; borrowed where they are in memory or mapped already.
    ///
    /// # Errors
    /// [`SourceError::FileMissing`], [`SourceError::OutOfRange`] (also for a range that begins after its end),
    /// [`SourceError::BadName`], [`SourceError::Io`].
    #[allow(clippy::unused_async, reason = "browser sources await here")]
    pub async fn read(&self, name: &str, range: Range<u64>) -> Result<Cow<'_, [u8]>, SourceError> {
        check_name(name)?;
        let bytes = match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.bytes(name)?,
            Self::Memory(memory) => memory.bytes(name),
        };
        let bytes = bytes.ok_or_else(|| SourceError::FileMissing { place: self.describe(), name: shorten(name) })?;
        slice(name, bytes, &range).map(Cow::Borrowed)
    }

    /// The whole file `name`, or `None` where there is no such file.
    ///
    /// # Errors
    /// [`SourceError::TooLarge`] above `cap` bytes, before any of them is read; else as [`Source::read`].
    pub async fn read_all(&self, name: &str, cap: u64) -> Result<Option<Cow<'_, [u8]>>, SourceError> {
        let Some(size) = self.size(name).await? else {
            return Ok(None);
        };
        if size > cap {
            return Err(SourceError::TooLarge { name: shorten(name), size, cap });
        }
        self.read(name, 0..size).await.map(Some)
    }

    /// The bytes `range` of the file `name` in order, in pieces of at most `chunk` bytes (0 counts as 1).
    /// Nothing is read before the first [`Stream::next`].
    pub fn stream(&self, name: &str, range: Range<u64>, chunk: usize) -> Stream<'_> {
        Stream { source: self, name: name.to_owned(), rest: Some(range), chunk: (chunk as u64).max(1) }
    }

    /// Where this is, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.path().display().to_string(),
            Self::Memory(_) => "memory".to_owned(),
        }
    }
}

/// A range of one file in pieces; see [`Source::stream`].
#[derive(Debug)]
pub struct Stream<'a> {
    source: &'a Source,
    name: String,
    /// What is still to come; `None` at the end and after an error.
    rest: Option<Range<u64>>,
    /// Bytes per piece, at least 1.
    chunk: u64,
}

impl<'a> Stream<'a> {
    /// The next piece; `None` at the end, and after an error. An empty range of a file gives no piece.
    pub async fn next(&mut self) -> Option<Result<Cow<'a, [u8]>, SourceError>> {
        let rest = self.rest.take()?;
        if rest.start == rest.end {
            return None;
        }
        // A reversed range goes to `read` as it is, which refuses it and names it.
        let stop = rest.start.saturating_add(self.chunk).min(rest.end);
        let piece = self.source.read(&self.name, rest.start..stop).await;
        if piece.is_ok() && stop < rest.end {
            self.rest = Some(stop..rest.end);
        }
        Some(piece)
    }
}

/// Cuts `range` out of a file's bytes, with every comparison made before an index.
fn slice<'a>(name: &str, bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8], SourceError> {
    let index = |at: u64| usize::try_from(at).ok();
    index(range.start).zip(index(range.end)).and_then(|(start, end)| bytes.get(start..end)).ok_or_else(|| {
        SourceError::OutOfRange { name: shorten(name), start: range.start, end: range.end, size: bytes.len() as u64 }
    })
}

/// Refuses names that could leave the folder on any system. Names come from index files, so they are hostile, and the
/// rules are the same everywhere: a checkpoint that opens on Linux opens on Windows.
pub(crate) fn check_name(name: &str) -> Result<(), SourceError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > 1024 {
        "it is longer than 1024 bytes"
    } else if name.contains(['\\', ':', '\0']) {
        "it has a backslash, a colon or a zero byte"
    } else if name.starts_with('/') {
        "it is absolute"
    } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "it has an empty, `.` or `..` part"
    } else {
        return Ok(());
    };
    Err(SourceError::BadName { name: shorten(name), why })
}

/// At most 200 characters of a name that a hostile file may have made as long as it liked.
pub(crate) fn shorten(name: &str) -> String {
    match name.char_indices().nth(200) {
        None => name.to_owned(),
        Some((at, _)) => format!("{}…", &name[..at]),
    }
}
