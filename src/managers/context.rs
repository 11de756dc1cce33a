//! How much memory a sequence takes, and how long one may become.

use crate::models::DecoderConfig;
use crate::nn::Pool;
use crate::ops::block_bytes;
use crate::step::BLOCK;
use crate::tensor::CacheDtype;

/// Bytes that the cache takes at most where nobody says how long the context is to be.
const DEFAULT_CACHE: u64 = 1 << 30;

/// What the cache of a model is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Bytes of one position's keys, or values, in one layer: one buffer each.
    pub per_position: u64,
    /// Bytes of each such buffer however many positions there are: hot blocks.
    pub hot: u64,
    /// How many such buffers there are: two for each layer.
    pub buffers: u64,
    /// Positions that the model was trained for.
    pub trained: u32,
}

impl CacheShape {
    /// Of a model whose cache is stored so, with that many hot blocks where it is quantized.
    #[must_use]
    pub fn of(config: &DecoderConfig, dtype: CacheDtype, hot_blocks: u32) -> Self {
        let heads = &config.heads;
        Self {
            // whole: a block's scales come to as many bytes for each position
            per_position: block_bytes(heads, dtype) / u64::from(BLOCK),
            hot: Pool { blocks: 0, hot_blocks }.bytes(heads, dtype),
            buffers: 2 * config.layers.len() as u64,
            trained: config.max_position_embeddings,
        }
    }

    /// Bytes of the whole cache with room for `positions`, which come in whole blocks.
    #[must_use]
    pub fn bytes(&self, positions: u32) -> u64 {
        let positions = u64::from(positions).next_multiple_of(u64::from(BLOCK));
        let buffer = self.per_position.saturating_mul(positions).saturating_add(self.hot);
        buffer.saturating_mul(self.buffers)
    }

    /// The longest sequence that `bytes` hold, where one binding shows `max_binding`; at most what the model was trained for.
    #[must_use]
    pub fn longest(&self, bytes: u64, max_binding: u64) -> u32 {
        let blocks = u64::from(BLOCK);
        let fits = self.fits(bytes, max_binding) / blocks * blocks;
        fits.min(u64::from(self.trained)) as u32
    }

    /// Positions that `bytes` hold, where one binding shows `max_binding`.
    fn fits(&self, bytes: u64, max_binding: u64) -> u64 {
        let of_all = bytes.saturating_sub(self.hot.saturating_mul(self.buffers));
        let each = self.per_position.max(1);
        (of_all / each.saturating_mul(self.buffers).max(1)).min(max_binding.saturating_sub(self.hot) / each)
    }

    /// How long a sequence may become where nobody says: as long as the model was trained for, within 1 GiB of cache and what a
    /// binding shows.
    #[must_use]
    pub fn default_context(&self, max_binding: u64) -> u32 {
        let fits = self.fits(DEFAULT_CACHE, max_binding).clamp(1, 1 << 28) as u32;
        self.trained.min(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::CacheShape;

    #[test]
    fn contexts_follow_memory() {
        let shape = CacheShape { per_position: 2048, hot: 0, buffers: 64, trained: 131_072 };
        assert_eq!(shape.bytes(1), 2048 * 64 * 32, "whole blocks");
        assert_eq!(shape.default_context(128 << 20), 8192, "1 GiB");
        assert_eq!(shape.default_context(1 << 20), 512, "one binding");
        assert_eq!(CacheShape { trained: 512, ..shape }.default_context(128 << 20), 512);
        assert_eq!(shape.longest(2048 * 64 * 100, 128 << 20), 96);
        assert_eq!(shape.longest(u64::MAX, 128 << 20), 65_536);
        assert_eq!(shape.longest(0, 128 << 20), 0);

        let quantized = CacheShape { hot: 3 * 4096, ..shape };
        let fixed = 64 * 3 * 4096;
        assert_eq!(quantized.bytes(32), 2048 * 64 * 32 + fixed);
        assert_eq!(quantized.longest(2048 * 64 * 96 + fixed, 128 << 20), 96);
        assert_eq!(quantized.longest(2048 * 64 * 96 + fixed - 1, 128 << 20), 64);
        assert_eq!(quantized.longest(u64::MAX, 2048 * 64 + 3 * 4096), 64);
        assert_eq!(quantized.longest(fixed - 1, 128 << 20), 0);
    }
}
