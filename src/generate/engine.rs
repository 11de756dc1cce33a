//! A model with its cache, its step and its recorded programs, and the sequences that it runs: `batch` runs them.

use std::collections::{BTreeMap, HashMap};

use web_time::Instant;

use super::assistant::Assistant;
use super::batch::Batch;
use super::concede::{Loaded, Settled};
use super::programs::{Key, Phase, Recorded};
use super::sequence::{Sequence, SequenceId};
use super::submit::MAX_BURST;
use crate::device::{Device, Memory};
use crate::error::{DeviceError, Error, GenerateError};
use crate::graph::{Arena, Timed};
use crate::managers::batch::{Limits, Scheduler, Strategy};
use crate::managers::blocks::{self, Blocks, BlocksConfig, CachePolicy, Pool};
use crate::managers::{
    CacheShape, Concession, Precision, PrecisionFacts, PrecisionWatch, cache_chunk, cache_groups, cache_plan,
    cache_rows,
};
use crate::models::{Decoder, DecoderConfig, Room, Workspace};
use crate::site::Site;
use crate::step::{BLOCK, History, MAX_SLOTS};
use crate::weights::{Arrangement, Image, Made, Offloaded};

/// Keys below which all caches share one bucket.
pub(super) const MIN_LIVE: u32 = 128;
/// Tokens of a prompt that [`Engine::warm_up`] thinks of: enough for the kernels of many rows.
const WARM_PROMPT: u32 = 64;

