//! Where blocks of the cache are, copied alone and to a larger cache.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::{Category, Device, Memory, Plan, Readback};
use webweft::nn::{Block, CacheLayout, KvCache, Pool};
use webweft::ops::Heads;
use webweft::tensor::CacheDtype;

use crate::common::device;

/// Layers 0 and 2 are of group 0, layer 1 of group 1.
fn cache(memory: Memory<'_>, dtype: CacheDtype, more: u32) -> KvCache {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 20, rotary: 20 };
    let layout = CacheLayout { heads, dtype, raw_keys: false, groups: vec![0, 1, 0], kept: 0 };
    let hot = if dtype.bits().is_some() { 2 + more } else { 0 };
    let pools = [Pool { blocks: 3 + more, hot_blocks: hot }, Pool { blocks: 5 + 2 * more, hot_blocks: hot }];
    KvCache::new(memory, layout, &pools).expect("a small cache")
}

/// All blocks of a group.
fn blocks(pool: Pool) -> Vec<Block> {
    (0..pool.hot_blocks).map(Block::Hot).chain((0..pool.blocks).map(Block::Full)).collect()
}

/// Fills every block of a layer with a number of its own.
fn fill(device: &Device, cache: &KvCache) {
    for (l, layer) in cache.layers().iter().enumerate() {
        for (b, block) in blocks(cache.pools()[layer.table as usize]).into_iter().enumerate() {
            let (begin, size) = cache.range(layer, block);
            for (kind, buffer) in [(1, &layer.k), (2, &layer.v)] {
                device.write(buffer, begin, &vec![(100 * kind + 30 * l + b) as u8; size as usize]);
            }
        }
    }
}

/// What each block of keys, and of values, holds.
async fn read(device: &Device, cache: &KvCache, encoder: wgpu::CommandEncoder) -> Vec<Vec<Option<u8>>> {
    let buffers = || cache.layers().iter().flat_map(|layer| [(layer, &layer.k), (layer, &layer.v)]);
    let all = buffers().map(|(_, buffer)| buffer.size()).sum();
    let mut encoder = encoder;
    let mut readback = Readback::new(device, "cache", all).expect("a staging buffer");
    buffers().for_each(|(_, buffer)| readback.copy(&mut encoder, buffer, 0, buffer.size()));
    readback.submit(device, encoder);
    readback.wait(device).await.expect("copies");
    let bytes = readback.take(<[u8]>::to_vec).expect("bytes");
    let mut rest = bytes.as_slice();
    let of_buffer = |(layer, buffer): (&webweft::ops::LayerKv, &webweft::device::Buffer)| {
        let own = rest.split_off(..buffer.size() as usize).expect("all was read");
        let of_block = |block| {
            let (begin, size) = cache.range(layer, block);
            let bytes = &own[begin as usize..(begin + size) as usize];
            bytes.iter().all(|&b| b == bytes[0]).then_some(bytes[0])
        };
        blocks(cache.pools()[layer.table as usize]).into_iter().map(of_block).collect()
    };
    buffers().map(of_buffer).collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn blocks_are_copied() {
    let device = device().await;
    for dtype in CacheDtype::ALL {
        let cache = cache(Memory::Device(&device), dtype, 0);
        assert_eq!(cache.tables(), if dtype.bits().is_some() { 4 } else { 2 });
        fill(&device, &cache);
        let mut want = read(&device, &cache, device.encoder()).await;
        let filled = want.iter().flatten().all(Option::is_some);
        assert!(filled, "{dtype:?}: blocks share bytes");

        let passage = cache.passage(Memory::Device(&device)).expect("a block");
        let mut encoder = device.encoder();
        cache.copy(0, Block::Full(0), Block::Full(2), &passage, &mut encoder);
        cache.copy(1, Block::Full(4), Block::Full(0), &passage, &mut encoder);
        let hot = cache.pools()[0].hot_blocks as usize;
        for buffer in [0, 1, 4, 5] {
            want[buffer][hot + 2] = want[buffer][hot];
        }
        for buffer in [2, 3] {
            want[buffer][hot] = want[buffer][hot + 4];
        }
        if hot > 0 {
            cache.copy(0, Block::Hot(1), Block::Hot(0), &passage, &mut encoder);
            for buffer in [0, 1, 4, 5] {
                want[buffer][0] = want[buffer][1];
            }
        }
        assert_eq!(read(&device, &cache, encoder).await, want, "{dtype:?}");
    }
}

/// Blocks keep their numbers, and what they hold.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn caches_grow() {
    let device = device().await;
    for dtype in CacheDtype::ALL {
        let [small, large] = [0, 3].map(|more| cache(Memory::Device(&device), dtype, more));
        fill(&device, &small);
        let want = read(&device, &small, device.encoder()).await;
        let mut encoder = device.encoder();
        large.copy_from(&small, &mut encoder);
        let got = read(&device, &large, encoder).await;
        for (buffer, (got, want)) in got.iter().zip(&want).enumerate() {
            let layer = &small.layers()[buffer / 2];
            let [from, to] = [&small, &large].map(|cache| blocks(cache.pools()[layer.table as usize]));
            for (block, value) in from.iter().zip(want) {
                let at = to.iter().position(|b| b == block).expect("it has more");
                assert_eq!(got[at], *value, "{dtype:?}: {block:?} of buffer {buffer}");
            }
        }
    }
}

/// A plan enters what a cache would take.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_plan_counts_blocks() {
    for dtype in CacheDtype::ALL {
        let plan = Plan::new(None);
        let cache = cache(Memory::Plan(&plan), dtype, 1);
        let of_layer = |layer: &webweft::ops::LayerKv| {
            2 * blocks(cache.pools()[layer.table as usize]).into_iter().map(|b| cache.range(layer, b).1).sum::<u64>()
        };
        let want: u64 = cache.layers().iter().map(of_layer).sum();
        assert_eq!(plan.ledger().snapshot().of(Category::Cache), want, "{dtype:?}");
    }
}

/// At 4096 positions and at 32,768, hot blocks apart: what blocks of few bits take of those of f16.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn few_bits_take_few_bytes() {
    for (kv_heads, head_dim) in [(4, 32), (8, 64), (8, 128), (2, 80), (1, 256), (4, 96), (4, 8)] {
        let heads = Heads { heads: kv_heads, kv_heads, head_dim, rotary: head_dim };
        for positions in [4096, 32_768] {
            let bytes = |dtype| Pool::of(positions / 32).bytes(&heads, dtype) as f64;
            let [q8, q4] = [CacheDtype::Q8, CacheDtype::Q4].map(|dtype| bytes(dtype) / bytes(CacheDtype::F16));
            assert!(q8 <= 0.56 && q4 <= 0.32, "{kv_heads} heads of {head_dim}: q8 {q8}, q4 {q4}");
        }
    }
}
