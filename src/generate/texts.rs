//! Several texts at once, from one engine.

use std::collections::BTreeMap;

use super::text::Text;
use super::{Engine, FinishReason, GenerateOptions, Piece, SequenceId, Timing};
use crate::error::Error;
use crate::preprocess::Tokenizer;

/// What happened to one of several texts.
#[derive(Debug)]
pub enum Event {
    /// A token, and what it adds to the text.
    Piece(Piece),
    /// Nothing more comes.
    Finished {
        /// Why.
        reason: FinishReason,
        /// How long it took.
        timing: Timing,
    },
    /// Nothing more comes, for this reason; the others go on.
    Failed(Error),
}

/// The texts that an engine's sequences become.
#[derive(Debug, Default)]
pub(crate) struct Texts(BTreeMap<SequenceId, Text>);

impl Texts {
    /// As [`Session::add`](crate::session::Session::add).
    pub fn add(
        &mut self,
        engine: &mut Engine,
        tokenizer: Option<&Tokenizer>,
        prompt: &[u32],
        given: &[u32],
        options: GenerateOptions,
    ) -> Result<SequenceId, Error> {
        let mut text = Text::new(tokenizer, prompt, &options)?;
        let id = engine.add(prompt, given, options)?;
        for &token in given {
            text.read(token, false)?;
        }
        self.0.insert(id, text);
        Ok(id)
    }

    /// As [`Session::fork`](crate::session::Session::fork).
    pub fn fork(
        &mut self,
        engine: &mut Engine,
        tokenizer: Option<&Tokenizer>,
        id: SequenceId,
        options: GenerateOptions,
    ) -> Result<SequenceId, Error> {
        let (prompt, given) = engine.so_far(id)?;
        let mut text = Text::new(tokenizer, prompt, &options)?;
        for &token in given {
            text.read(token, false)?;
        }
        let fork = engine.fork(id, options)?;
        self.0.insert(fork, text);
        Ok(fork)
    }

    /// As [`Session::step`](crate::session::Session::step).
    pub async fn step(&mut self, engine: &mut Engine) -> Result<Vec<(SequenceId, Event)>, Error> {
        loop {
            let mut events = Vec::new();
            let ids: Vec<_> = self.0.keys().copied().collect();
            for id in ids {
                self.events(engine, id, &mut events);
            }
            if !events.is_empty() || self.0.is_empty() {
                return Ok(events);
            }
            engine.turn().await?;
        }
    }

    /// What has become of one of them since it was asked last.
    fn events(&mut self, engine: &mut Engine, id: SequenceId, events: &mut Vec<(SequenceId, Event)>) {
        let Some(text) = self.0.get_mut(&id) else { return };
        while let Some(token) = engine.take(id) {
            let (added, stopped) = match text.read(token, engine.finish_reason(id).is_some()) {
                Ok(read) => read,
                Err(error) => {
                    events.push((id, Event::Failed(error)));
                    return self.remove(engine, id);
                }
            };
            if stopped {
                engine.stop(id);
            }
            let logprobs = engine.logprobs(id).cloned();
            events.push((id, Event::Piece(Piece { id: token, text: added, logprobs })));
        }
        let end = match (engine.check(id), engine.finish_reason(id)) {
            (Err(error), _) => Event::Failed(error),
            (Ok(()), Some(reason)) => Event::Finished { reason, timing: engine.timing(id) },
            (Ok(()), None) => return,
        };
        events.push((id, end));
        self.remove(engine, id);
    }

    /// As [`Session::remove`](crate::session::Session::remove).
    pub fn remove(&mut self, engine: &mut Engine, id: SequenceId) {
        self.0.remove(&id);
        engine.remove(id);
    }
}
