//! A range of one file, in order, in pieces.

use super::http::transfer::Transfer;
use super::{Source, check_name, http, slice};
use crate::error::SourceError;
use std::ops::Range;
use std::sync::Arc;

/// A range of one file in pieces; see [`Source::stream`].
#[derive(Debug)]
pub struct Stream<'a> {
    source: &'a Source,
    name: String,
    /// What is still to come; `None` at the end and after an error.
    rest: Option<Range<u64>>,
    /// What is being read, of a source whose bytes are not in memory.
    open: Option<Input<'a>>,
    /// The piece that was given last, where it is no part of something in memory.
    piece: Vec<u8>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(source: &'a Source, name: &str, range: Range<u64>) -> Self {
        Self { source, name: name.to_owned(), rest: Some(range), open: None, piece: Vec::new() }
    }

    /// The next `most` bytes (0 counts as 1), less only at the end of the range; `None` at the end, and after an error. An
    /// empty range of a file gives no piece.
    pub async fn next(&mut self, most: usize) -> Option<Result<&[u8], SourceError>> {
        let rest = self.rest.take()?;
        if rest.start == rest.end {
            return None;
        }
        // A reversed range goes on as it is: it is refused by its name.
        let stop = rest.start.saturating_add((most as u64).max(1)).min(rest.end);
        let next = (stop < rest.end).then_some(stop..rest.end);
        if self.source.is_local() {
            match self.cut(rest.start..stop) {
                Ok(piece) => {
                    self.rest = next;
                    Some(Ok(piece))
                }
                Err(error) => Some(Err(error)),
            }
        } else {
            match self.receive(rest, stop).await {
                Ok(()) => {
                    self.rest = next;
                    Some(Ok(&self.piece))
                }
                Err(error) => Some(Err(error)),
            }
        }
    }

    /// Leaves out the next `bytes`, or what is left of the range.
    ///
    /// # Errors
    /// As [`Source::read`]; nothing comes after one.
    pub async fn skip(&mut self, bytes: u64) -> Result<(), SourceError> {
        let Some(rest) = self.rest.take() else { return Ok(()) };
        let stop = rest.start.saturating_add(bytes).min(rest.end);
        if let Some(input) = &mut self.open {
            input.skip(bytes).await?;
        }
        self.rest = (stop < rest.end).then_some(stop..rest.end);
        Ok(())
    }

    fn cut(&self, range: Range<u64>) -> Result<&'a [u8], SourceError> {
        check_name(&self.name)?;
        let bytes = self.source.local(&self.name)?.ok_or_else(|| self.source.missing(&self.name))?;
        slice(&self.name, bytes, &range)
    }

    /// Puts the bytes from `rest.start` to `stop` into `piece`. The answer is asked for as far as `rest` goes.
    async fn receive(&mut self, rest: Range<u64>, stop: u64) -> Result<(), SourceError> {
        let input = match &mut self.open {
            Some(input) => input,
            closed => {
                check_name(&self.name)?;
                closed.insert(Input::open(self.source, &self.name, &rest).await?)
            }
        };
        input.check(&self.name, &(rest.start..stop))?;
        self.piece.clear();
        let count = usize::try_from(stop - rest.start).unwrap_or(usize::MAX);
        input.fill(&mut self.piece, count, &rest).await
    }
}

/// Bytes that come as they are asked for.
#[derive(Debug)]
enum Input<'a> {
    Http {
        http: &'a http::Http,
        name: String,
        facts: Arc<http::Facts>,
        /// `None` before the first byte, and after a jump that is better made by asking anew.
        transfer: Option<Transfer>,
    },
    #[cfg(target_arch = "wasm32")]
    Blob(u64, super::blobs::BlobReader),
}

impl<'a> Input<'a> {
    /// Bytes of the file, which has a good name, from the start of `rest` on.
    async fn open(source: &'a Source, name: &str, rest: &Range<u64>) -> Result<Self, SourceError> {
        match source {
            Source::Http(http) => {
                let facts = http.facts(name).await?.ok_or_else(|| http.missing(name))?;
                Ok(Self::Http { http, name: name.to_owned(), facts, transfer: None })
            }
            #[cfg(target_arch = "wasm32")]
            Source::Blobs(blobs) => {
                let blob = blobs.get(name).ok_or_else(|| source.missing(name))?;
                let size = super::blobs::size(blob);
                let range = rest.start.min(size)..rest.end.min(size);
                Ok(Self::Blob(size, super::blobs::BlobReader::new(name, blob.clone(), range)))
            }
            _ => Err(source.missing(name)),
        }
    }

    /// Refuses what does not lie within the file: told when that place is reached, as for other sources.
    fn check(&self, name: &str, range: &Range<u64>) -> Result<(), SourceError> {
        match self {
            Self::Http { facts, .. } => facts.check(name, range),
            #[cfg(target_arch = "wasm32")]
            Self::Blob(size, _) => super::check_range(name, *size, range),
        }
    }

    /// Appends the next `count` bytes, which lie within the file. `rest`: what is wanted from here on.
    async fn fill(&mut self, out: &mut Vec<u8>, count: usize, rest: &Range<u64>) -> Result<(), SourceError> {
        match self {
            Self::Http { http, name, facts, transfer } => {
                let transfer = match transfer {
                    Some(transfer) => transfer,
                    none => {
                        let range = rest.start..rest.end.min(facts.size);
                        none.insert(http.transfer(name, range, facts).read_ahead())
                    }
                };
                transfer.fill(out, count).await
            }
            #[cfg(target_arch = "wasm32")]
            Self::Blob(_, reader) => reader.fill(out, count).await,
        }
    }

    /// Goes on `bytes` further.
    async fn skip(&mut self, bytes: u64) -> Result<(), SourceError> {
        match self {
            Self::Http { facts, transfer, .. } => {
                if let Some(open) = transfer
                    && facts.skips(bytes)
                {
                    open.discard(bytes).await?;
                } else {
                    *transfer = None;
                }
            }
            #[cfg(target_arch = "wasm32")]
            Self::Blob(_, reader) => reader.skip(bytes),
        }
        Ok(())
    }
}
