//! Where bytes come from: a folder of named files, wherever it lies.
//!
//! Everything above reads through [`Source`], so that no layer but this one knows of files, mappings or requests.
//! Reads are asynchronous because browsers only have those; natively they are ready at once.

#[cfg(target_arch = "wasm32")]
mod blobs;
#[cfg(target_arch = "wasm32")]
pub mod browser;
mod digest;
#[cfg(not(target_arch = "wasm32"))]
mod folder;
pub mod gguf;
mod http;
mod hub;
#[cfg(target_arch = "wasm32")]
mod js;
mod memory;
mod scratch;
#[cfg(target_arch = "wasm32")]
pub mod store;
mod stream;
mod token;
mod url;

#[cfg(target_arch = "wasm32")]
pub use blobs::Blobs;
#[cfg(not(target_arch = "wasm32"))]
pub use folder::Folder;
pub(crate) use http::client::sleep;
pub use http::{Http, HttpOptions, RetryPolicy};
#[cfg(not(target_arch = "wasm32"))]
pub use hub::DownloadProgress;
pub use hub::{Hub, HubOptions, RepoId, is_commit};
pub use memory::Memory;
pub use scratch::Scratch;
pub use stream::Stream;
pub use token::Token;

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
    /// Files below an `http` or `https` address, read by ranges.
    Http(Http),
    /// Files of a page.
    #[cfg(target_arch = "wasm32")]
    Blobs(Blobs),
    /// Files of an address or a Hub, some of them kept by the browser.
    #[cfg(target_arch = "wasm32")]
    Kept(Box<store::Kept>),
}

/// Where the bytes of a file come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A server.
    Network,
    /// What an earlier visit kept.
    Cache,
    /// This machine: a folder, memory, files of the page.
    Local,
}

impl Origin {
    /// As pages know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Cache => "cache",
            Self::Local => "local",
        }
    }
}

