//! How much memory a sequence takes, and how long one may become.

use super::blocks::CachePolicy;
use crate::models::DecoderConfig;
use crate::models::Room;
use crate::models::decoder::LayerConfig;
use crate::nn::{CacheLayout, Pool};
use crate::ops::{OBSERVED, block_bytes};
use crate::step::BLOCK;
use crate::tensor::CacheDtype;

/// Bytes that the cache takes at most where nobody says how long the context is to be.
const DEFAULT_CACHE: u64 = 1 << 30;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// How they are stored. `None`: as activations are.
    pub dtype: Option<CacheDtype>,
    /// What happens to sequences that outgrow their cache.
    pub policy: CachePolicy,
}

/// Steps that the GPU may be ahead of what was read back.
const LOOKAHEAD: u32 = 128;

/// Groups of layers that drop the same positions: for each group its window (0: all positions), for each layer its group. Under a
/// policy that drops positions from all layers there is one group.
#[must_use]
pub fn cache_groups(config: &DecoderConfig, policy: CachePolicy) -> (Vec<u32>, Vec<u32>) {
    let mut windows = Vec::new();
    let group = |layer: &LayerConfig| {
        let window = if policy.moves() { 0 } else { layer.window };
        let known = windows.iter().position(|&known| known == window);
        known.unwrap_or_else(|| {
            windows.push(window);
            windows.len() - 1
        }) as u32
    };
    let groups = config.layers.iter().map(group).collect();
    (windows, groups)
}

/// Tokens of prompts in one step, of at most `chunk`: a window holds them besides what it keeps, and in a quantized cache all that a
/// step writes is in 16 bits first.
#[must_use]
pub fn cache_chunk(chunk: u32, dtype: CacheDtype, policy: CachePolicy) -> u32 {
    let of_window = policy.most().map_or(chunk, |most| most / 2);
    let quantized = if dtype.bits().is_some() { 4 * BLOCK } else { chunk };
    chunk.min(of_window).min(quantized)
}

/// Rows of prompts that one step may have where chunks have so many tokens: under a policy that selects, a prompt's last rows come
/// together.
#[must_use]
pub fn cache_rows(chunk: u32, policy: CachePolicy) -> u32 {
    chunk + policy.selected().map_or(0, |_| OBSERVED)
}

/// How the cache of a model is laid out, and how many blocks it has for so much room.
#[must_use]
pub fn cache_plan(
    config: &DecoderConfig,
    dtype: CacheDtype,
    policy: CachePolicy,
    room: &Room,
) -> (CacheLayout, Vec<Pool>) {
    let (windows, groups) = cache_groups(config, policy);
    let kept = selected(policy, room.positions);
    let layout = CacheLayout { heads: config.heads, dtype, raw_keys: policy.moves(), groups, kept };
    // what is selected is written while the prompt is still there
    let slots = room.slots + u32::from(kept > 0);
    let pool = |window: u32| cache_pool(window, dtype, room.cache, slots, room.rows);
    (layout, windows.into_iter().map(pool).collect())
}

/// Positions that are kept of prompts, where a sequence may have so many that it matters; 0: all.
fn selected(policy: CachePolicy, positions: u32) -> u32 {
    policy.selected().filter(|&kept| kept < positions).unwrap_or(0)
}

/// Blocks for `positions` positions of `slots` sequences together, in a group of that window. Prompts come in steps of `chunk` tokens.
fn cache_pool(window: u32, dtype: CacheDtype, positions: u32, slots: u32, chunk: u32) -> Pool {
    let all = positions.div_ceil(BLOCK);
    // what is under way has to be there, too, and the blocks at both ends are not full
    let blocks_of = |positions: u32| positions.div_ceil(BLOCK) + 2;
    let of_window =
        (blocks_of(window.saturating_add(LOOKAHEAD)).saturating_mul(slots)).saturating_add(chunk.div_ceil(BLOCK));
    let blocks = if window == 0 { all } else { all.min(of_window) };
    let hot = blocks_of(LOOKAHEAD).saturating_mul(slots).saturating_add(chunk.div_ceil(BLOCK));
    Pool { blocks, hot_blocks: if dtype.bits().is_some() { hot } else { 0 } }
}

