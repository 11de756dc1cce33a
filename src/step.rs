//! What changes from one step to the next, on the GPU: [`shaders::Step`] and what goes with it.

use crate::device::{Buffer, Category, Device, Memory};
use crate::error::DeviceError;
use crate::shaders;

/// Turns that [`Step::ring`] holds: twice the longest lookahead.
pub const RING: u32 = 256;
/// Positions in one block of the cache, as `shaders/shared/step.wgsl` has it.
pub const BLOCK: u32 = 32;

/// Rows of a slot in one step at most where drafts are verified: its last token, and as many drafts less one.
pub const MAX_EACH: u32 = 32;
/// The least of what stands in [`Step::ring`] where no id does: here a draft was not accepted, ...
pub const REJECTED: u32 = u32::MAX - 1;
/// ... and here there was none.
pub const NO_DRAFT: u32 = u32::MAX;

/// Sequences of one step, as `shaders/shared/step.wgsl` has it.
pub const MAX_SLOTS: u32 = 64;

/// The GPU's side of the sequences that run together: how far each is, which tokens come next, how they are sampled.
#[derive(Clone, Debug)]
pub struct Step {
    /// [`shaders::Step`], [`MAX_SLOTS`] [`shaders::Slot`]s, then the page tables.
    pub state: Buffer,
    /// [`shaders::Row`]s of this step; the sampler of a slot writes its next one, to the slot's number.
    pub rows: Buffer,
    /// Sampled ids of each turn and slot, turn `n` at `n % ring_len`: `[ring_len, B]`. Where drafts are verified, as many turns fewer as
    /// a slot's turn has places more: `[ring_len / each, B, each]`.
    pub ring: Buffer,
    /// Of each slot: [`shaders::Sampling`], then [`MAX_EOS`] end-of-sequence ids.
    pub sampling: Buffer,
    /// What the finite check of any step so far has found: the least number of a [`Site`](crate::site::Site), all ones while there is none.
    pub overflow: Buffer,
    /// Turns that the ring holds.
    pub ring_len: u32,
    /// Slots that there is room for.
    pub slots: u32,
    /// Blocks that one page table of one slot has room for.
    pub pages: u32,
}

/// Bytes of the fixed part of the step state, and of what precedes the page tables.
const HEADER: u64 = size_of::<shaders::Step>() as u64;
const SLOT: u64 = size_of::<shaders::Slot>() as u64;
const PAGES: u64 = HEADER + MAX_SLOTS as u64 * SLOT;
/// Bytes of one slot's sampling.
const SAMPLING: u64 = size_of::<shaders::Sampling>() as u64 + 4 * MAX_EOS as u64;
/// End-of-sequence ids that there is room for.
pub const MAX_EOS: usize = 64;

/// What a step has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    /// Rows at once.
    pub rows: u32,
    /// Slots, at most [`MAX_SLOTS`].
    pub slots: u32,
    /// Page tables that each slot has: one for each pool of the cache.
    pub tables: u32,
    /// Blocks in each of them.
    pub pages: u32,
    /// Turns whose sampled ids are kept until they are read back.
    pub ring: u32,
}