/// One model on one device, and the sequences that it runs.
pub struct Engine {
    pub(super) device: Device,
    pub(super) model: Decoder,
    pub(super) config: DecoderConfig,
    pub(super) precision: Precision,
    /// what becomes of `precision` where it was not enough
    pub(super) watch: PrecisionWatch,
    /// where a step has overflowed, and the position of the token that it was for
    pub(super) overflowed: Option<(Site, usize)>,
    pub(super) policy: CachePolicy,
    /// the most positions of a sequence
    pub(super) context: u32,
    /// the most rows of a prompt in one step
    pub(super) chunk: u32,
    /// made when a sequence first needs it
    pub(super) workspace: Option<Workspace>,
    /// what processors read; made when one is first asked for
    pub(super) history: Option<History>,
    pub(super) arena: Arena,
    pub(super) programs: HashMap<Key, Recorded>,
    /// where the weights are
    pub(super) loaded: Loaded,
    /// what was set by somebody, and what was given up where memory ran short
    pub(super) settled: Settled,
    pub(super) concessions: Vec<Concession>,
    /// whether all began anew because memory was short, and nothing has come of it so far
    pub(super) begun_anew: bool,
    /// how many sequences memory holds at once, as far as is known
    pub(super) most_seats: u32,
    /// which block of the cache holds what
    pub(super) blocks: Blocks,
    /// of each rope: the regime that its table is in
    pub(super) regimes: Vec<u32>,
    /// those that run and those that wait, in the order in which they came
    pub(super) sequences: BTreeMap<SequenceId, Sequence>,
    pub(super) next_id: u64,
    pub(super) batch: Batch,
    /// the place of a forward pass, or of what is restored, that is under way
    pub(super) under_way: Option<blocks::SequenceId>,
    pub(super) scheduler: Scheduler,
    /// what the scheduler's times are counted from
    pub(super) began: Instant,
    /// the tokens of the sequence that ended last, as far as the cache holds them
    pub(super) cached: Vec<u32>,
    /// steps whose kernels were timed, where they are to be
    pub(super) timed: Option<Vec<Timed>>,
    /// the model that drafts for this one, if one does
    pub(super) assistant: Option<Assistant>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("programs", &self.programs.len())
            .field("sequences", &self.sequences.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// `context`: the most positions of a sequence; `chunk`: the most tokens of prompts in one step; `policy`: what happens to sequences
    /// that outgrow their cache.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] where one of them is out of range.
    pub fn new(
        device: &Device,
        model: Decoder,
        config: DecoderConfig,
        precision: Precision,
        policy: CachePolicy,
        context: u32,
        chunk: u32,
    ) -> Result<Self, Error> {
        // where positions are dropped, the cache has none that the model was not trained for
        let most = if policy.moves() { Self::MOST_POSITIONS } else { config.max_position_embeddings };
        if policy.selected().is_some() && config.layers.iter().any(|layer| layer.window > 0) {
            let (name, expected) = ("cache_policy", "no selection from layers that have a sliding window of their own");
            return Err(GenerateError::Setting { name, got: policy.name(), expected }.into());
        }
        let has_room = policy.most().is_none_or(|kept| kept <= config.max_position_embeddings);
        if !has_room || policy.moves() && config.embedding.positions.is_some() {
            let (name, expected) =
                ("cache_policy", "a window of no more positions than the model has, which must not be learned ones");
            return Err(GenerateError::Setting { name, got: policy.name(), expected }.into());
        }
        if context == 0 || context > most {
            let (name, expected) = ("context", "at least 1, and at most the model's max_position_embeddings");
            return Err(GenerateError::Setting { name, got: context.to_string(), expected }.into());
        }
        check_chunk(chunk)?;
        let chunk = cache_chunk(chunk, precision.cache, policy);
        let blocks = Self::no_blocks(&config, precision, policy);
        Ok(Self {
            device: device.clone(),
            regimes: config.ropes.iter().map(|rope| rope.regime(1)).collect(),
            model,
            config,
            watch: PrecisionWatch::new(&PrecisionFacts::of(&precision, device.capabilities())),
            overflowed: None,
            precision,
            policy,
            context,
            chunk,
            workspace: None,
            history: None,
            arena: Arena::default(),
            programs: HashMap::new(),
            loaded: Loaded::default(),
            settled: Settled::default(),
            concessions: Vec::new(),
            begun_anew: false,
            most_seats: MAX_SLOTS,
            blocks,
            sequences: BTreeMap::new(),
            next_id: 0,
            batch: Batch::default(),
            under_way: None,
            scheduler: Scheduler::new(
                Strategy::MemoryAware,
                Limits { sequences: MAX_SLOTS, chunk, burst: MAX_BURST as u32 },
            ),
            began: Instant::now(),
            cached: Vec::new(),
            timed: None,
            assistant: None,
        })
    }

    /// Positions of a sequence at most, where old ones are dropped.
    pub const MOST_POSITIONS: u32 = 1 << 24;

    pub(super) fn no_blocks(config: &DecoderConfig, precision: Precision, policy: CachePolicy) -> Blocks {
        let (windows, _) = cache_groups(config, policy);
        Blocks::new(BlocksConfig { windows, hot: precision.cache.bits().is_some(), policy })
    }

    /// The cache's pools, in the order of their page tables.
    pub(super) fn pools(&self) -> impl Iterator<Item = Pool> + Clone + use<> {
        let groups = self.workspace.as_ref().map_or(0, |workspace| workspace.cache.pools().len());
        let hot = if self.precision.cache.bits().is_some() { groups } else { 0 };
        (0..groups).map(Pool::Main).chain((0..hot).map(Pool::Hot))
    }

    /// The device that it runs on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Layers that do not stay on the GPU, if there are such.
    #[must_use]
    pub fn offloaded(&self) -> Option<&Offloaded> {
        self.loaded.offloaded.as_ref()
    }

    /// The types that it computes with: as they were chosen, but for what was [given up](Self::concessions).
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Once the weights are there, and before anything runs: those that do not stay on the GPU, where the others are, and what is never
    /// given up.
    pub(crate) fn set_loaded(&mut self, offloaded: Option<Offloaded>, arrangement: Arrangement, settled: Settled) {
        self.loaded = Loaded { offloaded, arrangement: Some(arrangement) };
        self.settled = settled;
    }

    /// All weights that were asked for.
    pub(crate) fn made(&self) -> &[Made] {
        self.loaded.arrangement.as_ref().map_or(&[], Arrangement::made)
    }

    /// All weights as a file.
    pub(crate) fn image(&mut self) -> Image<'_> {
        let Loaded { offloaded, arrangement } = &mut self.loaded;
        let made = arrangement.as_ref().map_or(&[][..], Arrangement::made);
        Image::new(&self.device, made, offloaded.as_mut())
    }

    /// Bytes of a weight's buffer, of a layer that is brought if it does not stay.
    pub(crate) fn offloaded_mut(&mut self) -> Option<&mut Offloaded> {
        self.loaded.offloaded.as_mut()
    }

