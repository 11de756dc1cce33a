//! Layers that do not stay on the GPU: they are kept elsewhere, as they lie there, and pass through two slots in turn, so that one comes
//! while the one before it is computed.
//!
//! A slot has a buffer for each that a layer has, as large as the largest of them, so that the layers' programs bind the same buffers again
//! and again. Layer `n` of those that do not stay sits in slot `n % 2`.

use std::collections::VecDeque;

use super::Weights;
use crate::device::{Buffer, Category, Device, Memory, READBACK_MS, Readback};
use crate::error::{DeviceError, Error};
use crate::source::Scratch;

/// Bytes read back, or written, at once.
const PIECE: u64 = 4 << 20;
/// What the ledger calls bytes that wgpu holds until the GPU has them.
const WAY: &str = "a layer on its way";

/// Which layers stay on the GPU, and what the others pass through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffloadLayout {
    /// Layers that stay: the first ones.
    pub resident: usize,
    /// Layers that do not.
    pub offloaded: usize,
    /// Bytes of each buffer of a slot.
    pub slot: Vec<u64>,
    /// Bytes that may be on their way to slots at once, beside them: at least a [`piece`](Self::piece).
    pub under_way: u64,
}

impl OffloadLayout {
    /// Of a model whose layers have buffers of so many bytes each ([`Weights::layers`]), the first `resident` of which stay. `None`
    /// where all do.
    #[must_use]
    pub fn new(resident: usize, layers: &[Vec<u64>], under_way: u64) -> Option<Self> {
        let offloaded = layers.get(resident..).filter(|layers| !layers.is_empty())?;
        let mut slot = vec![0; offloaded.iter().map(Vec::len).max().unwrap_or(0)];
        for layer in offloaded {
            slot.iter_mut().zip(layer).for_each(|(most, bytes)| *most = (*most).max(*bytes));
        }
        let mut layout = Self { resident, offloaded: offloaded.len(), slot, under_way };
        layout.under_way = under_way.max(layout.piece());
        Some(layout)
    }

    /// Bytes that are written, or read back, at once.
    #[must_use]
    pub fn piece(&self) -> u64 {
        self.slot.iter().copied().max().unwrap_or(0).min(PIECE)
    }

    /// Bytes of one slot.
    #[must_use]
    pub fn slot_bytes(&self) -> u64 {
        self.slot.iter().sum()
    }

    /// How many slots there are: two, or one for one layer.
    #[must_use]
    pub fn slots(&self) -> u64 {
        self.offloaded.min(2) as u64
    }
}

/// The slots while weights are asked for.
#[derive(Debug)]
pub(super) struct Slots {
    pub layout: OffloadLayout,
    buffers: [Vec<Buffer>; 2],
    pub layers: Vec<Layer>,
}

/// A layer that does not stay.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// Its buffers, which others have, too, and how many bytes it has in each.
    pub buffers: Vec<(Buffer, u64)>,
    /// What is known of some of them before anything is read.
    pub known: Vec<(Buffer, Vec<u32>)>,
    /// Where it is kept.
    pub at: u64,
    /// Whether it is, as far as it was read.
    pub kept: bool,
}

