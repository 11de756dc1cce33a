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
    /// The answer that is being read, of a source that has such.
    open: Option<Open>,
    /// The piece that was given last, where it is no part of something in memory.
    piece: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    facts: Arc<http::Facts>,
    /// `None` after a jump that is better made by asking anew.
    transfer: Option<Transfer>,
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
        if let Source::Http(http) = self.source {
            match self.receive(http, rest, stop).await {
                Ok(()) => {
                    self.rest = next;
                    Some(Ok(&self.piece))
                }
                Err(error) => Some(Err(error)),
            }
        } else {
            match self.cut(rest.start..stop) {
                Ok(piece) => {
                    self.rest = next;
                    Some(Ok(piece))
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
        if let Some(open) = &mut self.open {
            if open.facts.skips(bytes)
                && let Some(transfer) = &mut open.transfer
            {
                transfer.discard(bytes).await?;
            } else {
                open.transfer = None;
            }
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
    async fn receive(&mut self, http: &http::Http, rest: Range<u64>, stop: u64) -> Result<(), SourceError> {
        let open = match &mut self.open {
            Some(open) => open,
            closed => {
                check_name(&self.name)?;
                let facts = http.facts(&self.name).await?.ok_or_else(|| http.missing(&self.name))?;
                facts.check(&self.name, &(rest.start..stop))?;
                closed.insert(Open { facts, transfer: None })
            }
        };
        // A range that goes beyond the file is told when that place is reached, as for other sources.
        let end = rest.end.min(open.facts.size);
        open.facts.check(&self.name, &(rest.start..stop))?;
        let transfer = match &mut open.transfer {
            Some(transfer) => transfer,
            none => none.insert(http.transfer(&self.name, rest.start..end, &open.facts).read_ahead()),
        };
        self.piece.clear();
        transfer.fill(&mut self.piece, usize::try_from(stop - rest.start).unwrap_or(usize::MAX)).await
    }
}
