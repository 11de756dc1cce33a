//! A folder on disk. Files are mapped on first use and stay mapped as long as the folder is held.

use crate::error::SourceError;
use memmap2::Mmap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder on disk, its files mapped into memory when first read.
///
/// Files must not be changed or cut while the folder is held: reading a mapped page that no longer exists ends the
/// process, on every system. Downloads that write to another name and rename keep that promise.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The GGUF file that is meant: that which the path led to, say.
    pub(super) meant: Option<String>,
    /// Grows only at its end, so a mapped file can be borrowed for as long as the folder without a lock held.
    /// A search from the front is no cost: a checkpoint has a few files to a few hundred.
    files: OnceLock<Box<Node>>,
}

#[derive(Debug)]
struct Node {
    name: String,
    file: Mapped,
    next: OnceLock<Box<Node>>,
}

#[derive(Debug)]
enum Mapped {
    /// An empty file: some systems refuse to map one.
    Empty,
    Bytes(Mmap),
}

impl Mapped {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Bytes(map) => map,
        }
    }
}

impl Folder {
    /// Opens the folder at `path`, following symbolic links (the Hugging Face cache is made of them); of a GGUF file, its folder.
    ///
    /// # Errors
    /// [`SourceError::FolderMissing`], [`SourceError::NotAFolder`] or [`SourceError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let path = path.into();
        let shown = || path.display().to_string();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) if path.extension().is_some_and(|extension| extension == "gguf") => {
                let meant = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let path = folder.unwrap_or(Path::new(".")).to_owned();
                return Ok(Self { path, meant, files: OnceLock::new() });
            }
            Ok(_) => return Err(SourceError::NotAFolder { path: shown() }),
            Err(error) if is_absence(&error) => return Err(SourceError::FolderMissing { path: shown() }),
            Err(source) => return Err(SourceError::Io { name: shown(), source }),
        }
        Ok(Self { path, meant: None, files: OnceLock::new() })
    }

    /// The same, of which this GGUF file is meant.
    pub(super) fn with_meant(mut self, meant: Option<String>) -> Self {
        self.meant = meant;
        self
    }

    /// Names of its files and folders, as far as they are UTF-8.
    pub(super) fn names(&self) -> Result<Vec<String>, SourceError> {
        let io = |source| SourceError::Io { name: self.path.display().to_string(), source };
        let names = fs::read_dir(&self.path).map_err(io)?.map(|entry| Ok(entry.map_err(io)?.file_name().into_string()));
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    /// The folder's path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file, `None` where it is absent or is no file. The name has been checked.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        if let Some(node) = self.mapped(name) {
            return Ok(Some(node.file.bytes().len() as u64));
        }
        match fs::metadata(self.path.join(name)) {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(error) if is_absence(&error) => Ok(None),
            Err(source) => Err(self.io(name, source)),
        }
    }

    /// The file's bytes, mapped now if they were not, `None` where it is absent. The name has been checked.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<&[u8]>, SourceError> {
        if let Some(node) = self.mapped(name) {
            return Ok(Some(node.file.bytes()));
        }
        // Also asks whether this is a file at all: opening a pipe would wait for its writer.
        let Some(size) = self.size(name)? else {
            return Ok(None);
        };
        let file = if size == 0 {
            Mapped::Empty
        } else {
            let file = File::open(self.path.join(name)).map_err(|source| self.io(name, source))?;
            #[allow(unsafe_code, reason = "there is no safe way to map a file")]
            // SAFETY: the mapping is only read, and lives as long as `self`. That nobody cuts the file meanwhile is the
            // promise that the type asks of its user; no check here could replace it.
            let map = unsafe { Mmap::map(&file) }.map_err(|source| self.io(name, source))?;
            Mapped::Bytes(map)
        };
        self.keep(name, file);
        Ok(self.mapped(name).map(|node| node.file.bytes()))
    }

    fn io(&self, name: &str, source: io::Error) -> SourceError {
        SourceError::Io { name: self.path.join(name).display().to_string(), source }
    }

    fn mapped(&self, name: &str) -> Option<&Node> {
        let mut next = self.files.get();
        while let Some(node) = next {
            if node.name == name {
                return Some(node);
            }
            next = node.next.get();
        }
        None
    }

    /// Hangs the file at the end of the chain. Where two threads mapped the same file, both mappings are kept and the
    /// first is found from then on.
    fn keep(&self, name: &str, file: Mapped) {
        let mut fresh = Box::new(Node { name: name.to_owned(), file, next: OnceLock::new() });
        let mut slot = &self.files;
        loop {
            while let Some(node) = slot.get() {
                slot = &node.next;
            }
            match slot.set(fresh) {
                Ok(()) => return,
                // Another thread was quicker: go on behind what it hung there.
                Err(back) => fresh = back,
            }
        }
    }
}

impl Drop for Folder {
    /// Takes the chain apart in a loop: dropped as it hangs, each file would take a stack frame.
    fn drop(&mut self) {
        let mut next = self.files.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

/// Absent: nothing by that name, or a part of the path is a file.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
