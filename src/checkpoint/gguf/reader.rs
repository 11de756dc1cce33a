//! Bytes of a header of unknown length, taken from the front.

use crate::error::{CheckpointError, GgufError};
use crate::source::Source;

/// Bytes that are asked for first: enough for a small header; twice as many each further time.
const FIRST: u64 = 256 << 10;
/// The most that is asked for at once.
const MOST: u64 = 4 << 20;
/// No vocabulary in use takes a third of this.
pub(super) const HEADER_CAP: u64 = 64 << 20;

/// The header of one file, as far as it was read.
pub(super) struct Reader<'s> {
    source: &'s Source,
    file: &'s str,
    size: u64,
    window: Vec<u8>,
    /// what of the window was taken
    taken: usize,
    /// bytes of the file before the end of the window
    read: u64,
    next: u64,
}

impl<'s> Reader<'s> {
    pub fn new(source: &'s Source, file: &'s str, size: u64) -> Self {
        Self { source, file, size, window: Vec::new(), taken: 0, read: 0, next: FIRST }
    }

    /// Bytes before what is taken next.
    pub fn position(&self) -> u64 {
        self.read - (self.window.len() - self.taken) as u64
    }

    /// Bytes of the file from there on.
    pub fn rest(&self) -> u64 {
        self.size - self.position()
    }

    pub fn file(&self) -> &str {
        self.file
    }

    pub fn error(&self, error: GgufError) -> CheckpointError {
        CheckpointError::Gguf { file: self.file.to_owned(), error }
    }

    /// The next `count` bytes, of `what`.
    pub async fn bytes(&mut self, count: u64, what: &'static str) -> Result<&[u8], CheckpointError> {
        let at = self.position();
        if count > self.rest() {
            return Err(self.error(GgufError::Ends { what, at, count, size: self.size }));
        }
        if at + count > HEADER_CAP {
            return Err(self.error(GgufError::HeaderTooLong { cap: HEADER_CAP }));
        }
        let count = count as usize;
        if self.window.len() - self.taken < count {
            self.window.drain(..self.taken);
            self.taken = 0;
            let missing = (count - self.window.len()) as u64;
            let end = self.size.min(self.read + missing.max(self.next));
            self.next = (self.next * 2).min(MOST);
            let more = self.source.read(self.file, self.read..end).await?;
            self.window.extend_from_slice(&more);
            self.read = end;
        }
        self.taken += count;
        Ok(&self.window[self.taken - count..self.taken])
    }

    pub async fn u32(&mut self, what: &'static str) -> Result<u32, CheckpointError> {
        let b = self.bytes(4, what).await?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub async fn u64(&mut self, what: &'static str) -> Result<u64, CheckpointError> {
        let b = self.bytes(8, what).await?;
        Ok(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
    }

    /// A length, and so many bytes of text.
    pub async fn text(&mut self, what: &'static str) -> Result<String, CheckpointError> {
        let count = self.u64(what).await?;
        let at = self.position();
        let bytes = self.bytes(count, what).await?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error(GgufError::NotUtf8 { what, at })),
        }
    }

    /// A count of things that take at least `least` bytes each.
    pub async fn count(&mut self, least: u64, what: &'static str) -> Result<u64, CheckpointError> {
        let count = self.u64(what).await?;
        if count > self.rest() / least {
            return Err(self.error(GgufError::Count { what, count, size: self.size }));
        }
        Ok(count)
    }
}
