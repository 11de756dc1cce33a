//! The decoding loop. The GPU samples for every slot and feeds itself; ids are read back through a ring, some steps behind.

use web_time::Instant;

use super::GenerateOptions;
use super::batch::{Burst, Seats};
use super::engine::Engine;
use super::programs::{Output, Phase};
use super::schedule::Piece;
use super::select::Gathering;
use super::sequence::{Sequence, SequenceId};
use crate::device::{READBACK_MS, Readback};
use crate::error::{DeviceError, Error, GenerateError};
use crate::managers::batch::{Strategy, Took, Turn};
use crate::managers::blocks::{self, Pool, Shortage};
use crate::models::Workspace;
use crate::nn::Block;
use crate::shaders::{Row, Slot};
use crate::step::{BLOCK, MAX_SLOTS, Step};

/// `Slot::done` where no token is left to choose, as `shaders/sample.wgsl` has it.
const NOT_A_NUMBER: u32 = 2;
/// `Slot::done` from here on: the number of the site that has overflowed.
const OVERFLOW: u32 = 3;
/// Bursts that may be under way: one runs while the other is read back.
const BURSTS: usize = 2;
/// The most steps of a burst.
pub(super) const MAX_BURST: usize = GenerateOptions::MAX_LOOKAHEAD / BURSTS;

/// Steps to be submitted.
pub(super) struct Encoded {
    pub encoder: wgpu::CommandEncoder,
    pub logits: Option<Output>,
    /// what comes after them
    pub gathering: Option<(SequenceId, Gathering)>,
}

impl Engine {
    /// Keeps the GPU busy: submits bursts until as many are under way as the lookahead allows.
    pub(super) async fn run_ahead(&mut self) -> Result<(), Error> {
        self.discard_logits().await?;
        loop {
            let options = self.batch.seated().filter_map(|(_, id)| self.sequences.get(&id)).map(|s| &s.options);
            let lookahead = options.map(|options| options.lookahead).min().unwrap_or(1);
            // of two, one waits for the other
            let bursts = if lookahead > 1 && !self.is_timed() { BURSTS } else { 1 };
            if self.batch.bursts.len() >= bursts {
                return Ok(());
            }
            let submitted = match self.submit(lookahead.div_ceil(bursts)).await {
                Ok(submitted) => submitted,
                Err(Submit::Short(short)) => {
                    self.make_way(&short).await?;
                    true
                }
                Err(Submit::Failed(error)) => return Err(error),
            };
            if !submitted {
                return Ok(());
            }
        }
    }

    /// Submits one step with what the host has to give, or a burst of at most so many that need nothing; `false` where there is
    /// neither.
    async fn submit(&mut self, most: usize) -> Result<bool, Submit> {
        if self.batch.is_forgotten {
            self.drain().await?;
            self.tell_again()?;
        }
        let (mut order, mut turn) = (Vec::new(), Turn { steps: MAX_BURST as u32, ..Turn::default() });
        // in the long run there is nothing to decide
        if !self.is_steady() {
            order.extend(self.batch.seated().map(|(_, id)| id));
            order.retain(|id| self.sequences.get(id).is_some_and(|s| !s.is_over()));
            order.sort_unstable();
            turn = self.plan(&order);
        }
        let pieces = self.pieces(&order, &turn);
        let (count, phase) = if pieces.is_empty() {
            let phase = self.burst_phase();
            let remaining = self.running().map(|(_, s)| s.remaining()).max().unwrap_or(0);
            let at_once = self
                .running()
                .filter_map(|(_, s)| Some(self.until_drop(s.place?, s.end(0))))
                .min()
                .unwrap_or(usize::MAX);
            let most = most.min(turn.steps as usize).min(self.room_ahead(phase.each()));
            (self.batch.burst.min(most).min(remaining).min(at_once), phase)
        } else {
            let samples = self.running().next().is_some() || pieces.iter().any(|piece| piece.is_last);
            (1, if samples { self.phase() } else { Phase::Fill })
        };
        if count == 0 {
            return Ok(false);
        }
        // before anything is encoded: what is encoded counts as submitted
        let readback = if phase == Phase::Fill { None } else { Some(self.free_readback()?) };
        let Encoded { encoder, gathering, .. } = self.encode(&pieces, phase, count).await?;
        if let Some(index) = readback {
            let prefill = pieces.iter().map(|piece| piece.tokens as u32).sum();
            self.read_back(index, encoder, (count, phase.each()), prefill);
        } else {
            self.device.submit(encoder);
        }
        if let Some((id, gathering)) = gathering {
            self.gather(id, gathering)?;
        }
        Ok(true)
    }

