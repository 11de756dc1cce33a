use crate::device::{Buffer, Category, Memory};
use crate::error::DeviceError;
use crate::ops::{Heads, LayerKv};
use crate::step::BLOCK;
use crate::tensor::Elem;

/// Keys and values of all layers, in blocks of 32 positions that the step's page table finds.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerKv>,
    blocks: u32,
    /// one block, on its way from one place to another
    scratch: Buffer,
}

impl KvCache {
    /// Room for at least `positions` positions in each of `layers` layers.
    ///
    /// # Errors
    /// [`DeviceError::BufferTooLarge`] where one binding does not show a layer's keys; else as [`Device::buffer`](crate::device::Device::buffer).
    pub fn new(
        memory: Memory<'_>,
        layers: u32,
        heads: &Heads,
        elem: Elem,
        positions: u32,
    ) -> Result<Self, DeviceError> {
        let blocks = positions.div_ceil(BLOCK);
        let size = Self::bytes_per_position(heads, elem) * u64::from(BLOCK) * u64::from(blocks);
        if size > memory.max_binding() {
            let (label, limit) = (format!("cache of {positions} positions"), memory.max_binding());
            return Err(DeviceError::BufferTooLarge { label, size, limit });
        }
        let new = |what, layer| memory.storage(&format!("{what} of layer {layer}"), Category::Cache, size);
        let layers = (0..layers)
            .map(|layer| Ok(LayerKv { k: new("keys", layer)?, v: new("values", layer)?, elem, table: 0 }))
            .collect::<Result<_, DeviceError>>()?;
        let scratch = memory.storage("block to be copied", Category::Activations, size / u64::from(blocks.max(1)))?;
        Ok(Self { layers, blocks, scratch })
    }

    /// Takes over what a smaller cache of the same shape holds; the blocks keep their numbers.
    pub fn copy_from(&self, smaller: &Self, encoder: &mut wgpu::CommandEncoder) {
        for (to, from) in self.layers.iter().zip(&smaller.layers) {
            for (to, from) in [(&to.k, &from.k), (&to.v, &from.v)] {
                encoder.copy_buffer_to_buffer(from.wgpu(), 0, to.wgpu(), 0, from.size());
            }
        }
    }

    /// Copies a block, in every layer.
    pub fn copy_block(&self, from: u32, to: u32, encoder: &mut wgpu::CommandEncoder) {
        for buffer in self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]) {
            let block = buffer.size() / u64::from(self.blocks);
            let at = |number: u32| u64::from(number) * block;
            // WebGPU copies nothing within a buffer
            encoder.copy_buffer_to_buffer(buffer.wgpu(), at(from), self.scratch.wgpu(), 0, block);
            encoder.copy_buffer_to_buffer(self.scratch.wgpu(), 0, buffer.wgpu(), at(to), block);
        }
    }

    /// Bytes of one position's keys, or values, in one layer.
    #[must_use]
    pub fn bytes_per_position(heads: &Heads, elem: Elem) -> u64 {
        u64::from(heads.kv_heads) * u64::from(heads.padded() / 4) * elem.bytes4()
    }

    /// Positions that there is room for.
    #[must_use]
    pub fn positions(&self) -> u32 {
        self.blocks * BLOCK
    }

    /// Blocks that there is room for.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Keys and values of one layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }
}
