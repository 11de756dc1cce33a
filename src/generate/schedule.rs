//! What the scheduler is told of an engine's sequences, and what it makes of them.

use std::time::Duration;

use super::engine::Engine;
use super::sequence::{Sequence, SequenceId};
use crate::managers::batch::{Load, Running, Strategy, Turn, Waiting};
use crate::managers::blocks::Pool;
use crate::step::BLOCK;

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
            max_new_tokens: (self.kept(s.prompt + s.limit) - self.kept(s.ids.len())) as u32,
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

    fn load_of(&self, sequence: &Sequence) -> Running {
        let length = if sequence.running { sequence.end(0) } else { sequence.filled };
        let pending = if sequence.running { 0 } else { sequence.ids.len() - sequence.filled };
        let kept = self.kept(length);
        let blocks = sequence.place.map_or(0, |place| self.blocks.table(place, Pool::Main(0)).len());
        Running {
            length: kept as u32,
            pending: pending as u32,
            remaining: sequence.remaining() as u32,
            blocks: (blocks as u32).max((kept as u32).div_ceil(BLOCK)),
        }
    }
}
