//! What changes from one step to the next, on the GPU: [`shaders::Step`] and what goes with it.

use crate::device::{Buffer, Category, Device, Memory};
use crate::error::DeviceError;
use crate::shaders;

/// Sampled ids that [`Step::ring`] holds: twice the longest lookahead.
pub const RING: u32 = 256;
/// Positions in one block of the cache, as `shaders/shared/step.wgsl` has it.
pub const BLOCK: u32 = 32;

/// The GPU's side of one sequence: how far it is, which tokens come next, how they are sampled.
#[derive(Clone, Debug)]
pub struct Step {
    /// [`shaders::Step`], then the page table.
    pub state: Buffer,
    /// Token ids of the rows of this step; the sampler writes the next one to the front.
    pub ids: Buffer,
    /// Sampled ids, number `n` at `n % ring_len`.
    pub ring: Buffer,
    /// [`shaders::Sampling`], then the end-of-sequence ids.
    pub sampling: Buffer,
    /// Ids that the ring holds.
    pub ring_len: u32,
    /// Blocks that the page table has room for.
    pub pages: u32,
}

/// Bytes of the fixed part of the step state.
const HEADER: u64 = size_of::<shaders::Step>() as u64;
/// End-of-sequence ids that there is room for.
pub const MAX_EOS: usize = 64;

impl Step {
    /// State for `rows` tokens at once, `pages` cache blocks (identity page table) and a ring of `ring_len` ids.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, rows: u32, pages: u32, ring_len: u32) -> Result<Self, DeviceError> {
        let step = Self::within(Memory::Device(device), rows, pages, ring_len)?;
        step.set_pages(device, &(0..pages).collect::<Vec<_>>());
        Ok(step)
    }

    /// As [`new`](Self::new), with nothing written.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn within(memory: Memory<'_>, rows: u32, pages: u32, ring_len: u32) -> Result<Self, DeviceError> {
        let new = |label, words: u64| memory.storage(label, Category::Activations, words * 4);
        Ok(Self {
            state: new("step", HEADER / 4 + u64::from(pages))?,
            ids: new("token ids", u64::from(rows))?,
            ring: new("sampled ids", u64::from(ring_len))?,
            sampling: new("sampling", size_of::<shaders::Sampling>() as u64 / 4 + MAX_EOS as u64)?,
            ring_len,
            pages,
        })
    }

    /// Maps logical cache blocks to physical ones, from the first on.
    pub fn set_pages(&self, device: &Device, pages: &[u32]) {
        device.write(&self.state, HEADER, bytemuck::cast_slice(pages));
    }

    /// Sets position, rows, stop flag and count before the next submit. This is how a sequence is rolled back, too.
    pub fn set(&self, device: &Device, state: &shaders::Step) {
        device.write(&self.state, 0, bytemuck::bytes_of(state));
    }

    /// Writes the tokens of the next step.
    pub fn set_ids(&self, device: &Device, ids: &[u32]) {
        device.write(&self.ids, 0, bytemuck::cast_slice(ids));
    }

    /// Sets how tokens are sampled and which of them end the sequence (at most [`MAX_EOS`], the rest is ignored).
    pub fn set_sampling(&self, device: &Device, sampling: shaders::Sampling, eos: &[u32]) {
        let eos = &eos[..eos.len().min(MAX_EOS)];
        let sampling = shaders::Sampling { eos_count: eos.len() as u32, ..sampling };
        device.write(&self.sampling, 0, bytemuck::bytes_of(&sampling));
        device.write(&self.sampling, size_of::<shaders::Sampling>() as u64, bytemuck::cast_slice(eos));
    }
}

/// Flags and counts of a token, as `shaders/shared/history.wgsl` has them.
pub mod token {
    /// It stands in the prompt.
    pub const SEEN: u32 = 1 << 31;
    /// It is never chosen.
    pub const FORBIDDEN: u32 = 1 << 30;
    /// It ends a sequence.
    pub const ENDS: u32 = 1 << 29;
    /// The bits that count how often it was generated.
    pub const TIMES: u32 = ENDS - 1;
}

/// Sequences of several tokens that may have a bias, as `shaders/penalize.wgsl` has it.
pub const MAX_SEQUENCES: usize = 512;
/// Words that their table may take: the number of them, three words for each, their ids.
pub const MAX_SEQUENCE_WORDS: usize = 8192;

/// What processors know of the tokens so far, on the GPU; the sampler goes on with it.
#[derive(Clone, Debug)]
pub struct History {
    /// The tokens so far, by position: `[S]`.
    pub ids: Buffer,
    /// [`token`]'s flags and counts: `[V]`.
    pub tokens: Buffer,
    /// What is added to each logit: `[V]`, f32.
    pub bias: Buffer,
    /// How many sequences have a bias; for each where its ids begin, their number and the bias as bits; the ids.
    pub sequences: Buffer,
}

impl History {
    /// Room for `positions` tokens of a vocabulary of `vocab`.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, vocab: u32, positions: u32) -> Result<Self, DeviceError> {
        let new = |label, words: u64| device.storage(label, Category::Activations, words * 4);
        Ok(Self {
            ids: new("token history", u64::from(positions))?,
            tokens: new("token counts", u64::from(vocab))?,
            bias: new("logit bias", u64::from(vocab))?,
            sequences: new("sequence bias", MAX_SEQUENCE_WORDS as u64)?,
        })
    }

    /// What that takes.
    #[must_use]
    pub fn bytes(vocab: u32, positions: u32) -> u64 {
        4 * (u64::from(positions) + 2 * u64::from(vocab) + MAX_SEQUENCE_WORDS as u64)
    }

    /// Sets everything before the next submit: this is how a generation begins, and how one is rolled back.
    pub fn set(&self, device: &Device, ids: &[u32], tokens: &[u32], bias: &[f32], sequences: &[u32]) {
        device.write(&self.ids, 0, bytemuck::cast_slice(ids));
        device.write(&self.tokens, 0, bytemuck::cast_slice(tokens));
        device.write(&self.bias, 0, bytemuck::cast_slice(bias));
        device.write(&self.sequences, 0, bytemuck::cast_slice(sequences));
    }
}