    /// Whether all feed themselves, nobody waits, and no time is to be kept.
    fn is_steady(&self) -> bool {
        !self.is_timed() && self.sequences.values().all(|s| s.is_over() || s.running)
    }

    /// Whether tokens are to come in a given time.
    fn is_timed(&self) -> bool {
        matches!(self.scheduler.strategy(), Strategy::LatencyAware { .. })
    }

    /// Those that feed themselves.
    pub(super) fn running(&self) -> impl Iterator<Item = (u32, &Sequence)> {
        let seated = self.batch.seated().filter_map(|(slot, id)| Some((slot, self.sequences.get(&id)?)));
        seated.filter(|(_, sequence)| sequence.running)
    }

    /// Positions from `at` on that a sequence may write before the cache has to drop some: what a token sees must not depend on how
    /// many come at once.
    pub(super) fn until_drop(&self, place: blocks::SequenceId, at: usize) -> usize {
        let Some(most) = self.policy.most() else { return usize::MAX };
        match (most as usize + self.blocks.dropped(place)).saturating_sub(at) {
            0 => BLOCK as usize,
            left => left,
        }
    }

    /// What is done with the logits of all.
    pub(super) fn phase(&self) -> Phase {
        let seated = self.batch.seated().filter_map(|(_, id)| self.sequences.get(&id));
        let phases = seated.filter_map(Sequence::phase);
        phases.reduce(Phase::and).unwrap_or(Phase::Sample)
    }

    /// Encodes `count` steps of those that run, the first of them with `pieces`.
    pub(super) async fn encode(&mut self, pieces: &[Piece], phase: Phase, count: usize) -> Result<Encoded, Submit> {
        let mut live = 1;
        let step = self.workspace().step.clone();
        for (_, id) in self.batch.seated() {
            let Some(sequence) = self.sequences.get(&id) else { continue };
            let Some(place) = sequence.place else { continue };
            let piece = pieces.iter().find(|piece| piece.id == id);
            let end = match piece {
                Some(piece) => sequence.filled + piece.tokens,
                None if sequence.running => sequence.end(count * phase.each() as usize),
                None => continue,
            };
            let tokens = self.blocks.tokens(place).len();
            let moved = self.blocks.evict(place, end - tokens);
            let dropped = self.blocks.dropped(place);
            if let (true, Some(slot)) = (moved > 0, sequence.slot) {
                step.set_dropped(&self.device, slot, dropped as u32);
            }
            self.blocks.reserve(place, end - dropped).map_err(Submit::Short)?;
            live = live.max((end - dropped) as u32);
        }
        let selecting = pieces.iter().find(|piece| piece.selects).map(|piece| piece.id);
        let prompt =
            selecting.and_then(|id| self.sequences.get(&id)).and_then(|s| Some((s.place?, s.ids[..s.prompt].to_vec())));
        let gathering = match prompt {
            Some((place, prompt)) => self.plan_gathering(place, &prompt).map_err(Submit::Short)?,
            None => None,
        };
        let (rows, slots) = self.tell_pieces(pieces);
        let rows = rows.max(slots * phase.each());
        self.tell_pages();
        // before copies are taken that a failure would lose
        let selects = gathering.is_some();
        let key = self.key(phase, selects, rows, slots, live);
        let mut recorded = self.program(key).map(|_| ());
        if selects {
            recorded = recorded.and_then(|()| self.gathering_program().map(|_| ()));
        }
        if let Err(error) = recorded {
            gathering.iter().for_each(|gathering| self.forget_gathering(gathering));
            return Err(error.into());
        }
        let mut encoder = self.device.encoder();
        self.copy_blocks(&mut encoder);
        let encoder = self.encode_runs(key, count, encoder).await?;
        let logits = self.program(key)?.logits.clone();
        for piece in pieces {
            let Some(sequence) = self.sequences.get_mut(&piece.id) else { continue };
            sequence.filled += piece.tokens;
            // what is submitted from now on finds it there
            sequence.confirm(&mut self.blocks, sequence.filled.min(sequence.prompt));
            sequence.running = piece.is_last && phase != Phase::Logits;
        }
        Ok(Encoded { encoder, logits, gathering: selecting.zip(gathering) })
    }

    /// Encodes the copies that are due before blocks are written or read.
    pub(super) fn copy_blocks(&mut self, encoder: &mut wgpu::CommandEncoder) {
        for copy in self.blocks.take_copies() {
            let Workspace { cache, passage, .. } = self.workspace();
            let (group, block): (_, fn(u32) -> Block) = match copy.pool {
                Pool::Main(group) => (group, Block::Full),
                Pool::Hot(group) => (group, Block::Hot),
            };
            cache.copy(group as u32, block(copy.from), block(copy.to), passage, encoder);
        }
    }