impl Layer {
    fn bytes(&self) -> u64 {
        self.buffers.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Slots {
    pub fn new(layout: OffloadLayout) -> Self {
        Self { layout, buffers: [Vec::new(), Vec::new()], layers: Vec::new() }
    }

    /// Slots that take these buffers, as far as they are large enough.
    pub fn of(layout: OffloadLayout, device: &Device, buffers: [Vec<Buffer>; 2]) -> Result<Self, DeviceError> {
        let mut slots = Self::new(layout);
        for (slot, found) in buffers.into_iter().enumerate().take(slots.layout.offloaded) {
            let mut found = found.into_iter();
            for &bytes in &slots.layout.slot {
                let buffer = match found.next().filter(|buffer| buffer.size() >= bytes) {
                    Some(buffer) => buffer,
                    None => slot_buffer(Memory::Device(device), slot, bytes)?,
                };
                slots.buffers[slot].push(buffer);
            }
        }
        Ok(slots)
    }

    pub fn layout(&self) -> &OffloadLayout {
        &self.layout
    }

    /// The next buffer of a layer.
    fn allocate(&mut self, memory: Memory<'_>, layer: usize, bytes: u64) -> Result<Buffer, DeviceError> {
        self.layers.resize_with(self.layers.len().max(layer + 1), Layer::default);
        let layer_buffers = &mut self.layers[layer].buffers;
        let (number, buffers) = (layer_buffers.len(), &mut self.buffers[layer % 2]);
        if number == buffers.len() {
            let most = self.layout.slot.get(number).copied().unwrap_or(0).max(bytes);
            buffers.push(slot_buffer(memory, layer % 2, most)?);
        }
        let buffer = buffers[number].clone();
        layer_buffers.push((buffer.clone(), bytes.max(4).next_multiple_of(4)));
        Ok(buffer)
    }
}

fn slot_buffer(memory: Memory<'_>, slot: usize, bytes: u64) -> Result<Buffer, DeviceError> {
    memory.storage(&format!("slot {slot} for layers"), Category::Weights, bytes)
}

impl Weights<'_> {
    /// The number of the layer that is asked for among those that do not stay.
    pub(super) fn offloaded(&self) -> Option<usize> {
        let resident = self.slots.as_ref()?.layout.resident;
        self.layer?.checked_sub(resident)
    }

    /// A buffer for weights, zeroed.
    pub(super) fn allocate(&mut self, label: &str, bytes: u64) -> Result<Buffer, DeviceError> {
        if let Some(layer) = self.layer {
            self.layers[layer].push(bytes.max(4).next_multiple_of(4));
        }
        if let (Some(layer), Some(slots)) = (self.offloaded(), &mut self.slots) {
            return slots.allocate(self.memory, layer, bytes);
        }
        let buffer = match &mut self.there {
            Some(there) => there.next().expect("what was asked for once is asked for again, in the same order"),
            None => self.memory.storage(label, Category::Weights, bytes)?,
        };
        self.buffers.push((self.layer, buffer.clone()));
        Ok(buffer)
    }

    /// A buffer that holds `words`.
    pub(super) fn allocate_with(&mut self, label: &str, words: Vec<u32>) -> Result<Buffer, DeviceError> {
        let buffer = self.allocate(label, 4 * words.len() as u64)?;
        match (self.offloaded(), &mut self.slots, self.memory) {
            (Some(layer), Some(slots), _) => slots.layers[layer].known.push((buffer.clone(), words)),
            _ if self.there.is_some() => {}
            (.., Memory::Device(device)) => device.write(&buffer, 0, bytemuck::cast_slice(&words)),
            (.., Memory::Plan(_)) => {}
        }
        Ok(buffer)
    }
}

/// The layers that do not stay, once they are loaded.
#[derive(Debug)]
pub struct Offloaded {
    device: Device,
    pub(super) layout: OffloadLayout,
    pub(super) layers: Vec<Layer>,
    pub(super) store: Scratch,
    /// the layer that is in each slot
    seated: [Option<usize>; 2],
    /// what wgpu still holds of what was written, in groups, and the last one, which is not submitted yet
    under_way: VecDeque<Group>,
    open: Vec<Buffer>,
    free: Vec<Readback>,
    piece: Vec<u8>,
    moved: u64,
}

/// What was written, until the GPU has it.
#[derive(Debug)]
struct Group {
    fence: Readback,
    reserved: Vec<Buffer>,
}

impl Offloaded {
    pub(super) async fn new(device: &Device, slots: Slots) -> Result<Self, Error> {
        let Slots { layout, mut layers, .. } = slots;
        let mut end = 0;
        for layer in &mut layers {
            layer.at = end;
            end += layer.bytes();
        }
        let mut store = Scratch::new().await?;
        store.grow(end)?;
        Ok(Self::within(device, layout, layers, store))
    }

    pub(super) fn within(device: &Device, layout: OffloadLayout, layers: Vec<Layer>, store: Scratch) -> Self {
        Self {
            device: device.clone(),
            layout,
            layers,
            store,
            seated: [None; 2],
            under_way: VecDeque::new(),
            open: Vec::new(),
            free: Vec::new(),
            piece: Vec::new(),
            moved: 0,
        }
    }

    /// How many layers do not stay.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(Layer::bytes).sum()
    }

    /// Bytes that were written to slots since the model was loaded.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Which layers stay, and what the others pass through.
    #[must_use]
    pub fn layout(&self) -> &OffloadLayout {
        &self.layout
    }

    /// Whether a layer is in its slot.
    #[must_use]
    pub fn is_seated(&self, layer: usize) -> bool {
        self.seated[layer % 2] == Some(layer)
    }

