#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Heads, LayerKv, block_bytes, hot_block_bytes, quantize_cache};
use webweft::reference::quantize_cache::{Kind, Layout};
use webweft::shaders;
use webweft::step::BLOCK;
use webweft::tensor::{CacheDtype, Elem};

use super::{Bench, COLD, POISON, TABLE, cold_pages_of, pack, pages_of, stored};
use crate::common::{device, random};

const QUANTIZED: [CacheDtype; 2] = [CacheDtype::Q8, CacheDtype::Q4];

fn heads_of([kv_heads, head_dim]: [u32; 2]) -> Heads {
    Heads { heads: kv_heads, kv_heads, head_dim, rotary: 0 }
}

/// A block of keys or values, `[32, K E]`: of any kind that there may be, and some that there should not.
fn block(seed: u32, row: usize) -> Vec<f32> {
    let mut values = random(BLOCK as usize * row, seed);
    let least = 2.0_f32.powi(-24);
    values.iter_mut().enumerate().for_each(|(i, v)| match seed % 7 {
        // elements and positions that are larger than others, not around zero
        0 | 1 => *v = (*v + 0.3) * [1.0, 30.0, 0.01][i % row % 3] * [1.0, 5.0][i / row % 2],
        2 => *v = 0.0,
        3 => *v = -1.7,
        4 => *v = 65504.0_f32.copysign(*v),
        5 => *v = (*v * 40.0).round() * least,
        _ => *v = (*v * 6.0).round() * least,
    });
    stored(&values, Elem::F16)
}

fn record(bench: &mut Bench, dtype: CacheDtype, shape: [u32; 2], bucket: u32, slots: &[shaders::Slot]) {
    let heads = heads_of(shape);
    let [k, e] = shape.map(|v| v as usize);
    let step = bench.step_of(&slots.iter().map(|slot| (slot.rows, cached(slot))).collect::<Vec<_>>());
    step.set(&bench.device, slots);
    let blocks = step.slots * step.pages;
    let [hot, cold] = [hot_block_bytes(&heads, dtype), block_bytes(&heads, dtype)].map(|bytes| bytes as usize / 4);
    let hot_words = blocks as usize * hot;
    let name = format!("quantize_cache {dtype:?} K {k} E {e}, {bucket} rows: {slots:?}");
    let mut buffers = Vec::new();
    for (seed, kind) in [(0, Kind::Keys), (100, Kind::Values)] {
        let layout = Layout::new(kind, [k, e], dtype.bits().expect("few bits") as usize);
        assert_eq!(layout.words(), cold, "{name}");
        let mut before = vec![POISON; hot_words + blocks as usize * cold];
        let mut wanted = Vec::new();
        for (s, slot) in (0..).zip(slots) {
            // those that are not complete hold no numbers, nor do those that were complete before
            for b in cached(slot) / BLOCK..(cached(slot) + slot.rows) / BLOCK {
                let values = block(seed + 10 * s + b, k * e);
                let words = pack(&values, e, Elem::F16);
                before[pages_of(&step, s)[b as usize] as usize * hot..][..hot].copy_from_slice(&words);
                if slot.done == 0 {
                    let mut words = vec![POISON; cold];
                    layout.encode(&values, &mut words);
                    wanted.push((hot_words + cold_pages_of(&step, s)[b as usize] as usize * cold, words));
                }
            }
        }
        let buffer = bench.buffer(&before);
        buffers.push(buffer.clone());
        let name = format!("{name}: {kind:?}");
        bench.read(&[&buffer], move |bytes| {
            let mut got: Vec<u32> = bytemuck::pod_collect_to_vec(bytes[0]);
            let (mut codes, mut differ) = (0, 0);
            for (at, want) in wanted {
                let got = &mut got[at..at + cold];
                for (got, want) in layout.parts(got).into_iter().zip(layout.parts(&want)) {
                    assert_eq!((got.1, got.2), (want.1, want.2), "{name}: scale and minimum");
                    assert!(got.0.abs_diff(want.0) <= 1, "{name}: code {} for {}", got.0, want.0);
                    codes += 1;
                    differ += usize::from(got.0 != want.0);
                }
                got.fill(POISON);
            }
            assert!(differ * 200 <= codes, "{name}: {differ} of {codes} codes differ");
            assert!(got == before, "{name}: hot blocks, or other cold ones, were written");
        });
    }
    let [k, v] = [0, 1].map(|i: usize| buffers[i].clone());
    let kv = LayerKv { k, v, dtype, raw_keys: false, table: COLD, hot_table: TABLE, hot_blocks: blocks };
    bench.case(|case| {
        quantize_cache(&mut case.g, &heads, &kv, bucket, step.slots, &step).expect("shapes fit");
    });
}

