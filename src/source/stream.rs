//! A range of one file, in order, in pieces.

use super::digest::Check;
use super::http::body::Body;
use super::{Source, check_name, http, slice};
use crate::error::SourceError;
use std::ops::Range;
use std::sync::Arc;

/// Bytes at a time of what is read without being wanted.
const AWAY: usize = 1 << 20;

/// A range of one file in pieces; see [`Source::stream`].
#[derive(Debug)]
pub struct Stream<'a> {
    source: &'a Source,
    name: String,
    /// What is still to come; `None` at the end and after an error.
    rest: Option<Range<u64>>,
    /// What is being read, of a source whose bytes are not in memory.
    open: Option<Open<'a>>,
    /// The piece that was given last, where it is no part of something in memory.
    piece: Vec<u8>,
    /// Whether there was an error.
    failed: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(source: &'a Source, name: &str, range: Range<u64>) -> Self {
        let name = name.to_owned();
        Self { source, name, rest: Some(range), open: None, piece: Vec::new(), failed: false }
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
                Err(error) => {
                    self.failed = true;
                    #[cfg(target_arch = "wasm32")]
                    if let (Source::Kept(kept), Some(Open { input: Input::Blob { .. }, .. })) =
                        (self.source, &self.open)
                    {
                        kept.lost(&self.name);
                    }
                    Some(Err(error))
                }
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
            self.failed = true;
            open.skip(stop - rest.start).await?;
            self.failed = false;
        }
        self.rest = (stop < rest.end).then_some(stop..rest.end);
        Ok(())
    }

    /// Ends the stream. Where a digest of the file is known, what is left of the file is read, too, and the whole of it judged:
    /// nothing that was read may be used before that.
    ///
    /// # Errors
    /// [`SourceError::Corrupt`] where the file is not what was announced; those of reading; [`SourceError::Unreachable`] after an
    /// error, since then nothing is known of the file.
    pub async fn finish(mut self) -> Result<(), SourceError> {
        if self.failed {
            let (url, detail) = (self.source.describe(), format!("`{}` was not read to its end", self.name));
            return Err(SourceError::Unreachable { url, detail });
        }
        if self.source.is_local() {
            return Ok(());
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                check_name(&self.name)?;
                Open::new(self.source, &self.name).await?
            }
        };
        open.finish(self.source, &self.name).await
    }

    fn cut(&self, range: Range<u64>) -> Result<&'a [u8], SourceError> {
        check_name(&self.name)?;
        let bytes = self.source.local(&self.name)?.ok_or_else(|| self.source.missing(&self.name))?;
        slice(&self.name, bytes, &range)
    }

    /// Puts the bytes from `rest.start` to `stop` into `piece`. The answer is asked for as far as `rest` goes.
    async fn receive(&mut self, rest: Range<u64>, stop: u64) -> Result<(), SourceError> {
        let open = match &mut self.open {
            Some(open) => open,
            closed => {
                check_name(&self.name)?;
                closed.insert(Open::new(self.source, &self.name).await?)
            }
        };
        super::check_range(&self.name, open.input.size(), &(rest.start..stop))?;
        self.piece.clear();
        let count = usize::try_from(stop - rest.start).unwrap_or(usize::MAX);
        open.fill(&mut self.piece, count, rest).await
    }
}

/// A file that is being read.
#[derive(Debug)]
struct Open<'a> {
    input: Input<'a>,
    /// Of a file that is read as a whole, because all of it is hashed or kept.
    whole: Option<Whole>,
}

/// What becomes of every byte of a file.
#[derive(Debug)]
struct Whole {
    /// Bytes that have passed.
    at: u64,
    check: Option<Check>,
    /// Of a file that is kept for the next visit.
    #[cfg(target_arch = "wasm32")]
    keeping: Option<super::store::Keeping>,
}

impl<'a> Open<'a> {
    async fn new(source: &'a Source, name: &str) -> Result<Self, SourceError> {
        let input = Input::open(source, name).await?;
        let whole = match &input {
            Input::Http { http, facts, .. } => Whole {
                at: 0,
                check: http.checking(name, facts),
                #[cfg(target_arch = "wasm32")]
                keeping: match source {
                    Source::Kept(kept) => kept.keeping(name, facts, true).await,
                    _ => None,
                },
            },
            #[cfg(target_arch = "wasm32")]
            Input::Blob { .. } => return Ok(Self { input, whole: None }),
        };
        let whole = if whole.is_needed() { Some(whole) } else { None };
        Ok(Self { input, whole })
    }

    /// Appends the next `count` bytes, which lie within the file. `rest`: what is wanted from here on.
    async fn fill(&mut self, out: &mut Vec<u8>, count: usize, rest: Range<u64>) -> Result<(), SourceError> {
        match &self.whole {
            Some(whole) => {
                self.pass(rest.start - whole.at).await?;
                self.read(out, count).await
            }
            None => self.input.fill(out, count, &rest).await,
        }
    }

    /// Appends the next `count` bytes of a file that is read as a whole.
    async fn read(&mut self, out: &mut Vec<u8>, count: usize) -> Result<(), SourceError> {
        let Some(whole) = &mut self.whole else { return Ok(()) };
        let before = out.len();
        let there = whole.read_kept(out, count);
        if there < count {
            let at = whole.at + there as u64;
            self.input.fill(out, count - there, &(at..self.input.size())).await?;
            whole.keep(at, &out[before + there..]);
        }
        whole.take(&out[before..]);
        Ok(())
    }

    /// Goes on `bytes` further.
    async fn skip(&mut self, bytes: u64) -> Result<(), SourceError> {
        match &self.whole {
            // read away when the next bytes are wanted
            Some(_) => Ok(()),
            None => self.input.skip(bytes).await,
        }
    }

