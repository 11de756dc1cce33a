//! Which sequences the next step has, and how much of whose prompt goes before it.
//!
//! Sequences join and leave between steps (continuous batching; Yu et al. 2022, Orca), and prompts are computed in chunks, at most one of
//! them between two steps of those that decode (Agrawal et al. 2023, Sarathi). First come, first served: nobody overtakes.

mod curve;
mod strategy;

use std::time::Duration;

use curve::Curve;
pub use strategy::Strategy;

use crate::step::{BLOCK, MAX_SLOTS};

/// Steps of one submit while somebody waits for a place: a sequence that ends in the middle keeps its place to the submit's end.
const BURST_WHILE_WAITED: u32 = 4;
/// Tokens of a prompt that are computed at once at least, however short the time.
const LEAST_CHUNK: u32 = 16;
/// Share of a target latency that is planned for; the rest is left to what varies from step to step.
const PLANNED: f64 = 0.9;

/// What one turn may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences, up to [`MAX_SLOTS`].
    pub sequences: u32,
    /// Tokens of prompts.
    pub chunk: u32,
    /// Steps of one submit.
    pub burst: u32,
}

/// A sequence that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Positions of it in the cache.
    pub length: u32,
    /// Tokens of its prompt that are not computed yet; it decodes where there are none.
    pub pending: u32,
    /// The most tokens that it may still generate.
    pub remaining: u32,
    /// Blocks of the cache that it holds: those that it shares, too, where it will not write to them.
    pub blocks: u32,
}

/// A request that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Of these, the ones at the end that are not in the cache; at least one, whose logits are sampled from.
    pub pending: u32,
    /// The most tokens to generate.
    pub max_new_tokens: u32,
    /// Blocks with the beginning of its prompt that are in use already, so that none of [`Load::free`] is taken for them.
    pub shared: u32,
    /// When it came.
    pub arrived: Duration,
}

/// How things stand before a turn.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// By the time that they were admitted.
    pub running: &'a [Running],
    /// By the time that they came.
    pub waiting: &'a [Waiting],
    /// Blocks of the cache that can be taken: what only the prefix cache remembers can.
    pub free: u32,
    /// Blocks of the cache.
    pub total: u32,
    /// Since the same moment as [`Waiting::arrived`].
    pub now: Duration,
}

/// Tokens of a prompt to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its place among the running, those behind them that this turn admits.
    pub sequence: usize,
    /// How many tokens.
    pub tokens: u32,
}

/// What to do next: some steps, in which all decode whose prompts are computed. Chunks of prompts go into the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// How many of the waiting begin: the first ones.
    pub admit: usize,
    /// The first of the waiting cannot be held: not by the whole cache, or not by what is left of it while nothing runs that would give
    /// any back.
    pub refuse: bool,
    /// Of one or several prompts, [`Limits::chunk`] tokens in all at most.
    pub prefill: Vec<Chunk>,
    /// Steps of one submit; 0 where there is nothing to do.
    pub steps: u32,
    /// When there will be something, if nothing comes before.
    pub wait: Option<Duration>,
}

/// What steps of one submit took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Took {
    /// Tokens of prompts in the first of them.
    pub prefill: u32,
    /// Sequences that decoded in each.
    pub decoding: u32,
    /// How many.
    pub steps: u32,
    /// All of it, in milliseconds.
    pub ms: f64,
}

/// Decides turn by turn.
#[derive(Clone, Debug)]
pub struct Scheduler {
    strategy: Strategy,
    limits: Limits,
    /// milliseconds of a step by its sequences
    step: Curve,
    /// of prompts' tokens at once; programs come in powers of two
    prefill: Curve,
}

/// Blocks that so many positions take.
fn blocks(positions: u32) -> u32 {
    positions.div_ceil(BLOCK)
}

impl Running {
    /// Blocks that it may still take.
    fn owed(&self) -> u32 {
        let length = self.length.saturating_add(self.pending).saturating_add(self.remaining);
        blocks(length).saturating_sub(self.blocks)
    }
}

impl Waiting {
    /// Blocks that it takes at most.
    fn needs(&self) -> u32 {
        blocks(self.prompt.saturating_add(self.max_new_tokens)).saturating_sub(self.shared)
    }
}

impl Scheduler {
    /// One that knows nothing of how long steps take.
    #[must_use]
    pub fn new(strategy: Strategy, limits: Limits) -> Self {
        Self { strategy, limits, step: Curve::default(), prefill: Curve::default() }
    }

