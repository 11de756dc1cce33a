//! Sequences that run together: they sit in the slots of a step, join and leave between steps. `submit` runs the steps.

use std::collections::VecDeque;

use web_time::Instant;

use super::engine::Engine;
use super::processors::Processors;
use super::sequence::{Sequence, SequenceId};
use super::{FinishReason, GenerateOptions, Logprobs, Timing};
use crate::device::Readback;
use crate::error::{DeviceError, Error, GenerateError};
use crate::managers::blocks::Shortage;
use crate::shaders::Slot;
use crate::source::sleep;
use crate::step::{BLOCK, MAX_SLOTS};
use crate::tensor::Tensor;

/// Who sits in which slot.
pub(super) type Seats = [Option<SequenceId>; MAX_SLOTS as usize];

/// Steps of one submit, read back together.
#[derive(Debug)]
pub(super) struct Burst {
    pub readback: usize,
    pub count: usize,
    /// tokens that each of them gives a sequence at most
    pub each: usize,
    /// tokens that the host gave to the first of them
    pub prefill: u32,
    pub slots: u32,
    /// those for whom something is sampled
    pub seats: Seats,
}

/// The sequences that run together, and what the GPU was told of them.
#[derive(Debug)]
pub(super) struct Batch {
    pub seats: Seats,
    /// slots up to the last one that is taken
    pub slots: u32,
    /// rows and slots that the GPU counts in its next step
    pub told: (u32, u32),
    /// from the first row of a slot that feeds itself to that of the next one
    pub stride: u32,
    /// of each slot and page table: what the GPU has
    pub pages: Vec<Vec<Vec<u32>>>,
    /// steps that sampled
    pub turn: u32,
    pub bursts: VecDeque<Burst>,
    pub readbacks: Vec<Readback>,
    /// steps of the next burst, and when the last one came back
    pub burst: usize,
    pub collected: Option<Instant>,
    /// of the sequence that the host samples for, and the row that they come as
    pub logits: Vec<f32>,
    pub row: Option<Tensor>,
    /// whether others have written to the slots
    pub is_forgotten: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            seats: [None; MAX_SLOTS as usize],
            slots: 0,
            told: (0, 0),
            stride: 1,
            pages: Vec::new(),
            turn: 0,
            bursts: VecDeque::new(),
            readbacks: Vec::new(),
            burst: 1,
            collected: None,
            logits: Vec::new(),
            row: None,
            is_forgotten: false,
        }
    }
}

impl Batch {
    /// Whether nobody has a seat.
    pub fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// The GPU has forgotten all it was told.
    pub fn forget(&mut self) {
        self.pages.clear();
        (self.told, self.stride) = ((0, 0), 1);
        self.is_forgotten = false;
    }

    pub fn seated(&self) -> impl Iterator<Item = (u32, SequenceId)> {
        (0..self.slots).zip(self.seats).filter_map(|(slot, seat)| Some((slot, seat?)))
    }
}

impl Engine {
    /// Asks for what follows `prompt` and `given`, tokens that were given out before, on a device that is now lost, say. It begins once
    /// [`turn`](Self::turn) finds room for it.
    ///
    /// # Errors
    /// [`GenerateError`] for a prompt or options that cannot be.
    pub(super) fn add(
        &mut self,
        prompt: &[u32],
        given: &[u32],
        mut options: GenerateOptions,
    ) -> Result<SequenceId, Error> {
        options.check()?;
        self.check_ids(prompt)?;
        let ids = [prompt, given].concat();
        self.check_ids(&ids)?;
        if options.logprobs.is_some() {
            options.lookahead = 0;
        }
        let limit = options.limit(prompt.len(), self.context());
        if limit == 0 {
            let context = options.max_length.unwrap_or(usize::MAX).min(self.context());
            return Err(GenerateError::PromptTooLong { tokens: prompt.len(), context }.into());
        }
        let mut sampling = options.sampling(prompt.len());
        sampling.num_assistant_tokens = self.assisted(&options);
        let drafts = options.prompt_lookup_num_tokens.max(sampling.num_assistant_tokens);
        let processors = Processors::new(&options, &sampling, prompt, self.vocab_size())?;
        self.check_speculation(&options)?;
        let mut sequence = Sequence {
            sampling,
            drafts,
            processors,
            ids: prompt.to_vec(),
            prompt: prompt.len(),
            limit,
            place: None,
            forked: None,
            slot: None,
            filled: 0,
            confirmed: 0,
            running: false,
            submitted: 0,
            ahead: 0,
            delivered: given.len(),
            reach: 0,
            finish: None,
            failed: None,
            logprobs: None,
            started: Instant::now(),
            first_token: None,
            timing: Timing::default(),
            options,
        };
        // of what is decoded nothing is allocated
        sequence.ids.reserve(limit.min(1 << 16));
        sequence.sample(given.iter().copied());
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        if !self.is_busy() {
            // others may have let go of memory since
            self.most_seats = MAX_SLOTS;
        }
        self.sequences.insert(id, sequence);
        Ok(id)
    }

