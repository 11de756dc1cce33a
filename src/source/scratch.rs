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
    /// Room for nothing yet.
    ///
    /// # Errors
    /// In a browser [`SourceError::Storage`] where the page may keep no files.
    #[allow(clippy::unused_async, reason = "in a browser it waits")]
    pub async fn new() -> Result<Self, SourceError> {
        Ok(Self {
            #[cfg(not(target_arch = "wasm32"))]
            bytes: Vec::new(),
            #[cfg(target_arch = "wasm32")]
            file: super::store::Temporary::new().await?,
        })
    }

    /// Room for `size` bytes in all; those that were there stay.
    ///
    /// # Errors
    /// [`SourceError::NoRoom`] where there is none. A file grows as it is written.
    #[cfg_attr(
        target_arch = "wasm32",
        allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "natively it may fail")
    )]
    pub fn grow(&mut self, size: u64) -> Result<(), SourceError> {
        #[cfg(not(target_arch = "wasm32"))]
        {
            let no_room = || SourceError::NoRoom { size };
            let size = usize::try_from(size).map_err(|_| no_room())?;
            self.bytes.try_reserve_exact(size.saturating_sub(self.bytes.len())).map_err(|_| no_room())?;
            self.bytes.resize(size, 0);
        }
        #[cfg(target_arch = "wasm32")]
        let _ = size;
        Ok(())
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
