//! Bytes that do not stay on the GPU: in the host's memory, or in a browser, whose wasm has little of that, in a file of the page's own.

use crate::error::SourceError;

/// So many bytes, to be written and read in pieces. They go with it.
#[derive(Debug)]
pub struct Scratch {
    #[cfg(not(target_arch = "wasm32"))]
    bytes: Vec<u8>,
    #[cfg(target_arch = "wasm32")]
    file: super::store::Temporary,
}

impl Scratch {
    /// Room for `size` bytes.
    ///
    /// # Errors
    /// [`SourceError::NoRoom`] where there is none; in a browser [`SourceError::Storage`] where the page may keep no files.
    #[cfg(not(target_arch = "wasm32"))]
    #[allow(clippy::unused_async, reason = "in a browser it waits")]
    pub async fn new(size: u64) -> Result<Self, SourceError> {
        let mut bytes = Vec::new();
        let no_room = || SourceError::NoRoom { size };
        let count = usize::try_from(size).map_err(|_| no_room())?;
        bytes.try_reserve_exact(count).map_err(|_| no_room())?;
        bytes.resize(count, 0);
        Ok(Self { bytes })
    }

    /// As natively: a file that this page has for itself.
    #[cfg(target_arch = "wasm32")]
    pub async fn new(_size: u64) -> Result<Self, SourceError> {
        Ok(Self { file: super::store::Temporary::new().await? })
    }

    /// Writes `bytes` from `at` on.
    ///
    /// # Errors
    /// In a browser, [`SourceError::Storage`] where the disk is full.
    #[cfg_attr(not(target_arch = "wasm32"), allow(clippy::unnecessary_wraps, reason = "in a browser it may fail"))]
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), SourceError> {
        #[cfg(not(target_arch = "wasm32"))]
        self.bytes[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        #[cfg(target_arch = "wasm32")]
        self.file.write(at, bytes)?;
        Ok(())
    }

    /// The `count` bytes from `at` on; where they do not lie in memory, in `piece`.
    ///
    /// # Errors
    /// In a browser, [`SourceError::Storage`] where the file cannot be read.
    #[cfg_attr(not(target_arch = "wasm32"), allow(clippy::unnecessary_wraps, reason = "in a browser it may fail"))]
    pub fn read<'a>(&'a self, at: u64, count: usize, piece: &'a mut Vec<u8>) -> Result<&'a [u8], SourceError> {
        piece.clear();
        #[cfg(not(target_arch = "wasm32"))]
        return Ok(&self.bytes[at as usize..at as usize + count]);
        #[cfg(target_arch = "wasm32")]
        {
            self.file.read(at, piece, count)?;
            Ok(piece)
        }
    }
}
