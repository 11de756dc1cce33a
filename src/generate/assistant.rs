//! A smaller model that drafts for an engine's own (assisted generation): it runs on the same device, behind every step that verifies.

use std::collections::HashMap;

use super::GenerateOptions;
use super::engine::Engine;
use super::programs::{Key, Phase, Recorded};
use super::sequence::Sequence;
use crate::device::{Buffer, Category, Ownership};
use crate::error::{Error, GenerateError};
use crate::graph::Program;
use crate::managers::blocks::{self, CachePolicy};
use crate::models::Room;
use crate::ops;
use crate::shaders::{Row, Sampling, Slot};
use crate::step::{BLOCK, MAX_SLOTS};

/// The model that drafts. Of its engine nobody asks for a text: its steps are set by those of the other model.
#[derive(Debug)]
pub(super) struct Assistant {
    engine: Box<Engine>,
    /// by slot
    seats: Vec<Option<Seat>>,
    /// of each slot: how many of its first tokens are computed
    computed: Buffer,
    /// whose the buffers are; dropped after them
    _ownership: Ownership,
}

/// A sequence that it drafts for.
#[derive(Debug)]
struct Seat {
    /// in its cache, and the positions that are reserved there
    place: blocks::SequenceId,
    length: usize,
    sampling: Sampling,
    eos: Vec<u32>,
}

/// What is run behind a step that verifies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drafting {
    draft: Key,
    /// of the assistant: what catches up and samples the first draft, and what samples another one
    first: Key,
    next: Key,
    drafts: usize,
    adopt: Key,
}

impl Drafting {
    /// In this order.
    pub fn programs<'a>(
        &'a self,
        own: &'a HashMap<Key, Recorded>,
        assistant: &'a Option<Assistant>,
    ) -> impl Iterator<Item = &'a Program> {
        let theirs = assistant.as_ref().map(|assistant| &assistant.engine.programs);
        let of = |key: Key| theirs.and_then(|programs| programs.get(&key));
        let next = std::iter::repeat_n(of(self.next), self.drafts - 1);
        let all = [own.get(&self.draft), of(self.first)].into_iter().chain(next).chain([own.get(&self.adopt)]);
        all.flatten().map(|recorded| &recorded.program)
    }
}

impl Assistant {
    /// What kernels are given of it.
    pub fn step(&self) -> ops::Assistant<'_> {
        let workspace = self.engine.workspace();
        let room = workspace.room.positions.min(self.engine.context);
        ops::Assistant { step: &workspace.step, computed: &self.computed, room }
    }

    /// Gives back a slot's blocks. What it computed of the sequence when that came may be found again.
    pub fn dismiss(&mut self, slot: u32) {
        if let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::take) {
            self.engine.blocks.end(seat.place);
        }
    }

    fn seated(&self) -> impl Iterator<Item = (u32, &Seat)> {
        (0..).zip(&self.seats).filter_map(|(slot, seat)| Some((slot, seat.as_ref()?)))
    }

    /// Room for a sequence of `length` positions in slot `slot`, and for as many slots as the other model has: whether there was none.
    fn make_room(&mut self, slot: u32, length: usize, slots: u32) -> Result<bool, Error> {
        let block = BLOCK as usize;
        let others = self
            .seated()
            .filter(|seat| seat.0 != slot)
            .map(|(_, seat)| seat.length.next_multiple_of(block))
            .sum::<usize>();
        let cache = others + length.next_multiple_of(block);
        if self.engine.has_room(length, cache, slots) {
            return Ok(false);
        }
        self.engine.make_room(length, cache, slots)?;
        self.seated().for_each(|(slot, seat)| self.tell(slot, seat));
        Ok(true)
    }

    /// Tells the GPU where a sequence's blocks are, and how its tokens are drawn: with the noise that they are drawn with later.
    fn tell(&self, slot: u32, seat: &Seat) {
        let Engine { device, blocks, .. } = &*self.engine;
        let step = &self.engine.workspace().step;
        for (table, pool) in (0..).zip(self.engine.pools()) {
            step.set_pages(device, table, slot, 0, blocks.table(seat.place, pool));
        }
        step.set_sampling(device, slot, seat.sampling, &seat.eos);
    }

    /// Computes the tokens of a sequence before its last one.
    fn fill(&mut self, sequence: &Sequence, slot: u32, length: usize) -> Result<(), Error> {
        let engine = &mut self.engine;
        let (place, known) = engine.blocks.begin(&sequence.ids);
        let reserved = engine.blocks.reserve(place, length).map_err(|short| engine.no_room(&short));
        engine.copy_blocks_now();
        let seat = Seat { place, length, sampling: sequence.sampling, eos: sequence.options.eos_token_id.clone() };
        self.tell(slot, &seat);
        self.seats.resize_with(self.seats.len().max(slot as usize + 1), || None);
        self.seats[slot as usize] = Some(seat);
        reserved?;
        let engine = &mut self.engine;
        let (device, step) = (engine.device.clone(), engine.workspace().step.clone());
        let fed = &sequence.ids[..sequence.ids.len() - 1];
        let mut position = known;
        for ids in fed[known..].chunks(engine.chunk as usize) {
            // nobody else has rows in it; all are told anew before they run
            let free = Slot { done: 1, ..Slot::default() };
            (0..slot).for_each(|other| step.set_slot(&device, other, &free));
            let rows = ids.len() as u32;
            step.set_slot(&device, slot, &Slot { position: position as u32, rows, ..Slot::default() });
            step.set_header(&device, rows, slot + 1, 0);
            step.set_rows(&device, 0, &ids.iter().map(|&id| Row { id, slot }).collect::<Vec<_>>());
            position += ids.len();
            let key = engine.key(Phase::Fill, false, rows, slot + 1, position as u32);
            let mut encoder = device.encoder();
            engine.program(key)?.program.encode(&mut encoder);
            device.submit(encoder);
        }
        engine.blocks.confirm(place, &fed[known..]);
        device.write(&self.computed, 4 * u64::from(slot), &(fed.len() as u32).to_le_bytes());
        Ok(())
    }
}