    /// Reads away what nobody wants of a file that is read as a whole.
    async fn pass(&mut self, bytes: u64) -> Result<(), SourceError> {
        let mut away = Vec::new();
        let mut left = bytes;
        while left > 0 {
            away.clear();
            let count = AWAY.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read(&mut away, count).await?;
            left -= count as u64;
        }
        Ok(())
    }

    async fn finish(mut self, source: &Source, name: &str) -> Result<(), SourceError> {
        let Some(whole) = &self.whole else { return Ok(()) };
        self.pass(self.input.size() - whole.at).await?;
        match self.whole {
            Some(whole) => whole.finish(source, name).await,
            None => Ok(()),
        }
    }
}

impl Whole {
    /// Whether anything becomes of it.
    fn is_needed(&self) -> bool {
        #[cfg(target_arch = "wasm32")]
        if self.keeping.is_some() {
            return true;
        }
        self.check.is_some()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        if let Some(check) = &mut self.check {
            check.update(bytes);
        }
    }

    /// Appends up to `count` of the bytes that an earlier visit left; how many.
    #[cfg(target_arch = "wasm32")]
    fn read_kept(&mut self, out: &mut Vec<u8>, count: usize) -> usize {
        let Some(keeping) = &mut self.keeping else { return 0 };
        let there = keeping.prefix().saturating_sub(self.at).min(count as u64) as usize;
        if there > 0 && keeping.read(self.at, out, there) { there } else { 0 }
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[allow(clippy::unused_self, reason = "as in browsers")]
    fn read_kept(&mut self, _out: &mut Vec<u8>, _count: usize) -> usize {
        0
    }

    /// Keeps bytes that came from the network.
    #[cfg_attr(not(target_arch = "wasm32"), allow(unused_variables, clippy::unused_self, reason = "nothing is kept"))]
    fn keep(&mut self, at: u64, bytes: &[u8]) {
        #[cfg(target_arch = "wasm32")]
        if let Some(keeping) = &mut self.keeping {
            keeping.write(at, bytes);
        }
    }

    /// All has passed.
    async fn finish(self, source: &Source, name: &str) -> Result<(), SourceError> {
        let verdict = match (self.check, source) {
            (Some(check), Source::Http(http)) => http.judge(name, check),
            #[cfg(target_arch = "wasm32")]
            (Some(check), Source::Kept(kept)) => kept.http().judge(name, check),
            _ => Ok(()),
        };
        #[cfg(target_arch = "wasm32")]
        if let (Some(keeping), Source::Kept(kept)) = (self.keeping, source) {
            if verdict.is_err() {
                keeping.discard().await;
            } else if keeping.finish().await {
                kept.forget(name);
            }
        }
        verdict
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
        body: Option<Box<Body>>,
    },
    #[cfg(target_arch = "wasm32")]
    Blob {
        name: String,
        blob: web_sys::Blob,
        /// `None` before the first byte.
        reader: Option<super::blobs::BlobReader>,
    },
}

impl<'a> Input<'a> {
    /// The file, which has a good name. Nothing of it is read yet.
    async fn open(source: &'a Source, name: &str) -> Result<Self, SourceError> {
        match source {
            Source::Http(http) => {
                let facts = http.facts(name).await?.ok_or_else(|| http.missing(name))?;
                Ok(Self::Http { http, name: name.to_owned(), facts, body: None })
            }
            #[cfg(target_arch = "wasm32")]
            Source::Blobs(blobs) => {
                let blob = blobs.get(name).ok_or_else(|| source.missing(name))?.clone();
                Ok(Self::Blob { name: name.to_owned(), blob, reader: None })
            }
            #[cfg(target_arch = "wasm32")]
            Source::Kept(kept) => {
                use super::store::Found;
                let name = name.to_owned();
                match kept.find(&name).await? {
                    Found::Absent => Err(source.missing(&name)),
                    Found::Kept(blob) => Ok(Self::Blob { name, blob, reader: None }),
                    Found::Network(facts) => Ok(Self::Http { http: kept.http(), name, facts, body: None }),
                }
            }
            _ => Err(source.missing(name)),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Http { facts, .. } => facts.size,
            #[cfg(target_arch = "wasm32")]
            Self::Blob { blob, .. } => super::blobs::size(blob),
        }
    }

    /// Appends the next `count` bytes, which lie within the file. `rest`: what is wanted from here on.
    async fn fill(&mut self, out: &mut Vec<u8>, count: usize, rest: &Range<u64>) -> Result<(), SourceError> {
        let rest = rest.start..rest.end.min(self.size());
        match self {
            Self::Http { http, name, facts, body } => {
                let new = || Box::new(http.body(name, rest, facts));
                body.get_or_insert_with(new).fill(out, count).await
            }
            #[cfg(target_arch = "wasm32")]
            Self::Blob { name, blob, reader } => {
                let new = || super::blobs::BlobReader::new(name, blob.clone(), rest);
                reader.get_or_insert_with(new).fill(out, count).await
            }
        }
    }

    /// Goes on `bytes` further.
    async fn skip(&mut self, bytes: u64) -> Result<(), SourceError> {
        match self {
            Self::Http { facts, body, .. } => {
                if let Some(open) = body
                    && facts.skips(bytes)
                {
                    open.discard(bytes).await?;
                } else {
                    *body = None;
                }
            }
            #[cfg(target_arch = "wasm32")]
            Self::Blob { reader, .. } => {
                if let Some(reader) = reader {
                    reader.skip(bytes);
                }
            }
        }
        Ok(())
    }
}