impl Source {
    /// Bytes in the file `name`, or `None` where there is no such file.
    ///
    /// # Errors
    /// [`SourceError::BadName`], [`SourceError::Io`]; for an address those of the network: [`SourceError::Unreachable`],
    /// [`SourceError::Refused`], [`SourceError::RateLimited`], [`SourceError::Status`], [`SourceError::WrongRange`].
    pub async fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        check_name(name)?;
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.size(name),
            Self::Memory(memory) => Ok(memory.bytes(name).map(|bytes| bytes.len() as u64)),
            Self::Http(http) => Ok(http.facts(name).await?.map(|facts| facts.size)),
            #[cfg(target_arch = "wasm32")]
            Self::Blobs(blobs) => Ok(blobs.get(name).map(blobs::size)),
            #[cfg(target_arch = "wasm32")]
            Self::Kept(kept) => kept.size(name).await,
        }
    }

    /// The bytes `range` of the file `name`; borrowed where they are in memory or mapped already.
    ///
    /// # Errors
    /// [`SourceError::FileMissing`], [`SourceError::OutOfRange`] (also for a range that begins after its end),
    /// [`SourceError::BadName`], [`SourceError::Io`]; for an address those of [`Source::size`], [`SourceError::Changed`] and
    /// [`SourceError::RangesIgnored`].
    pub async fn read(&self, name: &str, range: Range<u64>) -> Result<Cow<'_, [u8]>, SourceError> {
        check_name(name)?;
        if let Self::Http(http) = self {
            return http.read(name, range).await.map(Cow::Owned);
        }
        #[cfg(target_arch = "wasm32")]
        if let Self::Blobs(blobs) = self {
            let blob = blobs.get(name).ok_or_else(|| self.missing(name))?;
            check_range(name, blobs::size(blob), &range)?;
            return blobs::read(name, blob, range).await.map(Cow::Owned);
        }
        #[cfg(target_arch = "wasm32")]
        if let Self::Kept(kept) = self {
            return kept.read(name, range).await.map(Cow::Owned);
        }
        let bytes = self.local(name)?.ok_or_else(|| self.missing(name))?;
        slice(name, bytes, &range).map(Cow::Borrowed)
    }

    /// The same, of which a certain GGUF file is meant, by its name or by the type in its name (`Q8_0`); `None` leaves it as it is.
    #[must_use]
    pub fn meaning(mut self, file: Option<String>) -> Self {
        if file.is_some() {
            let meant = match &mut self {
                #[cfg(not(target_arch = "wasm32"))]
                Self::Folder(folder) => &mut folder.meant,
                Self::Memory(memory) => &mut memory.meant,
                Self::Http(http) => &mut http.meant,
                #[cfg(target_arch = "wasm32")]
                Self::Blobs(blobs) => &mut blobs.meant,
                #[cfg(target_arch = "wasm32")]
                Self::Kept(kept) => &mut kept.http_mut().meant,
            };
            *meant = file;
        }
        self
    }

    /// The GGUF file that is meant: that of [`meaning`](Self::meaning), or of a path or an address that led to it.
    #[must_use]
    pub fn meant(&self) -> Option<&str> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.meant.as_deref(),
            Self::Memory(memory) => memory.meant.as_deref(),
            Self::Http(http) => http.meant.as_deref(),
            #[cfg(target_arch = "wasm32")]
            Self::Blobs(blobs) => blobs.meant.as_deref(),
            #[cfg(target_arch = "wasm32")]
            Self::Kept(kept) => kept.http().meant.as_deref(),
        }
    }

    /// The GGUF file that is to be read: that which is meant, else the only one (or the one in `Q4_K_M`, as llama.cpp chooses); of a
    /// model in several files, the first. `None` where there is none.
    ///
    /// # Errors
    /// [`SourceError::GgufChoice`] where several could be meant; [`SourceError::Io`].
    pub fn gguf(&self) -> Result<Option<String>, SourceError> {
        // an address does not tell its names
        if let Some(name) = self.meant().filter(|name| name.ends_with(gguf::ENDING)) {
            return Ok(Some(name.to_owned()));
        }
        let names = self.names()?;
        match gguf::choose(names.iter().map(String::as_str), self.meant()) {
            Ok(chosen) => Ok(chosen.map(str::to_owned)),
            Err(found) => Err(SourceError::gguf_choice(self.describe(), self.meant(), &found)),
        }
    }

    /// Names of its files, as far as it can tell: an address cannot.
    fn names(&self) -> Result<Vec<String>, SourceError> {
        Ok(match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.names()?,
            Self::Memory(memory) => memory.names().cloned().collect(),
            Self::Http(http) => http.names().cloned().collect(),
            #[cfg(target_arch = "wasm32")]
            Self::Blobs(blobs) => blobs.names().cloned().collect(),
            #[cfg(target_arch = "wasm32")]
            Self::Kept(kept) => kept.http().names().cloned().collect(),
        })
    }

    /// The bytes of a file that is in memory or mapped; none of one that is not.
    fn local(&self, name: &str) -> Result<Option<&[u8]>, SourceError> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.bytes(name),
            Self::Memory(memory) => Ok(memory.bytes(name)),
            Self::Http(_) => Ok(None),
            #[cfg(target_arch = "wasm32")]
            Self::Blobs(_) | Self::Kept(_) => Ok(None),
        }
    }

    /// Whether files are in memory or mapped.
    fn is_local(&self) -> bool {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(_) => true,
            Self::Memory(_) => true,
            Self::Http(_) => false,
            #[cfg(target_arch = "wasm32")]
            Self::Blobs(_) | Self::Kept(_) => false,
        }
    }

    fn missing(&self, name: &str) -> SourceError {
        SourceError::FileMissing { place: self.describe(), name: shorten(name) }
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

    /// The bytes `range` of the file `name` in order, in pieces of whatever length is asked for; from an address they are
    /// one long answer. Nothing is read before the first [`Stream::next`].
    #[must_use]
    pub fn stream(&self, name: &str, range: Range<u64>) -> Stream<'_> {
        Stream::new(self, name, range)
    }

    /// Where this is, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Folder(folder) => folder.path().display().to_string(),
            Self::Memory(_) => "memory".to_owned(),
            Self::Http(http) => http.describe(),
            #[cfg(target_arch = "wasm32")]
            Self::Blobs(_) => "the files of the page".to_owned(),
            #[cfg(target_arch = "wasm32")]
            Self::Kept(kept) => kept.http().describe(),
        }
    }

    /// Bytes that were compared with a digest so far, and found right.
    #[must_use]
    pub fn verified(&self) -> u64 {
        match self {
            Self::Http(http) => http.verified(),
            #[cfg(target_arch = "wasm32")]
            Self::Kept(kept) => kept.http().verified(),
            _ => 0,
        }
    }

    /// Where the bytes of a file come from, as far as is known: once its size was asked for.
    #[must_use]
    #[cfg_attr(not(target_arch = "wasm32"), allow(unused_variables, reason = "only browsers keep single files"))]
    pub fn origin(&self, name: &str) -> Origin {
        match self {
            Self::Http(_) => Origin::Network,
            #[cfg(target_arch = "wasm32")]
            Self::Kept(kept) => kept.origin(name),
            _ => Origin::Local,
        }
    }

    /// Begins a file of our own making beside those of a model that is kept, to be found by [`Source::size`] and its like at the
    /// next visit; `None` where nothing is kept. Its name begins with `webweft-`. When one of `made_of` is of another version, it is
    /// gone.
    ///
    /// # Errors
    /// [`SourceError::BadName`]; for `made_of` those of [`Source::size`], and [`SourceError::FileMissing`].
    #[cfg(target_arch = "wasm32")]
    pub async fn keeper(&self, name: &str, made_of: &[String]) -> Result<Option<store::Keeper>, SourceError> {
        check_name(name)?;
        match self {
            Self::Kept(kept) => {
                let keeper = kept.keeper(name, made_of).await;
                kept.forget(name);
                keeper
            }
            _ => Ok(None),
        }
    }
}

/// Cuts `range` out of a file's bytes, with every comparison made before an index.
fn slice<'a>(name: &str, bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8], SourceError> {
    let index = |at: u64| usize::try_from(at).ok();
    index(range.start).zip(index(range.end)).and_then(|(start, end)| bytes.get(start..end)).ok_or_else(|| {
        SourceError::OutOfRange { name: shorten(name), start: range.start, end: range.end, size: bytes.len() as u64 }
    })
}

/// Refuses a range that does not lie within a file of `size` bytes.
fn check_range(name: &str, size: u64, range: &Range<u64>) -> Result<(), SourceError> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(SourceError::OutOfRange { name: shorten(name), start: range.start, end: range.end, size })
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