    /// Tells the GPU of what the host gives; returns how many rows and slots the next step has.
    fn tell_pieces(&mut self, pieces: &[Piece]) -> (u32, u32) {
        let slots = self.batch.slots;
        // rows of those that run are where their samplers put them
        let running = if pieces.is_empty() { slots } else { self.running().last().map_or(0, |(slot, _)| slot + 1) };
        let base = running * self.batch.stride;
        let step = &self.workspace().step;
        let mut rows = Vec::new();
        for piece in pieces {
            let Some(sequence) = self.sequences.get(&piece.id) else { continue };
            let slot = Slot {
                position: sequence.filled as u32,
                rows: piece.tokens as u32,
                done: 0,
                sampled: sequence.sampled() as u32,
                first: base + rows.len() as u32,
                dropped: sequence.place.map_or(0, |place| self.blocks.dropped(place)) as u32,
                limit: if piece.is_last { sequence.stop_at() as u32 } else { 0 },
                turn: self.batch.turn,
                drafts: 0,
            };
            step.set_slot(&self.device, piece.slot, &slot);
            let ids = &sequence.ids[sequence.filled..sequence.filled + piece.tokens];
            rows.extend(ids.iter().map(|&id| Row { id, slot: piece.slot }));
        }
        step.set_rows(&self.device, base, &rows);
        let all = base + rows.len() as u32;
        let selects = pieces.iter().find(|piece| piece.selects).map(|piece| piece.slot);
        if self.batch.told != (all, slots) || selects.is_some() {
            step.set_header(&self.device, all, slots, selects.unwrap_or(0));
            self.batch.told = (all, slots);
        }
        (all, slots)
    }

    /// Tells the GPU of blocks that it does not know of yet.
    fn tell_pages(&mut self) {
        let pools = self.pools();
        let step = &self.workspace.as_ref().expect("room is made before anything is submitted").step;
        let batch = &mut self.batch;
        batch.pages.resize(batch.pages.len().max(batch.slots as usize), Vec::new());
        for (slot, seat) in batch.seats.iter().enumerate().take(batch.slots as usize) {
            let Some(place) = seat.and_then(|id| self.sequences.get(&id)).and_then(|s| s.place) else { continue };
            for (table, pool) in pools.clone().enumerate() {
                let now = self.blocks.table(place, pool);
                let told = &mut batch.pages[slot];
                told.resize(told.len().max(table + 1), Vec::new());
                let told = &mut told[table];
                let same = told.iter().zip(now).take_while(|(a, b)| a == b).count();
                if same < now.len() {
                    step.set_pages(&self.device, table as u32, slot as u32, same as u32, &now[same..]);
                }
                told.truncate(same);
                told.extend_from_slice(&now[same..]);
            }
        }
    }

    /// A readback that is not under way, with room for any burst.
    fn free_readback(&mut self) -> Result<usize, Error> {
        let Step { slots: places, ring_len, .. } = self.workspace().step;
        let batch = &mut self.batch;
        let free = (0..BURSTS).find(|&i| batch.bursts.iter().all(|burst| burst.readback != i));
        let index = free.ok_or(DeviceError::Readback)?;
        let size = Step::slot_bytes(places).end + 4 * u64::from(places) * u64::from(ring_len);
        while batch.readbacks.len() <= index {
            batch.readbacks.push(Readback::new(&self.device, "sampled ids", size)?);
        }
        if batch.readbacks[index].size() < size {
            batch.readbacks[index] = Readback::new(&self.device, "sampled ids", size)?;
        }
        Ok(index)
    }

    /// Submits an encoder that samples `count` times, up to `each` tokens of each slot, and has what it sampled read back.
    fn read_back(
        &mut self,
        index: usize,
        mut encoder: wgpu::CommandEncoder,
        (count, each): (usize, u32),
        prefill: u32,
    ) {
        let Step { state, ring, ring_len, slots: places, .. } = self.workspace().step.clone();
        let ring_len = ring_len / each;
        let batch = &mut self.batch;
        let slots = Step::slot_bytes(batch.slots);
        let turns = 4 * u64::from(places * each);
        let readback = &mut batch.readbacks[index];
        readback.copy(&mut encoder, &state, slots.start, slots.end - slots.start);
        let begin = batch.turn % ring_len;
        let before_wrap = (count as u32).min(ring_len - begin);
        readback.copy(&mut encoder, &ring, turns * u64::from(begin), turns * u64::from(before_wrap));
        if before_wrap < count as u32 {
            readback.copy(&mut encoder, &ring, 0, turns * u64::from(count as u32 - before_wrap));
        }
        readback.submit(&self.device, encoder);
        if batch.bursts.is_empty() {
            batch.collected = Some(Instant::now());
        }
        let mut seats: Seats = [None; MAX_SLOTS as usize];
        for (slot, id) in batch.seated() {
            if let Some(sequence) = self.sequences.get_mut(&id).filter(|sequence| sequence.running) {
                sequence.submitted += count;
                sequence.ahead += count * each as usize;
                seats[slot as usize] = Some(id);
            }
        }
        let slots = batch.slots;
        (batch.told, batch.stride) = ((slots * each, slots), each);
        batch.turn = batch.turn.wrapping_add(count as u32);
        batch.bursts.push_back(Burst { readback: index, count, each: each as usize, prefill, slots, seats });
    }

