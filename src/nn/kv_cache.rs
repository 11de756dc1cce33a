use crate::device::{Buffer, Category, Memory};
use crate::error::DeviceError;
use crate::ops::{Heads, LayerKv, block_bytes, hot_block_bytes};
use crate::step::BLOCK;
use crate::tensor::CacheDtype;

/// What a model's cache is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// K and E.
    pub heads: Heads,
    /// How keys and values are stored.
    pub dtype: CacheDtype,
    /// As [`LayerKv::raw_keys`].
    pub raw_keys: bool,
    /// The group of each layer. Layers of a group drop the same positions: those of full attention, or those of one sliding window.
    pub groups: Vec<u32>,
    /// Positions that are kept of prompts which have more, see [`Selection`](super::Selection); 0: all.
    pub kept: u32,
}

/// How many blocks each layer of a group has room for; their numbers mean the same place in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Blocks of 32 positions; where they are quantized, those that are full.
    pub blocks: u32,
    /// Of a quantized cache: blocks that are not full yet, or may be taken back.
    pub hot_blocks: u32,
}

impl Pool {
    /// Of `blocks` blocks in a cache that is not quantized.
    #[must_use]
    pub const fn of(blocks: u32) -> Self {
        Self { blocks, hot_blocks: 0 }
    }

    /// Bytes of one layer's keys, or values.
    #[must_use]
    pub fn bytes(&self, heads: &Heads, dtype: CacheDtype) -> u64 {
        let of = |blocks: u32, each: u64| u64::from(blocks).saturating_mul(each);
        of(self.hot_blocks, hot_block_bytes(heads, dtype)).saturating_add(of(self.blocks, block_bytes(heads, dtype)))
    }
}

/// A block of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// One of [`Pool::blocks`].
    Full(u32),
    /// One of [`Pool::hot_blocks`].
    Hot(u32),
}

/// Keys and values of all layers, in blocks of 32 positions that the step's page tables find: table `g` the blocks of group `g`, and where
/// the cache is quantized, table `groups + g` its hot ones.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerKv>,
    layout: CacheLayout,
    pools: Vec<Pool>,
}

impl KvCache {
    /// Room for the blocks of `pools`: one for each group that the layout names, by its number.
    ///
    /// # Errors
    /// [`DeviceError::BufferTooLarge`] where one binding does not show a layer's keys; else as [`Device::buffer`](crate::device::Device::buffer).
    pub fn new(memory: Memory<'_>, layout: CacheLayout, pools: &[Pool]) -> Result<Self, DeviceError> {
        let CacheLayout { heads, dtype, raw_keys, .. } = layout;
        let count = pools.len() as u32;
        let layer = |(number, &group): (usize, &u32)| {
            let pool = pools[group as usize];
            let size = pool.bytes(&heads, dtype);
            if size > memory.max_binding() {
                let positions = u64::from(pool.blocks) * u64::from(BLOCK);
                let (label, limit) = (format!("cache of {positions} positions"), memory.max_binding());
                return Err(DeviceError::BufferTooLarge { label, size, limit });
            }
            let new = |what| memory.storage(&format!("{what} of layer {number}"), Category::Cache, size);
            let (k, v) = (new("keys")?, new("values")?);
            let (hot_table, hot_blocks) = (count + group, pool.hot_blocks);
            Ok(LayerKv { k, v, dtype, raw_keys, table: group, hot_table, hot_blocks })
        };
        let layers = layout.groups.iter().enumerate().map(layer).collect::<Result<_, DeviceError>>()?;
        Ok(Self { layers, layout, pools: pools.to_vec() })
    }

    /// What it is made of.
    #[must_use]
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// Page tables that a slot needs.
    #[must_use]
    pub fn tables(&self) -> u32 {
        let kinds = if self.layout.dtype.bits().is_some() { 2 } else { 1 };
        kinds * self.pools.len() as u32
    }

    /// Takes over what a smaller cache of the same layout holds; the blocks keep their numbers.
    pub fn copy_from(&self, smaller: &Self, encoder: &mut wgpu::CommandEncoder) {
        let CacheLayout { heads, dtype, .. } = &self.layout;
        for (to, from) in self.layers.iter().zip(&smaller.layers) {
            let hot = u64::from(from.hot_blocks) * hot_block_bytes(heads, *dtype);
            let cold = u64::from(to.hot_blocks) * hot_block_bytes(heads, *dtype);
            for (to, from) in [(&to.k, &from.k), (&to.v, &from.v)] {
                encoder.copy_buffer_to_buffer(from.wgpu(), 0, to.wgpu(), 0, hot);
                encoder.copy_buffer_to_buffer(from.wgpu(), hot, to.wgpu(), cold, from.size() - hot);
            }
        }
    }

    /// What [`copy`](Self::copy) takes a block through: WebGPU has no copies within one buffer.
    ///
    /// # Errors
    /// As [`Device::buffer`](crate::device::Device::buffer).
    pub fn passage(&self, memory: Memory<'_>) -> Result<Buffer, DeviceError> {
        let size = hot_block_bytes(&self.layout.heads, self.layout.dtype);
        memory.storage("a block of the cache", Category::Activations, size)
    }

    /// Copies what a block holds to another of its kind, in all layers of a group: before one of several sequences that share it
    /// writes to it. `passage` may be used again for the next one, and has to live until the encoder is submitted.
    pub fn copy(&self, group: u32, from: Block, to: Block, passage: &Buffer, encoder: &mut wgpu::CommandEncoder) {
        for layer in self.layers.iter().filter(|layer| layer.table == group) {
            let (begin, size) = self.range(layer, from);
            let (end, _) = self.range(layer, to);
            for buffer in [&layer.k, &layer.v] {
                encoder.copy_buffer_to_buffer(buffer.wgpu(), begin, passage.wgpu(), 0, size);
                encoder.copy_buffer_to_buffer(passage.wgpu(), 0, buffer.wgpu(), end, size);
            }
        }
    }

    /// Where a block begins in the buffers of a layer, and its bytes.
    #[must_use]
    pub fn range(&self, layer: &LayerKv, block: Block) -> (u64, u64) {
        let CacheLayout { heads, dtype, .. } = &self.layout;
        let hot = hot_block_bytes(heads, *dtype);
        match block {
            Block::Hot(number) => (u64::from(number) * hot, hot),
            Block::Full(number) => {
                let size = block_bytes(heads, *dtype);
                (u64::from(layer.hot_blocks) * hot + u64::from(number) * size, size)
            }
        }
    }

    /// Positions that there is room for in the first group.
    #[must_use]
    pub fn positions(&self) -> u32 {
        self.blocks() * BLOCK
    }

    /// Blocks of the first group.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.pools.first().map_or(0, |pool| pool.blocks)
    }

    /// How many blocks there are in each group.
    #[must_use]
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Keys and values of all layers, in order.
    #[must_use]
    pub fn layers(&self) -> &[LayerKv] {
        &self.layers
    }

    /// Keys and values of one layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }
}