    /// The strategy.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Takes another strategy; what was learned stays.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.strategy = strategy;
    }

    /// Learns from one submit; where nothing was done, nothing.
    pub fn learn(&mut self, took: Took) {
        let Took { prefill, decoding, steps, ms } = took;
        let steps = if decoding == 0 { 0.0 } else { f64::from(steps) };
        let bucket = prefill.next_power_of_two();
        if prefill == 0 && steps > 0.0 {
            self.step.learn(decoding, ms / steps);
        } else if prefill > 0 && steps == 0.0 {
            self.prefill.learn(bucket, ms);
        } else if let (1.., Some(step)) = (prefill, self.step.at(decoding)) {
            // of both together, what is known tells what is not
            match self.prefill.at(bucket).filter(|_| decoding > self.step.reach()) {
                Some(chunk) => self.step.learn(decoding, (ms - chunk).max(0.0) / steps),
                None => self.prefill.learn(bucket, (ms - step * steps).max(0.0)),
            }
        }
    }

    /// The next turn. It is pure: where nothing was learned, the same facts give the same turn.
    #[must_use]
    pub fn turn(&self, load: &Load<'_>) -> Turn {
        let admit = self.admit(load);
        let refuse = admit == 0 && refuses(load);
        // of each: tokens to compute, and the most to generate
        let mut sequences: Vec<(u32, u32)> = load.running.iter().map(|r| (r.pending, r.remaining)).collect();
        sequences.extend(load.waiting[..admit].iter().map(|w| (w.pending.max(1), w.max_new_tokens)));
        let mut room = self.chunk(&sequences);
        let mut prefill = Vec::new();
        for (sequence, (pending, _)) in sequences.iter_mut().enumerate().filter(|(_, s)| s.0 > 0) {
            let tokens = room.min(*pending);
            if tokens == 0 {
                break;
            }
            room -= tokens;
            *pending -= tokens;
            prefill.push(Chunk { sequence, tokens });
        }
        let steps = self.steps(&sequences, &prefill, load.waiting.len() > admit);
        let wait = if steps == 0 && !refuse { self.deadline(load) } else { None };
        Turn { admit, refuse, prefill, steps, wait }
    }

    /// How many of the waiting may begin.
    fn admit(&self, load: &Load<'_>) -> usize {
        let most = match self.strategy {
            Strategy::Fixed { sequences } | Strategy::Timeout { sequences, .. } => sequences,
            Strategy::MemoryAware | Strategy::LatencyAware { .. } => MAX_SLOTS,
        };
        let most = most.min(self.limits.sequences).max(1) as usize;
        if let (Strategy::Timeout { .. }, true) = (self.strategy, load.running.is_empty())
            && load.waiting.len() < most
            && self.deadline(load).is_some_and(|deadline| load.now < deadline)
        {
            return 0;
        }
        let promised = load.running.iter().fold(0, |sum: u32, running| sum.saturating_add(running.owed()));
        let mut free = load.free.saturating_sub(promised);
        let mut sequences = load.running.len();
        for waiting in load.waiting {
            let needs = waiting.needs();
            if sequences >= most || needs > free || !self.in_time(sequences as u32 + 1) {
                break;
            }
            free -= needs;
            sequences += 1;
        }
        sequences - load.running.len()
    }

    /// When the first of a group has waited long enough.
    fn deadline(&self, load: &Load<'_>) -> Option<Duration> {
        match (self.strategy, load.waiting.first()) {
            (Strategy::Timeout { wait, .. }, Some(first)) => Some(first.arrived.saturating_add(wait)),
            _ => None,
        }
    }

    /// Milliseconds from a token to the next that are planned for.
    fn planned(&self) -> Option<f64> {
        match self.strategy {
            Strategy::LatencyAware { target } => Some(target.as_secs_f64() * 1e3 * PLANNED),
            _ => None,
        }
    }

    /// Whether a step of so many sequences keeps the target with a short chunk before it. One alone always may;
    /// beyond what is known, a quarter more is tried at a time.
    fn in_time(&self, sequences: u32) -> bool {
        let Some(planned) = self.planned().filter(|_| sequences > 1) else { return true };
        // a chunk whose time is unknown reads all weights, as a step of one sequence does
        let chunk = self.prefill.at(LEAST_CHUNK).or(self.step.at(1));
        let time = self.step.at(sequences).zip(chunk).map(|(step, chunk)| step + chunk);
        let known = self.step.reach();
        sequences <= known + known / 4 + 1 && time.is_some_and(|time| time <= planned)
    }

    /// The most tokens of prompts in this turn.
    fn chunk(&self, sequences: &[(u32, u32)]) -> u32 {
        let most = self.limits.chunk.max(1);
        let decodes = sequences.iter().any(|s| s.0 == 0);
        let Some(planned) = self.planned().filter(|_| decodes) else { return most };
        let step = self.step.at(sequences.len() as u32).unwrap_or(0.0);
        let in_time = |tokens: u32| self.prefill.at(tokens).is_some_and(|chunk| step + chunk <= planned);
        let mut chunk = LEAST_CHUNK;
        // no further than twice what is known
        while chunk < most && chunk <= self.prefill.reach() && in_time(chunk * 2) {
            chunk *= 2;
        }
        chunk.min(most)
    }

    /// Steps of one submit.
    fn steps(&self, sequences: &[(u32, u32)], prefill: &[Chunk], waited: bool) -> u32 {
        // a step gives each of them a token, the end of its prompt the first one
        let decoding = || sequences.iter().filter(|s| s.0 == 0 && s.1 > 0).map(|s| s.1);
        let (Some(least), Some(most)) = (decoding().min(), decoding().max()) else {
            return u32::from(!prefill.is_empty());
        };
        let steps = match (sequences.iter().any(|s| s.0 > 0), waited) {
            (true, _) => 1,
            (false, true) => BURST_WHILE_WAITED.min(least),
            (false, false) => most,
        };
        let steps = steps.min(self.limits.burst.max(1));
        let Some(planned) = self.planned() else { return steps };
        // tokens of one submit come together
        let Some(step) = self.step.at(decoding().count() as u32) else { return 1 };
        let tokens: u32 = prefill.iter().map(|chunk| chunk.tokens).sum();
        let chunk = if tokens == 0 { 0.0 } else { self.prefill.at(tokens).unwrap_or(planned) };
        steps.min(((planned - chunk) / step.max(1e-3)) as u32).max(1)
    }
}

/// Whether waiting will not help the first of the waiting.
fn refuses(load: &Load<'_>) -> bool {
    let needs = load.waiting.first().map_or(0, Waiting::needs);
    needs > load.total || load.running.is_empty() && needs > load.free
}
