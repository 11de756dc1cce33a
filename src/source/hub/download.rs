//! One blob: taken up where it broke off, hashed while it arrives, renamed when it is whole and right.

use super::Hub;
use super::api::{Entry, Hash};
use super::cache::{Cache, refused};
use super::repo::RepoId;
use crate::error::SourceError;
use crate::source::http::answer::Version;
use crate::source::http::transfer::Transfer;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes between two looks at the progress.
const PIECE: usize = 1 << 20;

/// A hash in the making.
enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
    Unknown,
}

impl Hasher {
    fn new(entry: &Entry) -> Self {
        match entry.hash {
            Hash::Sha256 => Self::Sha256(Sha256::new()),
            Hash::GitBlob => Self::GitBlob(Sha1::new_with_prefix(format!("blob {}\0", entry.size))),
            Hash::Unknown => Self::Unknown,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
            Self::Unknown => {}
        }
    }

    /// In hexadecimal digits, if it is a hash.
    fn finish(self) -> Option<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => Some(hex(&hash.finalize())),
            Self::GitBlob(hash) => Some(hex(&hash.finalize())),
            Self::Unknown => None,
        }
    }
}

impl Hub {
    /// Puts a file into the snapshot, downloading its blob if it is not there. `progress` hears how much of it there is.
    pub(super) async fn fetch(
        &self,
        repo: &RepoId,
        cache: &Cache,
        commit: &str,
        entry: &Entry,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SourceError> {
        let (blob, incomplete) = (cache.blob(&entry.etag), cache.incomplete(&entry.etag));
        let arrived = || fs::metadata(&incomplete).map_or(0, |meta| meta.len().min(entry.size));
        let lock = cache.lock(&entry.etag, || progress(arrived()))?;
        if cache.has(commit, &entry.name) {
            progress(entry.size);
            return Ok(());
        }
        let fresh = !blob.is_file();
        if fresh {
            let kept = self.download(repo, commit, entry, &incomplete, progress).await;
            // What an earlier run left may be damaged: begin once more, without it.
            match kept {
                Err((SourceError::Corrupt { .. } | SourceError::RangesIgnored { .. }, true)) => {
                    self.download(repo, commit, entry, &incomplete, progress).await.map_err(|(error, _)| error)?;
                }
                other => other.map_err(|(error, _)| error)?,
            }
            fs::rename(&incomplete, &blob).map_err(|source| refused(&blob, source))?;
        }
        progress(entry.size);
        let linked = cache.link(&entry.etag, commit, &entry.name, fresh);
        drop(lock);
        linked
    }

    /// Fills the file `incomplete` and checks it. An error says whether it began with bytes of an earlier run; where those or
    /// the new ones are wrong, the file is gone.
    async fn download(
        &self,
        repo: &RepoId,
        commit: &str,
        entry: &Entry,
        incomplete: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), (SourceError, bool)> {
        let mut hasher = Hasher::new(entry);
        let (mut file, mut size) = open(incomplete, entry.size, &mut hasher).map_err(|error| (error, false))?;
        let resumed = size > 0;
        let result = async {
            progress(size);
            let link = self.resolve(repo, commit, &entry.name)?;
            let version = Version { size: Some(entry.size), ..Version::default() };
            let mut transfer = Transfer::new(link, size..entry.size, version).unwatched().read_ahead();
            let mut piece = Vec::with_capacity(PIECE);
            while size < entry.size {
                piece.clear();
                if transfer.read(&mut piece, PIECE).await? == 0 {
                    break;
                }
                file.write_all(&piece).map_err(|source| refused(incomplete, source))?;
                hasher.update(&piece);
                size += piece.len() as u64;
                progress(size);
            }
            file.flush().map_err(|source| refused(incomplete, source))
        };
        let result = match result.await {
            Ok(()) if size != entry.size => {
                Err(self.corrupt(repo, entry, format!("it has {size} bytes, not {}", entry.size)))
            }
            Ok(()) => match hasher.finish() {
                Some(hash) if hash != entry.etag => {
                    Err(self.corrupt(repo, entry, format!("its hash is {hash}, not {}", entry.etag)))
                }
                _ => Ok(()),
            },
            // Some other file, perhaps the page of a proxy: nothing of it was written, so what is there may stay.
            Err(SourceError::Changed { url, detail }) => Err(SourceError::HubAnswer { url, detail }),
            Err(error) => Err(error),
        };
        drop(file);
        if let Err(SourceError::Corrupt { .. } | SourceError::RangesIgnored { .. }) = &result {
            fs::remove_file(incomplete).map_err(|source| (refused(incomplete, source), resumed))?;
        }
        result.map_err(|error| (error, resumed))
    }

    fn corrupt(&self, repo: &RepoId, entry: &Entry, detail: String) -> SourceError {
        SourceError::Corrupt { repo: repo.to_string(), file: entry.name.clone(), detail }
    }
}

/// Opens what there is of a file, to be written on at its end, and hashes it; one that is longer than the file can be begins
/// anew.
fn open(path: &Path, most: u64, hasher: &mut Hasher) -> Result<(File, u64), SourceError> {
    let fail = |source| refused(path, source);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
    let mut size = file.metadata().map_err(fail)?.len();
    if size > most {
        file.set_len(0).map_err(fail)?;
        size = 0;
    }
    let mut piece = vec![0; PIECE];
    let mut rest = size;
    while rest > 0 {
        let most = piece.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let piece = &mut piece[..most];
        file.read_exact(piece).map_err(fail)?;
        hasher.update(piece);
        rest -= most as u64;
    }
    file.seek(SeekFrom::Start(size)).map_err(fail)?;
    Ok((file, size))
}
