use crate::device::{Buffer, Category, Device, Memory};
use crate::error::DeviceError;
use crate::graph::Graph;
use crate::nn::KvCache;
use crate::ops::{self, AttentionParams, Heads, LayerKv, OBSERVED, Result};
use crate::shaders::{Row, Slot};
use crate::step::{BLOCK, Step, StepSize};
use crate::tensor::Tensor;

/// What is kept of a long prompt, for each layer and key head (SnapKV: Li et al. 2024), and how it comes into blocks of its own.
#[derive(Debug)]
pub struct Selection {
    /// The positions that every layer and key head chose, `[layers, K, kept - OBSERVED]`; the last ones are kept in any case.
    chosen: Buffer,
    /// Positions that are kept, the last ones included.
    kept: u32,
    /// Where they are put in slot 0, where they are taken from in slot 1: other steps go on beside it.
    step: Step,
    /// Positions that one [`gather`](Self::gather) takes.
    rows: u32,
}

impl Selection {
    /// Of `kept` positions of a cache whose sequences have `pages` blocks at most.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(memory: Memory<'_>, cache: &KvCache, kept: u32, pages: u32) -> Result<Self, DeviceError> {
        let layout = cache.layout();
        let words = layout.groups.len() as u64 * u64::from(layout.heads.kv_heads) * u64::from(kept - OBSERVED);
        // what a step writes is in 16 bits first
        let blocks = if layout.dtype.bits().is_some() { 4 } else { 16 };
        let rows = (blocks * BLOCK).min(kept);
        let size = StepSize { rows, slots: 2, tables: cache.tables(), pages, ring: 1 };
        Ok(Self {
            chosen: memory.storage("positions that are kept", Category::Activations, 4 * words)?,
            kept,
            step: Step::new(memory, size)?,
            rows,
        })
    }

    /// Positions that are kept, the last ones included.
    #[must_use]
    pub fn kept(&self) -> u32 {
        self.kept
    }

    /// Positions that one [`gather`](Self::gather) takes at most.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Where those of a layer begin in `chosen`, in words.
    fn first(&self, layer: usize, heads: &Heads) -> u32 {
        layer as u32 * heads.kv_heads * (self.kept - OBSERVED)
    }

    /// Chooses what one layer keeps, at the end of the prompt of the slot that the step's header names. `q`: `[T, H E]`.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn select(
        &self,
        g: &mut Graph<'_>,
        q: &Tensor,
        (layer, kv): (usize, &LayerKv),
        params: &AttentionParams,
        step: &Step,
    ) -> Result<()> {
        let sums = ops::observe(g, q, kv, params, step)?; // [K, S]
        ops::select_keys(g, &sums, &self.chosen, self.first(layer, &params.heads), self.kept, step)
    }

    /// Puts keys and values of all layers that [`tell`](Self::tell) names into their blocks.
    ///
    /// # Errors
    /// [`ops::RecordError`]
    pub fn gather(&self, g: &mut Graph<'_>, cache: &KvCache) -> Result<()> {
        let heads = cache.layout().heads;
        // rows of keys and values, without queries
        let appended = Heads { heads: 0, ..heads };
        for (layer, kv) in cache.layers().iter().enumerate() {
            let chosen = (&self.chosen, self.first(layer, &heads), self.kept);
            let rows = ops::gather_cache(g, &heads, kv, chosen, self.rows, &self.step)?; // [T, 2 K E]
            ops::rope_append(g, &rows, &appended, None, kv, &self.step)?;
            ops::quantize_cache(g, &heads, kv, self.rows, 1, &self.step)?;
        }
        Ok(())
    }

    /// Tells what the next [`gather`](Self::gather) takes: `rows` of the kept positions from number `first` on, of a prompt of `tokens`
    /// tokens. `tables`: page tables that find what is written, and the prompt.
    pub fn tell(&self, device: &Device, first: u32, rows: u32, tokens: u32, [to, prompt]: [&[Vec<u32>]; 2]) {
        let into = Slot { position: first, rows, ..Slot::default() };
        // no rows are of the prompt itself
        let prompt_slot = Slot { position: tokens, done: 1, ..Slot::default() };
        self.step.set(device, &[into, prompt_slot]);
        self.step.set_rows(device, 0, &vec![Row { id: 0, slot: 0 }; rows as usize]);
        for (slot, tables) in [(0, to), (1, prompt)] {
            for (table, pages) in (0..).zip(tables) {
                self.step.set_pages(device, table, slot, 0, pages);
            }
        }
    }
}