impl Step {
    /// State with that much room, and nothing written but that no overflow was found.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(memory: Memory<'_>, size: StepSize) -> Result<Self, DeviceError> {
        let StepSize { rows, slots, tables, pages, ring } = size;
        let new = |label, bytes: u64| memory.storage(label, Category::Activations, bytes);
        let of_each = |count: u32| 4 * u64::from(slots) * u64::from(count);
        let step = Self {
            state: new("step", PAGES + of_each(pages) * u64::from(tables))?,
            rows: new("rows", u64::from(rows.max(slots)) * size_of::<shaders::Row>() as u64)?,
            ring: new("sampled ids", of_each(ring))?,
            sampling: new("sampling", SAMPLING * u64::from(slots))?,
            overflow: new("overflow", 4)?,
            ring_len: ring,
            slots,
            pages,
        };
        if let Memory::Device(device) = memory {
            device.write(&step.overflow, 0, &u32::MAX.to_le_bytes());
        }
        Ok(step)
    }

    /// Where table number `table` begins, among the words of the page tables: what kernels add a slot's own offset to.
    #[must_use]
    pub fn table(&self, table: u32) -> u32 {
        table * self.slots * self.pages
    }

    /// Maps logical cache blocks of a slot, number `begin` and those after it, to physical ones.
    pub fn set_pages(&self, device: &Device, table: u32, slot: u32, begin: u32, pages: &[u32]) {
        let at = u64::from(self.table(table)) + u64::from(slot * self.pages + begin);
        device.write(&self.state, PAGES + 4 * at, bytemuck::cast_slice(pages));
    }

    /// Sets the slots before the next submit, each with its rows, which follow each other. This is how a sequence is rolled back, too.
    pub fn set(&self, device: &Device, slots: &[shaders::Slot]) {
        let mut rows = 0;
        let placed = slots.iter().map(|slot| {
            let first = rows;
            rows += slot.rows;
            shaders::Slot { first, ..*slot }
        });
        let placed: Vec<_> = placed.collect();
        self.set_header(device, rows, slots.len() as u32, 0);
        device.write(&self.state, HEADER, bytemuck::cast_slice(&placed));
    }

    /// Sets how many rows and slots the next step has, and of which slot it is [observed](crate::ops::observe) what its prompt ends with,
    /// where the program does that.
    pub fn set_header(&self, device: &Device, rows: u32, slots: u32, observed: u32) {
        let header = shaders::Step { rows, slots, pages_each: self.pages, observed };
        device.write(&self.state, 0, bytemuck::bytes_of(&header));
    }

    /// Sets one slot before the next submit, whatever the others do.
    pub fn set_slot(&self, device: &Device, slot: u32, state: &shaders::Slot) {
        device.write(&self.state, HEADER + SLOT * u64::from(slot), bytemuck::bytes_of(state));
    }

    /// Sets how many leading tokens of a slot the cache has dropped, before the next submit, however far the slot is.
    pub fn set_dropped(&self, device: &Device, slot: u32, dropped: u32) {
        let at = std::mem::offset_of!(shaders::Slot, dropped) as u64;
        device.write(&self.state, HEADER + SLOT * u64::from(slot) + at, &dropped.to_le_bytes());
    }

    /// Sets rows of the next step, from number `first` on.
    pub fn set_rows(&self, device: &Device, first: u32, rows: &[shaders::Row]) {
        let at = u64::from(first) * size_of::<shaders::Row>() as u64;
        device.write(&self.rows, at, bytemuck::cast_slice(rows));
    }

    /// Writes the tokens of the next step, slot after slot.
    pub fn set_ids<'a>(&self, device: &Device, slots: impl IntoIterator<Item = &'a [u32]>) {
        let of_slot = |(slot, ids): (u32, &'a [u32])| ids.iter().map(move |&id| shaders::Row { id, slot });
        self.set_rows(device, 0, &(0..).zip(slots).flat_map(of_slot).collect::<Vec<_>>());
    }

    /// Sets how a slot's tokens are sampled and which of them end the sequence (at most [`MAX_EOS`], the rest is ignored).
    pub fn set_sampling(&self, device: &Device, slot: u32, sampling: shaders::Sampling, eos: &[u32]) {
        let eos = &eos[..eos.len().min(MAX_EOS)];
        let sampling = shaders::Sampling { eos_count: eos.len() as u32, ..sampling };
        let at = SAMPLING * u64::from(slot);
        device.write(&self.sampling, at, bytemuck::bytes_of(&sampling));
        device.write(&self.sampling, at + size_of::<shaders::Sampling>() as u64, bytemuck::cast_slice(eos));
    }

    /// The slots of the next step, as the GPU has them.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub async fn read_slots(&self, device: &Device) -> Result<Vec<shaders::Slot>, DeviceError> {
        let bytes = device.read(&self.state, 0..PAGES).await?;
        let (header, slots) = bytes.split_at(HEADER as usize);
        let header: shaders::Step = bytemuck::pod_read_unaligned(header);
        let slots = slots.chunks_exact(SLOT as usize).map(bytemuck::pod_read_unaligned);
        Ok(slots.take(header.slots as usize).collect())
    }

    /// Where the slots' state is in [`state`](Self::state), in bytes: what is read back to see how far they are.
    #[must_use]
    pub fn slot_bytes(slots: u32) -> std::ops::Range<u64> {
        HEADER..HEADER + SLOT * u64::from(slots)
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

/// What processors know of each slot's tokens so far, on the GPU; the sampler goes on with it.
#[derive(Clone, Debug)]
pub struct History {
    /// The tokens so far, by position: `[B, positions]`.
    pub ids: Buffer,
    /// [`token`]'s flags and counts: `[B, V]`.
    pub tokens: Buffer,
    /// What is added to each logit: `[B, V]`, f32.
    pub bias: Buffer,
    /// Of each slot, how many sequences have a bias; for each where its ids begin, their number and the bias as bits; the ids:
    /// `[B, MAX_SEQUENCE_WORDS]`.
    pub sequences: Buffer,
    /// Positions of each slot that there is room for.
    pub positions: u32,
    vocab: u32,
}

impl History {
    /// Room for `positions` tokens of a vocabulary of `vocab` in each of `slots` slots.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, vocab: u32, positions: u32, slots: u32) -> Result<Self, DeviceError> {
        let new = |label, words: u64| device.storage(label, Category::Activations, u64::from(slots) * words * 4);
        Ok(Self {
            ids: new("token history", u64::from(positions))?,
            tokens: new("token counts", u64::from(vocab))?,
            bias: new("logit bias", u64::from(vocab))?,
            sequences: new("sequence bias", MAX_SEQUENCE_WORDS as u64)?,
            positions,
            vocab,
        })
    }

    /// What one slot takes.
    #[must_use]
    pub fn bytes(vocab: u32, positions: u32) -> u64 {
        4 * (u64::from(positions) + 2 * u64::from(vocab) + MAX_SEQUENCE_WORDS as u64)
    }

    /// Sets everything of a slot before the next submit: this is how a generation begins, and how one is rolled back.
    pub fn set(&self, device: &Device, slot: u32, ids: &[u32], tokens: &[u32], bias: &[f32], sequences: &[u32]) {
        let at = |each: u32| 4 * u64::from(slot) * u64::from(each);
        device.write(&self.ids, at(self.positions), bytemuck::cast_slice(ids));
        device.write(&self.tokens, at(self.vocab), bytemuck::cast_slice(tokens));
        device.write(&self.bias, at(self.vocab), bytemuck::cast_slice(bias));
        device.write(&self.sequences, at(MAX_SEQUENCE_WORDS as u32), bytemuck::cast_slice(sequences));
    }
}
