//! What a model needs besides its weights to run sequences.

use super::DecoderConfig;
use crate::device::Buffer;
use crate::device::Memory;
use crate::error::DeviceError;
use crate::nn::{CacheLayout, KvCache, Pool, Rope, Selection};
use crate::step::{BLOCK, MAX_EACH, RING, Step, StepSize};

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Positions of one sequence.
    pub positions: u32,
    /// Positions of all sequences together, in whole blocks.
    pub cache: u32,
    /// Sequences in one step.
    pub slots: u32,
    /// Rows in one step.
    pub rows: u32,
}

/// Step, cache and rotations.
#[derive(Debug)]
pub struct Workspace {
    /// How far sequences are, and what comes next.
    pub step: Step,
    /// Their keys and values.
    pub cache: KvCache,
    /// What blocks are copied through.
    pub passage: Buffer,
    /// Chooses what is kept of long prompts, where the layout says so.
    pub selection: Option<Selection>,
    /// Of each of the config's ropes: cosines and sines.
    pub ropes: Vec<Rope>,
    /// What it has room for.
    pub room: Room,
}

impl Workspace {
    /// With that much room, and a cache of that layout and those pools. `regimes`: of each rope.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn new(
        memory: Memory<'_>,
        c: &DecoderConfig,
        (layout, pools): (CacheLayout, &[Pool]),
        regimes: &[u32],
        room: Room,
    ) -> Result<Self, DeviceError> {
        let kept = layout.kept;
        let cache = KvCache::new(memory, layout, pools)?;
        let passage = cache.passage(memory)?;
        let Room { positions, slots, .. } = room;
        let rows = room.rows.next_power_of_two() + slots * MAX_EACH;
        let pages = positions.div_ceil(BLOCK);
        let step = Step::new(memory, StepSize { rows, slots, tables: cache.tables(), pages, ring: RING })?;
        let selection = (kept > 0).then(|| Selection::new(memory, &cache, kept, pages)).transpose()?;
        let ropes = c.ropes.iter().zip(regimes).map(|(rope, &regime)| match memory {
            Memory::Device(device) => Rope::new(device, &rope.table(c.heads.rotary, positions, regime), rope.layout()),
            // a plan has no use for what is in it
            Memory::Plan(_) => Rope::within(memory, rope.entries(c.heads.rotary, positions), rope.layout()),
        });
        let ropes = ropes.collect::<Result<_, _>>()?;
        Ok(Self { step, cache, passage, selection, ropes, room })
    }
}
