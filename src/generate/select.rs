//! What is kept of a long prompt (SnapKV: Li et al. 2024): chosen in the step that computes its end, then gathered into blocks of its own.

use super::engine::Engine;
use super::programs::Phase;
use super::sequence::{Sequence, SequenceId};
use crate::error::Error;
use crate::managers::blocks::{self, Shortage};
use crate::models::Workspace;
use crate::nn::Selection;
use crate::ops::OBSERVED;

/// What is to be gathered once a prompt's last step is submitted.
#[derive(Debug)]
pub(super) struct Gathering {
    to: blocks::SequenceId,
    /// of the prompt
    tokens: u32,
    /// the prompt's page tables
    prompt: Vec<Vec<u32>>,
    turns: Vec<Gathered>,
}

/// Positions that one program takes: number of the first one, how many, and the page tables that say where they go.
#[derive(Debug)]
struct Gathered {
    first: usize,
    rows: usize,
    tables: Vec<Vec<u32>>,
}

impl Gathering {
    /// Where the selection is put.
    pub(super) fn place(&self) -> blocks::SequenceId {
        self.to
    }
}

impl Engine {
    /// Positions of the cache that a sequence takes at most: while some of a prompt are selected, these have places of their own.
    pub(super) fn needs(&self, prompt: usize, limit: usize) -> usize {
        match self.selects(prompt) {
            Some(selected) => selected + prompt.max(limit),
            None => self.kept(prompt + limit),
        }
    }

    /// How many positions are kept of a prompt, where that is not all of it.
    pub(super) fn selects(&self, prompt: usize) -> Option<usize> {
        self.policy.selected().map(|selected| selected as usize).filter(|&selected| prompt > selected)
    }

    /// Leading tokens of a sequence that may be found in the cache, and the one after them: the rows that say what is kept of a prompt are
    /// computed in any case.
    pub(super) fn findable(&self, sequence: &Sequence) -> usize {
        match self.selects(sequence.prompt) {
            Some(_) => sequence.prompt + 1 - OBSERVED as usize,
            None => sequence.ids.len(),
        }
    }

    /// Whether a sequence's prompt is selected from, and is not computed to its end.
    pub(super) fn is_to_select(&self, sequence: &Sequence) -> bool {
        self.selects(sequence.prompt).is_some() && sequence.filled < sequence.prompt
    }

    /// Takes places for what is kept of a prompt, all turns of it in advance: what a turn's blocks give up, the next one may have, since
    /// programs run in order. The prompt's own places, at `place`, are reserved.
    pub(super) fn plan_gathering(
        &mut self,
        place: blocks::SequenceId,
        prompt: &[u32],
    ) -> Result<Option<Gathering>, Shortage> {
        let Some(kept) = self.selects(prompt.len()) else { return Ok(None) };
        let last = &prompt[prompt.len() - kept..];
        let to = self.blocks.select(prompt, kept);
        let size = self.selection().rows() as usize;
        let mut turns = Vec::new();
        for first in (0..kept).step_by(size) {
            let rows = size.min(kept - first);
            if let Err(short) = self.blocks.reserve(to, first + rows) {
                self.blocks.forget(to);
                return Err(short);
            }
            turns.push(Gathered { first, rows, tables: self.tables(to) });
            self.blocks.confirm(to, &last[first..][..rows]);
        }
        Ok(Some(Gathering { to, tokens: prompt.len() as u32, prompt: self.tables(place), turns }))
    }

    /// Gives back what [`plan_gathering`](Self::plan_gathering) took: the prompt's last step was not submitted.
    pub(super) fn forget_gathering(&mut self, gathering: &Gathering) {
        self.blocks.forget(gathering.to);
    }

    /// Makes what is kept of a prompt the sequence's own, once the prompt's last step is submitted.
    pub(super) fn gather(&mut self, id: SequenceId, gathering: Gathering) -> Result<(), Error> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let (slot, place) = (sequence.slot, sequence.place.replace(gathering.to));
        let dropped = self.blocks.dropped(gathering.to) as u32;
        place.map_or(Ok(()), |place| self.gather_from(place, gathering))?;
        let step = &self.workspace().step;
        slot.into_iter().for_each(|slot| step.set_dropped(&self.device, slot, dropped));
        Ok(())
    }

    /// Submits what moves a selection to its own place. The prompt's blocks stay as a beginning for others until somebody needs the room.
    pub(super) fn gather_from(&mut self, place: blocks::SequenceId, gathering: Gathering) -> Result<(), Error> {
        let Gathering { tokens, prompt, turns, .. } = gathering;
        self.blocks.end(place);
        for Gathered { first, rows, tables } in turns {
            self.selection().tell(&self.device, first as u32, rows as u32, tokens, [&tables, &prompt]);
            let mut encoder = self.device.encoder();
            self.gathering_program()?.encode(&mut encoder);
            self.device.submit(encoder);
        }
        Ok(())
    }

    /// What moves one turn of what is kept.
    pub(super) fn gathering_program(&mut self) -> Result<&crate::graph::Program, Error> {
        let rows = self.selection().rows();
        Ok(&self.program(self.key(Phase::Gather, false, rows, 1, 1))?.program)
    }

    fn selection(&self) -> &Selection {
        let Workspace { selection, .. } = self.workspace();
        selection.as_ref().expect("a policy that selects has one")
    }

    fn tables(&self, place: blocks::SequenceId) -> Vec<Vec<u32>> {
        self.pools().map(|pool| self.blocks.table(place, pool).to_vec()).collect()
    }
}

/// Tokens of the next piece of a prompt that is selected from, of which `left` are left: the last rows come together. `most`: what the
/// turn has for it; `is_free`: whether no other prompt is selected from in this step.
pub(super) fn piece(left: usize, most: usize, is_free: bool) -> usize {
    let last = OBSERVED as usize;
    if is_free && left <= most.max(last) { left } else { most.min(left.saturating_sub(last)) }
}