    /// Seats a layer that is being loaded, as far as it was read before; whoever sat there is kept. Nothing may be under way.
    pub(super) async fn seat(&mut self, layer: usize) -> Result<(), Error> {
        let slot = layer % 2;
        if let Some(before) = self.seated[slot].take() {
            self.keep(before).await?;
        }
        if self.layers[layer].kept {
            self.bring(layer).await?;
            return Ok(());
        }
        let mut encoder = self.device.encoder();
        let Layer { buffers, known, .. } = &mut self.layers[layer];
        for (buffer, bytes) in buffers.iter() {
            encoder.clear_buffer(buffer.wgpu(), 0, Some(*bytes));
        }
        self.device.submit(encoder);
        for (buffer, words) in known.drain(..) {
            self.device.write(&buffer, 0, bytemuck::cast_slice(&words));
        }
        self.seated[slot] = Some(layer);
        Ok(())
    }

    /// Reads a layer back from its slot.
    async fn keep(&mut self, layer: usize) -> Result<(), Error> {
        let Layer { buffers, at, kept, .. } = &mut self.layers[layer];
        keep(&self.device, buffers, &mut self.store, *at).await?;
        *kept = true;
        Ok(())
    }

    /// Keeps what is still in slots: all that was to be read was.
    pub(super) async fn keep_all(&mut self) -> Result<(), Error> {
        for layer in self.seated.into_iter().flatten() {
            self.keep(layer).await?;
        }
        self.settle(0).await?;
        self.free.clear();
        self.moved = 0;
        Ok(())
    }

    /// Puts a layer into its slot, before whatever is submitted next; what reads the layer that was there has to be submitted.
    ///
    /// # Errors
    /// Those of the device, and of the place where layers are kept.
    pub async fn bring(&mut self, layer: usize) -> Result<(), Error> {
        if self.is_seated(layer) {
            return Ok(());
        }
        // until all of it is there, nobody sits there
        self.seated[layer % 2] = None;
        let mut at = self.layers[layer].at;
        for number in 0..self.layers[layer].buffers.len() {
            let (buffer, bytes) = self.layers[layer].buffers[number].clone();
            let mut offset = 0;
            while offset < bytes {
                let size = PIECE.min(bytes - offset);
                self.settle(self.layout.under_way - size).await?;
                // the bytes that wgpu holds until the GPU has them
                let mut reserved = self.device.reserve(WAY, Category::Staging, size);
                if matches!(reserved, Err(DeviceError::OutOfMemory { .. })) {
                    self.settle(0).await?;
                    reserved = self.device.reserve(WAY, Category::Staging, size);
                }
                self.open.push(reserved?);
                let piece = self.store.read(at, size as usize, &mut self.piece)?;
                self.device.write(&buffer, offset, piece);
                offset += size;
                at += size;
            }
        }
        self.moved += at - self.layers[layer].at;
        self.seated[layer % 2] = Some(layer);
        Ok(())
    }

    /// Waits until no more than `most` bytes are on their way. Half of what may be is one group: where a wait takes 100 ms, there are few.
    pub(super) async fn settle(&mut self, most: u64) -> Result<(), Error> {
        let bytes = |buffers: &[Buffer]| buffers.iter().map(Buffer::size).sum::<u64>();
        let half = if READBACK_MS < 100.0 { PIECE.max(self.layout.under_way / 4) } else { self.layout.under_way / 2 };
        if !self.open.is_empty() && (bytes(&self.open) >= half || most == 0) {
            let mut fence = match self.free.pop() {
                Some(fence) => fence,
                None => Readback::new(&self.device, "fence", 4)?,
            };
            fence.submit(&self.device, self.device.encoder());
            self.under_way.push_back(Group { fence, reserved: std::mem::take(&mut self.open) });
        }
        while bytes(&self.open) + self.under_way.iter().map(|group| bytes(&group.reserved)).sum::<u64>() > most
            && let Some(mut group) = self.under_way.pop_front()
        {
            group.fence.wait(&self.device).await?;
            group.fence.take(|_| ())?;
            self.free.push(group.fence);
        }
        Ok(())
    }
}

/// Keeps what these buffers hold, from `at` on.
pub(super) async fn keep(
    device: &Device,
    buffers: &[(Buffer, u64)],
    store: &mut Scratch,
    mut at: u64,
) -> Result<(), Error> {
    for (buffer, bytes) in buffers {
        let mut offset = 0;
        while offset < *bytes {
            let end = (offset + PIECE).min(*bytes);
            let piece = device.read(buffer, offset..end).await?;
            store.write(at, &piece)?;
            (offset, at) = (end, at + piece.len() as u64);
        }
    }
    Ok(())
}