    /// Forgets a sequence. What it was given out, and nothing after that, stays in the cache as a beginning for others.
    pub(super) fn remove(&mut self, id: SequenceId) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        // the last token given out was never fed: its keys and values are not in the cache, or not surely
        let given_out = sequence.prompt + sequence.delivered.saturating_sub(1);
        let kept = given_out.min(if sequence.running { sequence.ids.len() - 1 } else { sequence.filled });
        self.leave(&sequence);
        sequence.confirm(&mut self.blocks, kept);
        if let Some(place) = sequence.forked {
            self.blocks.forget(place);
        }
        if let Some(place) = sequence.place {
            // behind what was selected nothing is found, the prompt itself is
            let is_selected = self.selects(sequence.prompt).is_some() && self.blocks.dropped(place) > 0;
            self.blocks.rollback(place, kept);
            self.blocks.end(place);
            sequence.ids.truncate(if is_selected { sequence.prompt } else { kept });
            self.cached = sequence.ids;
        }
    }

    /// Gives out the next token of a sequence, if there is one.
    pub(super) fn take(&mut self, id: SequenceId) -> Option<u32> {
        let sequence = self.sequences.get_mut(&id)?;
        let token = sequence.take()?;
        sequence.confirm(&mut self.blocks, sequence.prompt + sequence.delivered - 1);
        Some(token)
    }

    /// Frees the slot of a sequence.
    pub(super) fn leave(&mut self, sequence: &Sequence) {
        let Some(slot) = sequence.slot else { return };
        self.batch.seats[slot as usize] = None;
        if let Some(pages) = self.batch.pages.get_mut(slot as usize) {
            pages.iter_mut().for_each(Vec::clear);
        }
        while self.batch.slots > 0 && self.batch.seats[self.batch.slots as usize - 1].is_none() {
            self.batch.slots -= 1;
        }
        self.tell_free(slot);
        if let Some(assistant) = &mut self.assistant {
            assistant.dismiss(slot);
        }
    }

    /// Tells the GPU that no row is a slot's, whatever was submitted before.
    fn tell_free(&self, slot: u32) {
        let free = Slot { done: 1, turn: self.batch.turn, ..Slot::default() };
        self.workspace().step.set_slot(&self.device, slot, &free);
    }

    /// Ends a sequence after the token that was given out last.
    pub(super) fn stop(&mut self, id: SequenceId) {
        self.sequences.entry(id).and_modify(Sequence::stop);
    }

    /// Why a sequence ended, once all of it is given out; `None` while it has not.
    pub(super) fn finish_reason(&self, id: SequenceId) -> Option<FinishReason> {
        self.sequences.get(&id)?.finish_reason()
    }

    /// How likely the token was that was given out last, where `logprobs` asks for it.
    pub(super) fn logprobs(&self, id: SequenceId) -> Option<&Logprobs> {
        self.sequences.get(&id)?.logprobs.as_ref()
    }

    /// How long a sequence took so far.
    pub(crate) fn timing(&self, id: SequenceId) -> Timing {
        self.sequences.get(&id).map(|sequence| sequence.timing).unwrap_or_default()
    }

    /// The physical block of each logical block of a sequence, in each of the cache's pools: for whoever wants to see where it lies.
    pub fn page_tables(&self, id: SequenceId) -> impl Iterator<Item = &[u32]> {
        let place = self.sequences.get(&id).and_then(|sequence| sequence.place);
        place.into_iter().flat_map(move |place| self.pools().map(move |pool| self.blocks.table(place, pool)))
    }

    /// Whether nothing more of a sequence is to come.
    pub(super) fn is_over(&self, id: SequenceId) -> bool {
        self.sequences.get(&id).is_none_or(Sequence::is_over)
    }

    /// What went wrong with a sequence, once.
    pub(super) fn check(&mut self, id: SequenceId) -> Result<(), Error> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let Some(error) = sequence.failed.take() else { return Ok(()) };
        sequence.finish = Some(FinishReason::Stop);
        Err(error)
    }

    /// One turn for all: seats who waits, submits what keeps the GPU busy, and takes down what the oldest burst made.
    ///
    /// # Errors
    /// Those of the device. What is wrong with one sequence is [`Sequence::failed`].
    pub(super) async fn turn(&mut self) -> Result<(), Error> {
        if let Some(pause) = self.pause() {
            sleep(pause).await;
        }
        let turned = self.take_turn().await;
        self.or_concede(turned).await
    }

    async fn take_turn(&mut self) -> Result<(), Error> {
        self.admit().await?;
        if let Some(id) = self.on_host() {
            let chosen = match self.fetch_logits(id).await {
                Ok(()) => self.choose(id, |_, _| ()),
                failed => self.or_concede(failed).await,
            };
            return chosen.or_else(|error| self.fail(id, error));
        }
        self.close_ranks().await?;
        self.run_ahead().await?;
        self.collect().await
    }

    /// Whether a turn would do something.
    pub(super) fn is_busy(&self) -> bool {
        self.sequences.values().any(|sequence| !sequence.is_over())
    }

    /// The seated sequence that the host samples for.
    fn on_host(&self) -> Option<SequenceId> {
        let (_, id) = self.batch.seated().next()?;
        self.sequences.get(&id).filter(|sequence| sequence.is_on_host() && !sequence.is_over()).map(|_| id)
    }

    fn fail(&mut self, id: SequenceId, error: Error) -> Result<(), Error> {
        // a lost device fails all of them
        self.device.check()?;
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.failed = Some(error);
        }
        Ok(())
    }

    /// Seats those who wait, first come first served. Sequences of other rotary frequencies, or that the host samples for, wait until
    /// the others are done.
    pub(super) async fn admit(&mut self) -> Result<(), Error> {
        self.recover().await?;
        let waits = |s: &Sequence| s.place.is_none() && !s.is_over();
        if !self.sequences.values().any(waits) {
            return Ok(());
        }
        self.free_finished();
        let seated: Vec<SequenceId> = self.batch.seated().map(|(_, id)| id).collect();
        let turn = self.plan(&seated);
        // one that the cache does not hold is told why when it is seated
        for _ in 0..turn.admit.max(usize::from(turn.refuse)) {
            let Some((&id, next)) = self.sequences.iter().find(|(_, s)| waits(s)) else { return Ok(()) };
            let regimes = self.regimes_of(next.ids.len());
            let alone = next.is_on_host() || self.on_host().is_some() || regimes != self.regimes;
            if alone && !self.batch.is_empty() {
                return Ok(());
            }
            if regimes != self.regimes {
                self.set_regimes(&regimes);
            }
            match self.seat(id).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => match self.or_concede(Err(error)).await {
                    // whoever waits is seated in the next turn
                    Ok(()) => return Ok(()),
                    Err(error) => self.fail(id, error)?,
                },
            }
        }
        Ok(())
    }

    /// Takes the seats of those for whom nothing more is to be computed.
    fn free_finished(&mut self) {
        for slot in 0..self.batch.slots {
            let Some(id) = self.batch.seats[slot as usize] else { continue };
            if self.is_over(id)
                && let Some(mut sequence) = self.sequences.remove(&id)
            {
                self.leave(&sequence);
                sequence.slot = None;
                self.sequences.insert(id, sequence);
            }
        }
    }

    /// Gives a sequence blocks and a slot; `false` where there is no room until another leaves.
    async fn seat(&mut self, id: SequenceId) -> Result<bool, Error> {
        let needs = |s: &Sequence| self.needs(s.prompt, s.limit).next_multiple_of(BLOCK as usize);
        let Some(sequence) = self.sequences.get(&id) else { return Ok(true) };
        let positions = self.kept(sequence.prompt + sequence.limit);
        let others = self.sequences.values().filter(|s| s.slot.is_some()).map(needs).sum::<usize>();
        if self.batch.seated().count() >= self.most_seats as usize {
            return Ok(false);
        }
        let slot = (0..MAX_SLOTS).find(|&slot| self.batch.seats[slot as usize].is_none()).unwrap_or(0);
        let cache = others + if others == 0 { self.needs(sequence.prompt, sequence.limit) } else { needs(sequence) };
        if !self.has_room(positions, cache, slot + 1) {
            self.drain().await?;
            match self.make_room(positions, cache, slot + 1) {
                Ok(()) => self.tell_again()?,
                // others run: it has what they leave, or waits
                Err(Error::Device(DeviceError::OutOfMemory { .. } | DeviceError::BufferTooLarge { .. }))
                    if others > 0 && self.has_room(positions, 0, slot + 1) => {}
                Err(Error::Device(DeviceError::OutOfMemory { .. } | DeviceError::BufferTooLarge { .. }))
                    if others > 0 =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        let Some(sequence) = self.sequences.get(&id) else { return Ok(true) };
        let length = sequence.prompt + sequence.limit;
        if self.has_history() && self.drop_short_history(length) {
            self.drain().await?;
            self.tell_again()?;
        }
        let Some((place, known)) = self.begin_at(id) else { return Ok(true) };
        let Some(sequence) = self.sequences.get(&id) else { return Ok(true) };
        let beginning = &sequence.ids[..self.findable(sequence)];
        if self.is_coming(beginning, known) {
            self.blocks.forget(place);
            return Ok(false);
        }
        // what comes in one step: of the rest, some may be dropped before it comes
        let first = sequence.ids.len().min(known + self.chunk as usize) - self.blocks.dropped(place);
        let first = self.kept(first);
        if let Err(short) = self.blocks.reserve(place, first) {
            self.blocks.forget(place);
            return if others > 0 { Ok(false) } else { Err(self.no_room(&short)) };
        }
        let reach = self.reach(sequence.ids.len());
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(true) };
        sequence.reach = reach.saturating_sub(sequence.prompt).saturating_add(1);
        sequence.place = Some(place);
        (sequence.filled, sequence.confirmed, sequence.running) = (known, known, false);
        (sequence.submitted, sequence.ahead) = (0, 0);
        if sequence.first_token.is_none() {
            sequence.timing.prefill_tokens = sequence.ids.len() - known;
        }
        self.sit(id, slot)?;
        Ok(true)
    }

    /// Whether others are computing more whole blocks of this beginning than the cache has by now: then it pays to wait for them.
    fn is_coming(&self, ids: &[u32], known: usize) -> bool {
        let computing = self.sequences.values().filter(|s| s.slot.is_some() && !s.running && !s.is_over());
        let common = computing.map(|s| {
            let prompt = &s.ids[..s.prompt];
            let same = prompt.iter().zip(&ids[..ids.len() - 1]).take_while(|(a, b)| a == b).count();
            same / BLOCK as usize * BLOCK as usize
        });
        common.max().is_some_and(|common| common > known)
    }

    /// Gives a sequence a slot, and tells the GPU how its tokens are sampled.
    fn sit(&mut self, id: SequenceId, slot: u32) -> Result<(), Error> {
        let Some(mut sequence) = self.sequences.remove(&id) else { return Ok(()) };
        sequence.slot = Some(slot);
        let told = self.tell(&sequence, slot);
        // then all are told again before anything is submitted
        self.batch.is_forgotten |= told.is_err();
        self.sequences.insert(id, sequence);
        self.batch.seats[slot as usize] = Some(id);
        self.batch.slots = self.batch.slots.max(slot + 1);
        told
    }

    fn tell(&mut self, sequence: &Sequence, slot: u32) -> Result<(), Error> {
        let step = &self.workspace().step;
        step.set_sampling(&self.device, slot, sequence.sampling, &sequence.options.eos_token_id);
        let processors = sequence.processors.as_ref().filter(|_| !sequence.is_on_host());
        if processors.is_some() || sequence.speculates() || self.has_history() {
            let none = processors.is_none().then(|| Processors::none(self.vocab_size()));
            let device = self.device.clone();
            let history = self.history(sequence.prompt + sequence.limit)?;
            processors.or(none.as_ref()).into_iter().for_each(|p| p.upload(&device, history, slot, &sequence.ids));
        }
        self.seat_assistant(sequence, slot)
    }

    pub(super) fn no_room(&self, short: &Shortage) -> Error {
        let blocks = short.missing.iter().map(|(_, blocks)| *blocks).max().unwrap_or(0);
        let (missing, room) = (blocks * BLOCK as usize, self.workspace().room.cache as usize);
        GenerateError::CacheFull { missing, room }.into()
    }

    /// Where the GPU has lost, or is about to lose, what it was told: each sequence goes on from what the host knows. Nothing is under way.
    pub(super) fn tell_again(&mut self) -> Result<(), Error> {
        self.batch.forget();
        for slot in 0..self.batch.slots {
            // until it gives its last token again
            self.tell_free(slot);
            if let Some(id) = self.batch.seats[slot as usize] {
                self.sequences.entry(id).and_modify(Sequence::halt);
                self.sit(id, slot)?;
            }
        }
        Ok(())
    }

    /// Waits for all that is under way.
    pub(super) async fn drain(&mut self) -> Result<(), Error> {
        while !self.batch.bursts.is_empty() {
            self.collect().await?;
        }
        Ok(())
    }

    /// Moves the last ones into free slots where that halves the rows of a step.
    async fn close_ranks(&mut self) -> Result<(), Error> {
        self.free_finished();
        let taken = self.batch.seated().count() as u32;
        if taken == 0 || taken.next_power_of_two() >= self.batch.slots.next_power_of_two() {
            return Ok(());
        }
        self.drain().await?;
        self.free_finished();
        while let Some(free) = (0..self.batch.slots).find(|&slot| self.batch.seats[slot as usize].is_none()) {
            let last = self.batch.slots - 1;
            let Some(id) = self.batch.seats[last as usize] else { break };
            let Some(mut sequence) = self.sequences.remove(&id) else { break };
            self.leave(&sequence);
            sequence.halt();
            self.sequences.insert(id, sequence);
            self.sit(id, free)?;
        }
        Ok(())
    }
}