/// What the cache of a model is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Bytes of one position's keys, or values, in one layer: one buffer each.
    pub per_position: u64,
    /// Bytes of each such buffer however many positions there are: hot blocks, and what is selected of a prompt while that is there.
    pub hot: u64,
    /// How many such buffers there are: two for each layer.
    pub buffers: u64,
    /// How many of them are of layers that see a window only, and the most positions that those hold.
    pub windowed: u64,
    /// See `windowed`.
    pub window: u32,
    /// Positions that the model was trained for, or that a sequence may have.
    pub trained: u32,
    /// Positions of a sequence that are kept at most.
    pub most: u32,
}

impl CacheShape {
    /// Of one sequence of a model whose cache is stored so; prompts come in steps of `chunk` tokens.
    #[must_use]
    pub fn of(config: &DecoderConfig, dtype: CacheDtype, policy: CachePolicy, chunk: u32) -> Self {
        let heads = &config.heads;
        let (windows, groups) = cache_groups(config, policy);
        let rows = cache_rows(cache_chunk(chunk, dtype, policy), policy);
        let selected = selected(policy, config.max_position_embeddings) / BLOCK;
        let slots = 1 + u32::from(selected > 0);
        let pool = |window: u32| cache_pool(window, dtype, u32::MAX / 2, slots, rows);
        let window = windows.iter().copied().max().unwrap_or(0);
        let windowed = groups.iter().filter(|&&group| windows[group as usize] > 0).count() as u64;
        Self {
            // whole: a block's scales come to as many bytes for each position
            per_position: block_bytes(heads, dtype) / u64::from(BLOCK),
            hot: Pool { blocks: selected, ..pool(0) }.bytes(heads, dtype),
            buffers: 2 * config.layers.len() as u64,
            windowed: 2 * windowed,
            window: pool(window).blocks.saturating_mul(BLOCK),
            trained: policy.most().unwrap_or(config.max_position_embeddings),
            most: policy.most().unwrap_or(u32::MAX),
        }
    }

    /// Bytes of the whole cache with room for `positions`, which come in whole blocks.
    #[must_use]
    pub fn bytes(&self, positions: u32) -> u64 {
        let positions = positions.min(self.most).checked_next_multiple_of(BLOCK).unwrap_or(u32::MAX);
        let of = |positions: u32| self.per_position.saturating_mul(u64::from(positions)).saturating_add(self.hot);
        let full = of(positions).saturating_mul(self.buffers.saturating_sub(self.windowed));
        full.saturating_add(of(positions.min(self.window)).saturating_mul(self.windowed))
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
        let each = self.per_position.max(1);
        let of = |bytes: u64, buffers: u64| bytes / each.saturating_mul(buffers).max(1);
        let left = bytes.saturating_sub(self.hot.saturating_mul(self.buffers));
        let fits = match of(left, self.buffers) {
            // windows are full: what is left is for the others
            fits if fits > u64::from(self.window) && self.windowed > 0 => {
                let windows = each.saturating_mul(self.windowed).saturating_mul(u64::from(self.window));
                of(left.saturating_sub(windows), self.buffers.saturating_sub(self.windowed))
            }
            fits => fits,
        };
        fits.min(max_binding.saturating_sub(self.hot) / each)
    }

    /// Positions of all sequences together, where nobody says: within 1 GiB of cache and what a binding shows.
    #[must_use]
    pub fn capacity(&self, max_binding: u64) -> u32 {
        self.fits(DEFAULT_CACHE, max_binding).clamp(1, 1 << 28) as u32
    }

    /// How long a sequence may become where nobody says: as long as the model was trained for, within 1 GiB of cache and what a
    /// binding shows.
    #[must_use]
    pub fn default_context(&self, max_binding: u64) -> u32 {
        self.trained.min(self.capacity(max_binding))
    }
}

#[cfg(test)]
mod tests {
    use super::CacheShape;

    #[test]
    fn contexts_follow_memory() {
        let shape = CacheShape {
            per_position: 2048,
            hot: 0,
            buffers: 64,
            windowed: 0,
            window: 0,
            trained: 131_072,
            most: u32::MAX,
        };
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

        let windowed = CacheShape { windowed: 48, window: 1024, ..shape };
        assert_eq!(windowed.bytes(512), shape.bytes(512));
        assert_eq!(windowed.bytes(4096), 2048 * (16 * 4096 + 48 * 1024));
        assert_eq!(windowed.longest(windowed.bytes(4096), 128 << 20), 4096);
        assert_eq!(windowed.longest(windowed.bytes(512), 128 << 20), 512);
    }
}