/// Keys of a slot in the cache.
fn cached(slot: &shaders::Slot) -> u32 {
    slot.position - slot.dropped
}

fn slot(rows: u32, cached: u32) -> shaders::Slot {
    // tokens were dropped from the cache before
    shaders::Slot { rows, position: cached + 64, dropped: 64, ..Default::default() }
}

/// Every width, one head and several.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn quantizes_at_every_width() {
    let mut bench = Bench::new(&device().await);
    for dtype in QUANTIZED {
        for shape in [[1, 6], [4, 6], [2, 8], [1, 20], [3, 20], [3, 64], [2, 80], [1, 128], [5, 7], [2, 256]] {
            record(&mut bench, dtype, shape, 256, &[slot(224, 0)]);
        }
    }
    bench.run().await;
}

/// What a step completes, and nothing else: one row that ends a block, none, several blocks; slots that are done.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn quantizes_what_is_complete() {
    let mut bench = Bench::new(&device().await);
    let done = shaders::Slot { done: 1, ..slot(33, 31) };
    for dtype in QUANTIZED {
        for (rows, cached) in [(1, 31), (1, 30), (1, 32), (2, 31), (32, 0), (31, 0), (33, 31), (65, 127), (1, 0)] {
            record(&mut bench, dtype, [2, 16], rows, &[slot(rows, cached)]);
        }
        record(&mut bench, dtype, [2, 16], 3, &[slot(1, 31), slot(1, 95), slot(1, 63)]);
        record(&mut bench, dtype, [2, 16], 64, &[slot(1, 40), slot(1, 63), slot(34, 30), slot(5, 29)]);
        record(&mut bench, dtype, [2, 16], 64, &[slot(2, 31), done, slot(1, 31)]);
    }
    bench.run().await;
}

/// The reference on its own: what a block stands for is within half a step, and at ordinary widths takes the bytes that it may.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_comes_near() {
    for (dtype, bits, most) in [(CacheDtype::Q8, 8, 0.54), (CacheDtype::Q4, 4, 0.3125)] {
        for shape in [[1, 128], [2, 64], [8, 80], [4, 256], [3, 32]] {
            let heads = heads_of(shape);
            let share = block_bytes(&heads, dtype) as f64 / hot_block_bytes(&heads, dtype) as f64;
            assert!(share <= most, "{dtype:?} {shape:?}: {share} of f16");
        }
        for (kind, seed) in [Kind::Keys, Kind::Values].into_iter().flat_map(|kind| (0..7).map(move |seed| (kind, seed)))
        {
            let layout = Layout::new(kind, [3, 20], bits);
            let values = block(seed, 60);
            let mut words = vec![POISON; layout.words()];
            layout.encode(&values, &mut words);
            let parts = layout.parts(&words);
            for (i, (v, (code, scale, minimum))) in values.iter().zip(parts).enumerate() {
                let got = code as f32 * scale + minimum;
                // the scale itself is rounded; near the least numbers of f16, by much
                let steps = 2.0_f32.powi(bits as i32);
                let most = 0.51 * scale + steps * (scale * 2.0_f32.powi(-11) + 2.0_f32.powi(-25));
                assert!((got - v).abs() <= most, "{dtype:?} {kind:?} {seed} [{i}]: {got} for {v}, step {scale}");
            }
        }
    }
}
