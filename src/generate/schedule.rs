//! What the scheduler is told of an engine's sequences, and what it makes of them.

use std::time::Duration;

use super::engine::Engine;
use super::select;
use super::sequence::{Sequence, SequenceId};
use crate::managers::batch::{Load, Running, Strategy, Turn, Waiting};
use crate::managers::blocks::Pool;
use crate::step::BLOCK;

/// Tokens that the host gives to a step.
pub(super) struct Piece {
    pub slot: u32,
    pub id: SequenceId,
    pub tokens: usize,
    /// whether none are left after these
    pub is_last: bool,
    /// whether they end a prompt of which a selection is kept
    pub selects: bool,
}

impl Engine {
    /// Sets how many sequences run at once, and when those that wait begin.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.scheduler.set_strategy(strategy);
    }

    /// How many sequences run at once, and when those that wait begin.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.scheduler.strategy()
    }

    /// How long nothing is to be done, unless somebody joins: those that wait are too few.
    pub(crate) fn pause(&self) -> Option<Duration> {
        if self.sequences.values().any(|s| s.slot.is_some() && !s.is_over()) {
            return None;
        }
        let turn = self.plan(&[]);
        turn.wait.map(|until| until.saturating_sub(self.began.elapsed()))
    }

    /// The next turn of those that are seated, `running`, and of those that wait.
    pub(super) fn plan(&self, running: &[SequenceId]) -> Turn {
        let seated: Vec<Running> =
            running.iter().filter_map(|id| Some(self.load_of(self.sequences.get(id)?))).collect();
        let waits = |s: &&Sequence| s.place.is_none() && !s.is_over();
        let waiting = self.sequences.values().filter(waits).map(|s| Waiting {
            prompt: self.kept(s.ids.len()) as u32,
            pending: s.ids.len() as u32,
            max_new_tokens: self.needs(s.prompt, s.limit).saturating_sub(self.kept(s.ids.len())) as u32,
            shared: 0,
            arrived: s.started.duration_since(self.began),
        });
        let waiting: Vec<Waiting> = waiting.collect();
        // the cache grows
        let total = self.most_blocks();
        let taken: u32 = seated.iter().map(|running| running.blocks).sum();
        let free = total.saturating_sub(taken);
        let load = Load { running: &seated, waiting: &waiting, free, total, now: self.began.elapsed() };
        self.scheduler.turn(&load)
    }

    /// What the host gives next of the prompts of `order`, as the turn has it.
    pub(super) fn pieces(&self, order: &[SequenceId], turn: &Turn) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in &turn.prefill {
            let Some(&id) = order.get(chunk.sequence) else { continue };
            let Some((slot, sequence)) = self.sequences.get(&id).and_then(|s| Some((s.slot?, s))) else { continue };
            let Some(place) = sequence.place else { continue };
            let at_once = self.until_drop(place, sequence.filled);
            let mut tokens = (chunk.tokens as usize).min(sequence.ids.len() - sequence.filled).min(at_once);
            let mut selects = self.is_to_select(sequence);
            if selects {
                let left = sequence.prompt - sequence.filled;
                tokens = select::piece(left, tokens, pieces.iter().all(|piece| !piece.selects));
                selects = tokens == left;
            }
            let is_last = sequence.filled + tokens == sequence.ids.len();
            if tokens > 0 {
                pieces.push(Piece { slot, id, tokens, is_last, selects });
            }
        }
        pieces
    }

    fn load_of(&self, sequence: &Sequence) -> Running {
        let length = if sequence.running { sequence.end(0) } else { sequence.filled };
        let pending = if sequence.running { 0 } else { sequence.ids.len() - sequence.filled };
        let kept = self.kept(length);
        // what is selected takes places while the prompt has its own
        let selected = self.selects(sequence.prompt).filter(|_| sequence.filled < sequence.prompt).unwrap_or(0);
        let blocks = sequence.place.map_or(0, |place| self.blocks.table(place, Pool::Main(0)).len());
        Running {
            length: kept as u32,
            pending: pending as u32,
            remaining: sequence.remaining().max(selected) as u32,
            blocks: (blocks as u32).max((kept as u32).div_ceil(BLOCK)),
        }
    }
}
