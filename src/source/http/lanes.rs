//! A long range as several requests at once, delivered in order.
//!
//! One answer is held back by one connection: its window, its server, its turn among others. So the range is cut into segments, some of
//! which are on their way at a time, each with its own tries. They go on while whoever takes the bytes waits for the GPU.

use super::answer::Version;
use super::transfer::{Link, Transfer};
use crate::error::SourceError;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// Bytes of a segment: a sixteenth of the range, within these bounds. The upper one, times the segments at once, is what is in memory
/// at most; below the lower one a range is one request. Each request costs a browser some 15 ms of its processes' time (Chromium).
const SEGMENTS: u64 = 16;
pub(super) const LEAST: u64 = 4 << 20;
const MOST: u64 = 16 << 20;
/// Handed over at a time.
const PIECE: usize = 1 << 20;

/// A range that several requests read.
#[derive(Debug)]
pub(in crate::source) struct Lanes {
    link: Link,
    version: Version,
    most: usize,
    segment: u64,
    /// What was not taken yet.
    left: Range<u64>,
    /// What no request was made for yet.
    rest: Range<u64>,
    /// In order; the first is being taken.
    lanes: VecDeque<Lane>,
    /// What the first gave last, and how much of it was taken.
    current: Vec<u8>,
    taken: usize,
}

/// Why the lanes do not go on.
pub(in crate::source) enum Stop {
    /// The server gives whole files only, if not always.
    Whole,
    Failed(SourceError),
}

impl Lanes {
    /// `version`: of the file, which is known.
    pub fn new(link: Link, range: Range<u64>, version: Version, most: usize) -> Self {
        let (left, lanes) = (range.clone(), VecDeque::new());
        let segment = ((range.end - range.start) / SEGMENTS).clamp(LEAST, MOST);
        Self { link, version, most, segment, left, rest: range, lanes, current: Vec::new(), taken: 0 }
    }

    /// What is left, as one answer.
    pub fn one(&self) -> Transfer {
        Transfer::new(self.link.clone(), self.left.clone(), self.version.clone())
    }

    /// The address, for messages.
    pub fn shown(&self) -> String {
        self.link.url.shown()
    }

    /// Appends bytes up to the length `target`, which the range must have. What was appended before an error is good.
    pub async fn fill(&mut self, out: &mut Vec<u8>, target: usize) -> Result<(), Stop> {
        while out.len() < target {
            let count = self.ready().await?.min(target - out.len());
            out.extend_from_slice(&self.current[self.taken..self.taken + count]);
            self.taken += count;
            self.left.start += count as u64;
        }
        Ok(())
    }

    /// Waits until a byte is there; how many are.
    async fn ready(&mut self) -> Result<usize, Stop> {
        while self.taken == self.current.len() {
            while self.lanes.len() < self.most && self.rest.start < self.rest.end {
                let stop = self.rest.end.min(self.rest.start + self.segment);
                let range = self.rest.start..stop;
                self.rest.start = stop;
                let length = stop - range.start;
                let transfer = Transfer::new(self.link.clone(), range, self.version.clone());
                self.lanes.push_back(Lane::start(transfer, length, self.link.unreachable("it ends too early")));
            }
            let Some(lane) = self.lanes.front() else {
                return Err(Stop::Failed(self.link.unreachable("it ends too early")));
            };
            match lane.next().await {
                Some(Ok(piece)) => (self.current, self.taken) = (piece, 0),
                Some(Err(stop)) => return Err(stop),
                None => {
                    self.lanes.pop_front();
                }
            }
        }
        Ok(self.current.len() - self.taken)
    }
}

/// One request that goes on by itself, and ends when it is dropped.
struct Lane(Rc<Shared>);

#[derive(Default)]
struct Shared {
    state: RefCell<State>,
    /// `None` when it is over.
    task: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    end: Option<Result<(), SourceError>>,
    waker: Option<Waker>,
}

impl Lane {
    /// `left`: bytes that the transfer must have; `short`: the error where it has less.
    fn start(transfer: Transfer, mut left: u64, short: SourceError) -> Self {
        let shared = Rc::<Shared>::default();
        // Weak: what runs must not keep alive what it writes to.
        let to = Rc::downgrade(&shared);
        let run = async move {
            let mut transfer = transfer.only_ranges();
            let end = loop {
                let mut piece = Vec::new();
                match transfer.read(&mut piece, PIECE).await {
                    Ok(0) if left == 0 => break Ok(()),
                    Ok(0) => break Err(short),
                    Ok(read) => left = left.saturating_sub(read as u64),
                    Err(error) => break Err(error),
                }
                tell(&to, |state| state.pieces.push_back(piece));
            };
            tell(&to, |state| state.end = Some(end));
        };
        *shared.task.borrow_mut() = Some(Box::pin(run));
        let of_task = shared.clone();
        wasm_bindgen_futures::spawn_local(poll_fn(move |context| {
            let mut task = of_task.task.borrow_mut();
            let over = task.as_mut().is_none_or(|run| run.as_mut().poll(context).is_ready());
            if over {
                *task = None;
                return Poll::Ready(());
            }
            Poll::Pending
        }));
        Self(shared)
    }

    /// The next piece; `None` at the end of the segment.
    async fn next(&self) -> Option<Result<Vec<u8>, Stop>> {
        poll_fn(|context| {
            let mut state = self.0.state.borrow_mut();
            if let Some(piece) = state.pieces.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match state.end.take() {
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(SourceError::RangesIgnored { .. })) => Poll::Ready(Some(Err(Stop::Whole))),
                Some(Err(error)) => Poll::Ready(Some(Err(Stop::Failed(error)))),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Changes what the taker looks at, and wakes it.
fn tell(to: &Weak<Shared>, change: impl FnOnce(&mut State)) {
    if let Some(shared) = to.upgrade() {
        let mut state = shared.state.borrow_mut();
        change(&mut state);
        state.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for Lane {
    /// Ends the request: what it waits for is dropped with it.
    fn drop(&mut self) {
        *self.0.task.borrow_mut() = None;
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}
