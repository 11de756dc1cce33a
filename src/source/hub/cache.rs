//! The cache folder, laid out as `huggingface_hub` lays it out, and shared with it:
//!
//! ```text
//! .locks/models--org--name/<etag>.lock      held while a blob is written
//! models--org--name/
//!     refs/<revision>                       the commit that a branch or tag led to
//!     blobs/<etag>                          content, by its hash
//!     blobs/<etag>.incomplete               what of it has arrived
//!     snapshots/<commit>/<file>             -> ../../blobs/<etag>
//!     .no_exist/<commit>/<file>             empty: this commit has no such file
//! ```
//!
//! Later versions also put a `CACHEDIR.TAG` there, of which earlier ones complain; it is left to them.

use super::choose::{CONFIG, INDEX, OPTIONAL, SINGLE, shards};
use super::repo::{RepoId, is_commit};
use crate::error::SourceError;
use crate::source::gguf;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often a lock that another process holds is asked for again.
const POLL: Duration = Duration::from_millis(100);
/// Larger than any index.
const MAX_INDEX: u64 = 64 << 20;
/// Counts what this process writes by a name of its own.
static WRITES: AtomicU32 = AtomicU32::new(0);

/// The part of the cache that belongs to one repository.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    folder: PathBuf,
    locks: PathBuf,
    symlinks: bool,
}

/// Held until it is dropped. `None` where the system has no locks: then nothing but luck keeps two processes apart, and the
/// hash tells where luck ended.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "closing it gives the lock back")] Option<File>);

impl Cache {
    pub fn new(root: &Path, repo: &RepoId, symlinks: bool) -> Self {
        let name = repo.folder();
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { folder: root.join(&name), locks: root.join(".locks").join(name), root, symlinks }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The commit that a revision led to last; the revision has been checked.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers where a revision led to. By another name first: whoever reads it meanwhile must not find half of it.
    pub fn remember(&self, revision: &str, commit: &str) -> io::Result<()> {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        let unique = WRITES.fetch_add(1, Ordering::Relaxed);
        let fresh = self.folder.join(format!(".ref-{}-{unique}", std::process::id()));
        fs::write(&fresh, commit)?;
        fs::rename(&fresh, path)
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    pub fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Whether the snapshot has the file, following its link.
    pub fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Whether a model could be opened from the snapshot; `meant`: a GGUF file.
    pub fn is_usable(&self, commit: &str, meant: Option<&str>) -> bool {
        let safetensors = || {
            self.has(commit, CONFIG)
                && (self.has(commit, SINGLE)
                    || self.index(commit).is_ok_and(|shards| shards.iter().all(|shard| self.has(commit, shard))))
        };
        meant.is_none() && safetensors() || self.has_gguf(commit, meant)
    }

    /// Whether the snapshot has a GGUF file that could be meant, and what belongs to it.
    fn has_gguf(&self, commit: &str, meant: Option<&str>) -> bool {
        let Ok(entries) = fs::read_dir(self.snapshot(commit)) else { return false };
        let names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        let chosen = gguf::choose(names.iter().map(String::as_str), meant);
        chosen.ok().flatten().is_some_and(|file| gguf::parts(file).iter().all(|part| self.has(commit, part)))
    }

    /// Whether the snapshot has everything that would be fetched, so that nobody need be asked. Which of its GGUF files is meant where
    /// none is named, the Hub's own list tells.
    pub fn is_complete(&self, commit: &str, meant: Option<&str>) -> bool {
        if meant.is_none() && self.has_gguf(commit, None) {
            return false;
        }
        let absent = |file: &str| self.folder.join(".no_exist").join(commit).join(file).exists();
        self.is_usable(commit, meant) && OPTIONAL.iter().all(|file| self.has(commit, file) || absent(file))
    }

    /// The shards that the snapshot's index names, or why it names none.
    fn index(&self, commit: &str) -> Result<Vec<String>, String> {
        let path = self.snapshot(commit).join(INDEX);
        let size = fs::metadata(&path).map_err(|error| error.to_string())?.len();
        if size > MAX_INDEX {
            return Err(format!("it has {size} bytes"));
        }
        shards(&fs::read(path).map_err(|error| error.to_string())?)
    }

    /// The shards of a snapshot that has its index.
    pub fn shards(&self, repo: &RepoId, commit: &str) -> Result<Vec<String>, SourceError> {
        let corrupt = |detail| SourceError::Corrupt { repo: repo.to_string(), file: INDEX.to_owned(), detail };
        self.index(commit).map_err(corrupt)
    }

    /// Notes that the commit has no such file. That it could not be noted costs a request the next time, and no more.
    pub fn note_absent(&self, commit: &str, file: &str) {
        let folder = self.folder.join(".no_exist").join(commit);
        if let Err(error) = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(file))) {
            tracing::debug!(%error, file, "cannot note that it is absent");
        }
    }

    /// Makes the folders that blobs and the snapshot lie in.
    pub fn prepare(&self, commit: &str) -> Result<(), SourceError> {
        for folder in [self.folder.join("blobs"), self.snapshot(commit), self.locks.clone()] {
            fs::create_dir_all(&folder).map_err(|source| refused(&folder, source))?;
        }
        Ok(())
    }

    /// Waits until nobody else writes the blob; `waiting` hears of it while that lasts. The same lock files and calls as those of
    /// `huggingface_hub` (`flock`, `LockFileEx`).
    pub fn lock(&self, etag: &str, mut waiting: impl FnMut()) -> Result<Lock, SourceError> {
        let path = self.locks.join(format!("{etag}.lock"));
        let mut told = false;
        loop {
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|source| refused(&path, source))?;
            match file.try_lock() {
                Ok(()) if is_still(&file, &path) => return Ok(Lock(Some(file))),
                // someone removed the lock with its holder: another one stands in its place, or will
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        tracing::info!(etag, "another process downloads this file; waiting for it");
                        told = true;
                    }
                    waiting();
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(%error, "this file system has no locks");
                    return Ok(Lock(None));
                }
            }
        }
    }

    /// Puts a blob into the snapshot under its name: a relative link, or, where links are refused, the file itself (`fresh`: it
    /// was downloaded just now, and nothing else can refer to it) or a copy.
    pub fn link(&self, etag: &str, commit: &str, file: &str, fresh: bool) -> Result<(), SourceError> {
        let path = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        if path.is_file() {
            return Ok(());
        }
        // a link that leads nowhere
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).map_err(|source| refused(&path, source))?;
        }
        if self.symlinks {
            match symlink(&format!("{up}blobs/{etag}"), &path) {
                Ok(()) => return Ok(()),
                // another process was quicker
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_file() => return Ok(()),
                Err(error) => tracing::debug!(%error, "no links here: the file is moved or copied"),
            }
        }
        let blob = self.blob(etag);
        let made = if fresh { fs::rename(&blob, &path) } else { fs::copy(&blob, &path).map(|_| ()) };
        made.map_err(|source| refused(&path, source))
    }
}

/// The operating system refused to write.
pub(super) fn refused(path: &Path, source: io::Error) -> SourceError {
    SourceError::CacheWrite { path: path.display().to_string(), source }
}

#[cfg(unix)]
fn symlink(to: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, path)
}

#[cfg(windows)]
fn symlink(to: &str, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(to.replace('/', "\\"), path)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the path still leads to the file that was locked.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(id).ok() == fs::metadata(path).map(id).ok()
}

/// An open file cannot be removed here.
#[cfg(not(unix))]
fn is_still(_: &File, _: &Path) -> bool {
    true
}
