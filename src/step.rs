//! What changes from one step to the next, on the GPU: [`shaders::Step`] and what goes with it.

use crate::device::{Buffer, Category, Device};
use crate::error::DeviceError;
use crate::shaders;

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
        let new = |label, words: u64| device.storage(label, Category::Activations, words * 4);
        let step = Self {
            state: new("step", HEADER / 4 + u64::from(pages))?,
            ids: new("token ids", u64::from(rows))?,
            ring: new("sampled ids", u64::from(ring_len))?,
            sampling: new("sampling", size_of::<shaders::Sampling>() as u64 / 4 + MAX_EOS as u64)?,
            ring_len,
            pages,
        };
        step.set_pages(device, &(0..pages).collect::<Vec<_>>());
        Ok(step)
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
