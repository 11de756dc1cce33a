//! A sequence that goes on from another one.

use super::GenerateOptions;
use super::engine::Engine;
use super::sequence::SequenceId;
use crate::error::{Error, GenerateError};
use crate::managers::blocks;

impl Engine {
    /// What a sequence was asked for, and what it has given out.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] where it has ended: what it left is found by its tokens.
    pub(super) fn so_far(&self, id: SequenceId) -> Result<(&[u32], &[u32]), Error> {
        let Some(sequence) = self.sequences.get(&id) else {
            let (name, expected) = ("sequence", "one that has not ended");
            return Err(GenerateError::Setting { name, got: format!("{id:?}"), expected }.into());
        };
        Ok(sequence.ids[..sequence.prompt + sequence.delivered].split_at(sequence.prompt))
    }

    /// Another sequence that has given out what this one has, and goes on with settings of its own. It shares the blocks of the
    /// cache; each copies the one that both write to.
    ///
    /// # Errors
    /// As [`so_far`](Self::so_far) and [`add`](Self::add).
    pub(super) fn fork(&mut self, id: SequenceId, options: GenerateOptions) -> Result<SequenceId, Error> {
        let (prompt, given) = self.so_far(id)?;
        let (prompt, given) = (prompt.to_vec(), given.to_vec());
        let fork = self.add(&prompt, &given, options)?;
        let from = self.sequences.get(&id).and_then(|sequence| sequence.place.or(sequence.forked));
        if let Some(from) = from {
            let place = self.blocks.fork(from);
            // what follows the last token is asked for
            self.blocks.rollback(place, prompt.len() + given.len() - 1);
            self.sequences.entry(fork).and_modify(|sequence| sequence.forked = Some(place));
        }
        Ok(fork)
    }

    /// Where in the cache a sequence is to begin, and how many of its tokens are there: that of its fork, unless others have left more.
    pub(super) fn begin_at(&mut self, id: SequenceId) -> Option<(blocks::SequenceId, usize)> {
        let findable = self.findable(self.sequences.get(&id)?);
        let sequence = self.sequences.get_mut(&id)?;
        let (place, known) = self.blocks.begin(&sequence.ids[..findable]);
        let Some(forked) = sequence.forked.take() else { return Some((place, known)) };
        let held = self.blocks.tokens(forked).len();
        let (better, other, known) = if held > known { (forked, place, held) } else { (place, forked, known) };
        self.blocks.forget(other);
        Some((better, known))
    }
}
