//! One session, several callers at once: whoever waits for a token runs a step, and all hear what it made.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Session;
use super::turns::{Turn, Turns};
use crate::error::Error;
use crate::generate::{Event, FinishReason, Piece, SequenceId, Timing};
use crate::source::sleep;

/// How long nobody looks whether somebody has joined, where a strategy waits for that.
const SLICE: Duration = Duration::from_millis(10);

/// A [`Session`] that several tasks of one thread generate with at once: what they ask for runs in the same steps.
#[derive(Debug)]
pub struct Shared {
    session: Turns<Session>,
    told: RefCell<BTreeMap<SequenceId, Told>>,
    /// texts that nobody wants any more, which were still there while a step ran
    gone: RefCell<Vec<SequenceId>>,
}

/// What was told of a text.
#[derive(Debug, Default)]
struct Told {
    /// not yet heard
    events: VecDeque<Event>,
    timing: Timing,
}

/// A text of a [`Shared`] session. Dropping it ends it, and leaves the others alone.
#[derive(Debug)]
pub struct SharedText<'s> {
    shared: &'s Shared,
    id: SequenceId,
    end: Option<FinishReason>,
}

impl Shared {
    /// Shares a session.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session: Turns::new(session), told: RefCell::default(), gone: RefCell::default() }
    }

    /// The session, once no step runs.
    pub async fn lock(&self) -> Turn<'_, Session> {
        let mut session = self.session.wait().await;
        self.gone.take().into_iter().for_each(|id| session.remove(id));
        session
    }

    /// The session, if no step runs now.
    pub fn try_lock(&self) -> Option<Turn<'_, Session>> {
        let mut session = self.session.take()?;
        self.gone.take().into_iter().for_each(|id| session.remove(id));
        Some(session)
    }

    /// A text beside others: `add` asks the session for it.
    ///
    /// # Errors
    /// Those of `add`.
    pub async fn text<E>(&self, add: impl FnOnce(&mut Session) -> Result<SequenceId, E>) -> Result<SharedText<'_>, E> {
        let id = add(&mut *self.lock().await)?;
        self.told.borrow_mut().insert(id, Told::default());
        Ok(SharedText { shared: self, id, end: None })
    }

    /// The session, whose texts are all ended.
    #[must_use]
    pub fn into_inner(self) -> Session {
        let mut session = self.session.into_inner();
        let told = self.told.into_inner();
        told.into_keys().chain(self.gone.into_inner()).for_each(|id| session.remove(id));
        session
    }

    fn heard(&self, id: SequenceId) -> Option<Event> {
        self.told.borrow_mut().get_mut(&id)?.events.pop_front()
    }

    fn has_told(&self, id: SequenceId) -> bool {
        self.told.borrow().get(&id).is_some_and(|told| !told.events.is_empty())
    }
}

impl SharedText<'_> {
    /// The next token and its text, or `None` at the end; then [`finish_reason`](Self::finish_reason) says why.
    ///
    /// # Errors
    /// What ended it, or those of the device.
    pub async fn next(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            match self.shared.heard(self.id) {
                Some(Event::Piece(piece)) => return Ok(Some(piece)),
                Some(Event::Finished { reason, .. }) => self.end = Some(reason),
                Some(Event::Failed(error)) => return Err(error),
                None => {}
            }
            if self.end.is_some() {
                return Ok(None);
            }
            let mut session = self.shared.lock().await;
            if let Some(pause) = session.engine().pause() {
                // others may join
                drop(session);
                sleep(pause.min(SLICE)).await;
                continue;
            }
            // another's step may have told it while this one waited
            if !self.shared.has_told(self.id) {
                let events = session.step().await?;
                let mut told = self.shared.told.borrow_mut();
                for (id, event) in events {
                    let Some(told) = told.get_mut(&id) else { continue };
                    told.timing = match &event {
                        Event::Finished { timing, .. } => *timing,
                        _ => session.timing(id),
                    };
                    told.events.push_back(event);
                }
            }
        }
    }

    /// Why it ended; `None` while it has not.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.end
    }

    /// How long it took so far.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.shared.told.borrow().get(&self.id).map(|told| told.timing).unwrap_or_default()
    }
}

impl Drop for SharedText<'_> {
    fn drop(&mut self) {
        self.shared.told.borrow_mut().remove(&self.id);
        if self.end.is_none() {
            match self.shared.session.take() {
                Some(mut session) => session.remove(self.id),
                None => self.shared.gone.borrow_mut().push(self.id),
            }
        }
    }
}
