//! What a model needs for one sequence besides its weights.

use super::DecoderConfig;
use crate::device::Memory;
use crate::error::DeviceError;
use crate::nn::{KvCache, Rope};
use crate::step::{RING, Step, StepSize};
use crate::tensor::Elem;

/// Step, cache and rotations, which depend on how many positions there is room for.
#[derive(Debug)]
pub struct Sequence {
    /// How far it is, and what comes next.
    pub step: Step,
    /// Its keys and values.
    pub cache: KvCache,
    /// Of each of the config's ropes: cosines and sines.
    pub ropes: Vec<Rope>,
}

impl Sequence {
    /// Room for `positions` positions whose keys and values are of `elem`, and for steps of `rows` rows. `regimes`: of each rope.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn new(
        memory: Memory<'_>,
        c: &DecoderConfig,
        elem: Elem,
        regimes: &[u32],
        positions: u32,
        rows: u32,
    ) -> Result<Self, DeviceError> {
        let cache = KvCache::new(memory, c.layers.len() as u32, &c.heads, elem, positions)?;
        let (rows, positions) = (rows.next_power_of_two(), cache.positions());
        let step = Step::new(memory, StepSize { rows, slots: 1, tables: 1, pages: cache.blocks(), ring: RING })?;
        if let Memory::Device(device) = memory {
            step.set_pages(device, 0, 0, 0, &(0..cache.blocks()).collect::<Vec<_>>());
        }
        let ropes = c.ropes.iter().zip(regimes).map(|(rope, &regime)| match memory {
            Memory::Device(device) => Rope::new(device, &rope.table(c.heads.rotary, positions, regime), rope.layout()),
            // a plan has no use for what is in it
            Memory::Plan(_) => Rope::within(memory, rope.entries(c.heads.rotary, positions), rope.layout()),
        });
        let ropes = ropes.collect::<Result<_, _>>()?;
        Ok(Self { step, cache, ropes })
    }
}