    /// Waits for the oldest burst and takes its tokens.
    pub(super) async fn collect(&mut self) -> Result<(), Error> {
        let Some(burst) = self.batch.bursts.front() else { return Ok(()) };
        let (index, places) = (burst.readback, self.workspace().step.slots as usize);
        self.batch.readbacks[index].wait(&self.device).await?;
        let Some(burst) = self.batch.bursts.pop_front() else { return Ok(()) };
        self.begun_anew = false;
        self.pace(&burst);
        let sequences = &mut self.sequences;
        let mut overflowed = None;
        self.batch.readbacks[index].take(|bytes| {
            let (states, ring) = bytes.split_at(burst.slots as usize * size_of::<Slot>());
            for (slot, state) in states.chunks_exact(size_of::<Slot>()).enumerate() {
                let Some(sequence) = burst.seats[slot].and_then(|id| sequences.get_mut(&id)) else { continue };
                let state: Slot = bytemuck::pod_read_unaligned(state);
                sequence.submitted -= burst.count;
                sequence.ahead -= burst.count * burst.each;
                let new = (state.sampled as usize).saturating_sub(sequence.sampled());
                let bytes = 4 * burst.each;
                let turns = ring.chunks_exact(bytes).skip(slot).step_by(places);
                sequence.take_down(turns.take(burst.count), new);
                let position = (state.position + state.rows - state.drafts) as usize;
                if state.done == NOT_A_NUMBER {
                    sequence.failed = Some(GenerateError::NotANumber { position }.into());
                } else if state.done >= OVERFLOW {
                    overflowed.get_or_insert((state.done - OVERFLOW, position));
                }
            }
        })?;
        let (found, position) = overflowed.unwrap_or((u32::MAX, 0));
        self.is_finite(found, burst.count, position);
        self.begin_again();
        Ok(())
    }

    /// Those whose rotary frequencies change with their next token wait to be computed again.
    pub(super) fn begin_again(&mut self) {
        for slot in 0..self.batch.slots {
            let Some(id) = self.batch.seats[slot as usize] else { continue };
            let Some(mut sequence) = self.sequences.remove(&id) else { continue };
            if !sequence.is_over() && sequence.sampled() >= sequence.reach {
                self.leave(&sequence);
                sequence.give_way(&mut self.blocks);
            }
            self.sequences.insert(id, sequence);
        }
    }

    /// Makes bursts about as long as a readback takes: shorter ones would wait for it, longer ones would only delay their
    /// tokens.
    fn pace(&mut self, burst: &Burst) {
        let now = Instant::now();
        let Some(before) = self.batch.collected.replace(now) else { return };
        let took = now.duration_since(before).as_secs_f64() * 1e3;
        // others have no use for it
        if self.is_timed() {
            let decoding = burst.seats.iter().flatten().count() as u32;
            let Burst { count, prefill, .. } = *burst;
            self.scheduler.learn(Took { prefill, decoding, steps: count as u32, ms: took });
        }
        if took < 1.5 * READBACK_MS {
            self.batch.burst = (self.batch.burst * 2).min(MAX_BURST);
        } else if took > 3.0 * READBACK_MS {
            self.batch.burst = self.batch.burst.div_ceil(2);
        }
    }

    /// The cache is full: the one that came last gives way, and is computed again later.
    async fn make_way(&mut self, short: &Shortage) -> Result<(), Error> {
        self.drain().await?;
        let Some(id) = self.batch.seated().map(|(_, id)| id).max() else { return Ok(()) };
        let alone = self.batch.seated().count() == 1;
        let Some(mut sequence) = self.sequences.remove(&id) else { return Ok(()) };
        self.leave(&sequence);
        if alone {
            sequence.failed = Some(self.no_room(short));
        }
        sequence.give_way(&mut self.blocks);
        self.sequences.insert(id, sequence);
        Ok(())
    }
}

/// Why nothing was submitted.
pub(super) enum Submit {
    /// The cache is full.
    Short(Shortage),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Submit {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