impl Engine {
    /// Has the model of another engine, on the same device, draft for this one's from now on; `None`: no more. `ownership`: whose that one's
    /// buffers are.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] while sequences run, and where one of the models cannot.
    pub(crate) fn set_assistant(&mut self, assistant: Option<(Self, Ownership)>) -> Result<(), Error> {
        let fail =
            |got: String, expected| Err(GenerateError::Setting { name: "assistant_model", got, expected }.into());
        if !self.sequences.is_empty() {
            return fail("another one".into(), "what it was, while sequences run");
        }
        if self.policy.moves() && assistant.is_some() {
            // what is dropped before a token would depend on how many drafts come with it
            return fail("one".into(), "none where cache_policy is a window");
        }
        if let Some((other, _)) = &assistant {
            if !other.device.is_same(&self.device) {
                return fail("a model on another device".into(), "one on the same");
            }
            if other.policy != CachePolicy::Full || other.precision.cache.bits().is_some() {
                return fail("a cache that drops or quantizes".into(), "one that keeps all of its cache as it is");
            }
            if other.config.layers.iter().any(|layer| layer.window > 0) {
                return fail("a model with sliding windows".into(), "one whose layers see all positions");
            }
            if other.offloaded().is_some() {
                return fail("a model whose layers do not all stay on the GPU".into(), "one that fits");
            }
        }
        self.release();
        self.assistant = None;
        if let Some((engine, ownership)) = assistant {
            let computed =
                engine.device.storage("computed by the assistant", Category::Activations, 4 * u64::from(MAX_SLOTS))?;
            let (engine, seats) = (Box::new(engine), Vec::new());
            self.assistant = Some(Assistant { engine, seats, computed, _ownership: ownership });
        }
        Ok(())
    }

    /// Tokens that the assistant drafts at each step at most for whoever has these options.
    pub(super) fn assisted(&self, options: &GenerateOptions) -> u32 {
        let is_asked = self.assistant.is_some() && options.prompt_lookup_num_tokens == 0 && options.lookahead > 0;
        if is_asked { options.num_assistant_tokens } else { 0 }
    }

    /// Has the assistant compute what there is of a sequence that comes to a slot.
    pub(super) fn seat_assistant(&mut self, sequence: &Sequence, slot: u32) -> Result<(), Error> {
        let Room { slots, .. } = self.workspace().room;
        let Some(assistant) = &mut self.assistant else { return Ok(()) };
        assistant.dismiss(slot);
        let is_assisted = sequence.sampling.num_assistant_tokens > 0;
        if !is_assisted && assistant.seated().next().is_none() {
            return Ok(());
        }
        let length = (sequence.prompt + sequence.limit).min(assistant.engine.context());
        // one that is too long for it goes on by itself
        let fits = is_assisted && sequence.ids.len() <= length;
        let regrown = assistant.make_room(slot, if fits { length } else { 0 }, slots)?;
        let filled = if fits { assistant.fill(sequence, slot, length) } else { Ok(()) };
        if regrown {
            // they show its buffers
            self.programs.retain(|key, _| !matches!(key.phase, Phase::Draft { .. } | Phase::Adopt { .. }));
        }
        filled
    }

    /// What is run behind each step of the program `key`, where the assistant drafts for somebody.
    pub(super) fn drafting(&mut self, key: Key) -> Result<Option<Drafting>, Error> {
        let Phase::Speculate { each, .. } = key.phase else { return Ok(None) };
        let drafts = self.running().map(|(_, sequence)| sequence.sampling.num_assistant_tokens).max().unwrap_or(0);
        let Some(assistant) =
            self.assistant.as_mut().filter(|assistant| drafts > 0 && assistant.seated().next().is_some())
        else {
            return Ok(None);
        };
        let slots = key.slots;
        let engine = &mut assistant.engine;
        let first = engine.key(Phase::Sample, false, slots * each, slots, key.live);
        let next = engine.key(Phase::Sample, false, slots, slots, key.live);
        engine.program(first)?;
        engine.program(next)?;
        let draft = self.key(Phase::Draft { each }, false, 1, 1, 1);
        let adopt = self.key(Phase::Adopt { each }, false, 1, 1, 1);
        self.program(draft)?;
        self.program(adopt)?;
        Ok(Some(Drafting { draft, first, next, drafts: drafts.min(each - 1) as usize, adopt }))
    }
}