    /// The most positions of a sequence.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context as usize
    }

    /// V.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.config.vocab_size
    }

    /// Width of the last hidden state: D in most models.
    #[must_use]
    pub fn hidden_size(&self) -> u32 {
        self.config.embedding.size
    }

    /// The tokens of the sequence that ended last whose keys and values are in the cache: a prompt that begins with them does not
    /// compute them again, as long as nobody needs the room.
    #[must_use]
    pub fn cached(&self) -> &[u32] {
        &self.cached
    }

    /// Forgets what ended sequences left in the cache; its memory stays.
    pub fn reset(&mut self) {
        self.cached.clear();
        self.blocks.clear();
    }

    /// Sets the most tokens of prompts that one step takes.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] outside 1 to 65536, or while sequences run.
    pub fn set_prefill_chunk(&mut self, chunk: u32) -> Result<(), Error> {
        check_chunk(chunk)?;
        let chunk = cache_chunk(chunk, self.precision.cache, self.policy);
        if chunk == self.chunk {
            return Ok(());
        }
        if !self.sequences.is_empty() {
            let (name, expected) = ("prefill_chunk", "what it was, while sequences run");
            return Err(GenerateError::Setting { name, got: chunk.to_string(), expected }.into());
        }
        self.chunk = chunk;
        let limits = Limits { sequences: MAX_SLOTS, chunk, burst: MAX_BURST as u32 };
        self.scheduler = Scheduler::new(self.scheduler.strategy(), limits);
        self.release();
        Ok(())
    }

    /// Drops the cache, all that is in it, and all programs.
    pub(super) fn release(&mut self) {
        self.cached.clear();
        self.programs.clear();
        self.workspace = None;
        self.history = None;
        self.arena = Arena::default();
        self.blocks = Self::no_blocks(&self.config, self.precision, self.policy);
        self.batch.forget();
        self.under_way = None;
    }

    pub(super) fn check_ids(&self, ids: &[u32]) -> Result<(), GenerateError> {
        if ids.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if ids.len() > self.context as usize {
            return Err(GenerateError::PromptTooLong { tokens: ids.len(), context: self.context as usize });
        }
        match ids.iter().find(|&&id| id >= self.config.vocab_size) {
            Some(&id) => Err(GenerateError::TokenOutOfRange { id, vocab: self.config.vocab_size }),
            None => Ok(()),
        }
    }

    /// Whether there is room for a sequence of so many positions, for so many in all, and for so many slots.
    pub(super) fn has_room(&self, positions: usize, cache: usize, slots: u32) -> bool {
        self.workspace.as_ref().is_some_and(|w| {
            let Room { positions: p, cache: c, slots: s, .. } = w.room;
            p as usize >= positions && c as usize >= cache && s >= slots
        })
    }

    /// Makes such room: memory follows what is asked for, not the longest context. Nothing may be under way, and all slots have to be
    /// told anew.
    pub(super) fn make_room(&mut self, positions: usize, cache: usize, slots: u32) -> Result<(), Error> {
        let one = self.kept(self.context as usize) as u32;
        let one = one.next_multiple_of(BLOCK);
        let round = |wanted: usize, most: u32, spare: bool| {
            let wanted = u32::try_from(wanted).unwrap_or(u32::MAX >> 1);
            let wanted = if spare { wanted.next_power_of_two() } else { wanted.next_multiple_of(BLOCK) };
            wanted.max(MIN_LIVE).min(most)
        };
        let before = self.workspace.as_ref().map(|w| w.room);
        let at_least = |of: fn(&Room) -> u32| before.as_ref().map_or(0, of);
        let room = |spare| Room {
            positions: round(positions, one, spare).max(at_least(|r| r.positions)),
            cache: if cache <= one as usize {
                round(cache, one, spare)
            } else {
                round(cache, self.most_blocks() * BLOCK, spare)
            }
            .max(at_least(|r| r.cache)),
            slots: slots.next_power_of_two().max(at_least(|r| r.slots)),
            rows: cache_rows(self.chunk, self.policy),
        };
        let rooms = [room(true), room(false)];
        let mut grown = self.new_workspace(rooms[0]);
        if matches!(grown, Err(DeviceError::OutOfMemory { .. })) && self.workspace.is_some() && self.is_idle() {
            // not both at once: what is cached has to be computed again
            self.release();
            grown = self.new_workspace(rooms[0]);
        }
        if matches!(grown, Err(DeviceError::OutOfMemory { .. })) {
            // nothing to spare for what may come
            grown = self.new_workspace(rooms[1]);
        }
        let grown = grown?;
        if let Some(before) = &self.workspace {
            let mut encoder = self.device.encoder();
            grown.cache.copy_from(&before.cache, &mut encoder);
            // what was found, and nobody has heard of
            encoder.copy_buffer_to_buffer(before.step.overflow.wgpu(), 0, grown.step.overflow.wgpu(), 0, 4);
            self.device.submit(encoder);
        }
        for (group, pool) in grown.cache.pools().iter().enumerate() {
            self.blocks.set_capacity(Pool::Main(group), pool.blocks);
            self.blocks.set_capacity(Pool::Hot(group), pool.hot_blocks);
        }
        self.programs.clear();
        self.history = None;
        self.workspace = Some(grown);
        self.batch.forget();
        Ok(())
    }

    /// Whether no sequence has anything in the cache.
    fn is_idle(&self) -> bool {
        self.sequences.values().all(|sequence| sequence.place.is_none() && sequence.forked.is_none())
    }

    fn new_workspace(&self, room: Room) -> Result<Workspace, DeviceError> {
        let memory = Memory::Device(&self.device);
        let (layout, pools) = cache_plan(&self.config, self.precision.cache, self.policy, &room);
        Workspace::new(memory, &self.config, (layout, &pools), &self.regimes, room)
    }

    /// Compiles the kernels of prompts that are no longer than `WARM_PROMPT`, and of decoding.
    ///
    /// # Errors
    /// Those of the device.
    pub fn warm_up(&mut self) -> Result<(), Error> {
        let positions = MIN_LIVE.min(self.context) as usize;
        self.make_room(positions, positions, 1)?;
        for rows in [1, WARM_PROMPT.min(self.chunk)] {
            self.program(self.key(Phase::Sample, false, rows, 1, MIN_LIVE))?;
        }
        Ok(())
    }

    /// Blocks of positions that the cache may grow to: as one sequence may, or more within 1 GiB and what a binding shows.
    pub(super) fn most_blocks(&self) -> u32 {
        let shape = CacheShape::of(&self.config, self.precision.cache, self.policy, self.chunk);
        let of_one = self.kept(self.context as usize) as u32;
        let selected = self.policy.selected().unwrap_or(0).min(of_one);
        shape.capacity(self.device.max_binding()).max(of_one).div_ceil(BLOCK) + selected.div_ceil(BLOCK)
    }

    /// Positions of so many that the cache holds at most.
    pub(super) fn kept(&self, positions: usize) -> usize {
        positions.min(self.policy.most().map_or(usize::MAX, |most| most as usize))
    }

    /// The regimes of rotary frequencies of a sequence of so many positions.
    pub(super) fn regimes_of(&self, length: usize) -> Vec<u32> {
        let length = self.kept(length);
        self.config.ropes.iter().map(|rope| rope.regime(length as u32)).collect()
    }

    /// Gives ropes other frequencies, for what is submitted from now on. What ended sequences left was rotated by others, and is
    /// forgotten.
    pub(super) fn set_regimes(&mut self, regimes: &[u32]) {
        if self.regimes == regimes {
            return;
        }
        if let Some(workspace) = &self.workspace {
            for ((config, rope), &regime) in self.config.ropes.iter().zip(&workspace.ropes).zip(regimes) {
                let table = config.table(self.config.heads.rotary, workspace.room.positions, regime);
                rope.write(&self.device, &table);
            }
        }
        self.regimes = regimes.to_vec();
        for place in self.sequences.values_mut().filter_map(|sequence| sequence.forked.take()) {
            self.blocks.forget(place);
        }
        self.reset();
    }

    /// The longest sequence that needs no other frequencies than one of `length` positions.
    pub(super) fn reach(&self, length: usize) -> usize {
        if self.policy.moves() {
            return usize::MAX >> 1;
        }
        let reach = self.config.ropes.iter().map(|rope| rope.reach(length as u32)).min();
        reach.unwrap_or(u32::MAX) as usize
    }

    pub(super) fn workspace(&self) -> &Workspace {
        self.workspace.as_ref().expect("room is made before anything else")
    }

    /// Drops a history that has no room for `length` tokens of a sequence: whether there was one. Cache positions do not bound that
    /// where old ones are dropped.
    pub(super) fn drop_short_history(&mut self, length: usize) -> bool {
        let is_short = self.history.take_if(|history| (history.positions as usize) < length).is_some();
        if is_short {
            self.programs.clear();
        }
        is_short
    }

    /// Whether there is a [`history`](Self::history) already.
    pub(super) fn has_history(&self) -> bool {
        self.history.is_some()
    }

    /// The tokens so far, as processors read them on the GPU: made with room for `length` and for all of every sequence.
    pub(super) fn history(&mut self, length: usize) -> Result<&History, DeviceError> {
        if self.history.is_none() {
            let Room { positions, slots, .. } = self.workspace().room;
            let longest = self.sequences.values().map(|s| s.prompt + s.limit).max().unwrap_or(0).max(length);
            let positions = positions.max((longest as u32).next_power_of_two());
            self.history = Some(History::new(&self.device, self.config.vocab_size, positions, slots)?);
        }
        Ok(self.history.as_ref().expect("it was just made"))
    }
}

fn check_chunk(chunk: u32) -> Result<(), GenerateError> {
    if (1..=1 << 16).contains(&chunk) {
        return Ok(());
    }
    let (name, expected) = ("prefill_chunk", "a number from 1 to 65536");
    Err(GenerateError::Setting { name, got: chunk.to_string(), expected })
}
