#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{
    AttentionParams, Heads, RopeLayout, RopeTable, attention, block_bytes, hot_block_bytes, rope_table,
};
use webweft::reference;
use webweft::reference::quantize_cache::{Kind, Layout};
use webweft::step::{BLOCK, Step};
use webweft::tensor::{CacheDtype, Elem};

use super::rope_append::every_position;
use super::{Bench, ELEMS, POISON, cached_kv, cold_pages_of, pack, padded_to, pages_of, stored, tolerance};
use crate::common::{assert_close, device, random};

/// The types of caches whose kernels differ by more than how an element is stored.
const KINDS: [CacheDtype; 3] = [CacheDtype::F32, CacheDtype::Q8, CacheDtype::Q4];

struct Setup {
    /// H, K, E
    heads: [u32; 3],
    /// rows there is room for
    bucket: u32,
    /// of each slot its rows and its position
    slots: Vec<(u32, u32)>,
    window: u32,
    softcap: f32,
    /// keys that the program is recorded for
    live: u32,
    /// keys are rotated as they are read
    rope: Option<Turns>,
    causal: bool,
}

/// R, the attention factor, and how the table is read.
#[derive(Clone, Copy)]
struct Turns {
    rotary: u32,
    scale: f64,
    layout: RopeLayout,
}

fn setup(heads: [u32; 3], [bucket, rows, position]: [u32; 3], window: u32, live: u32) -> Setup {
    Setup { heads, bucket, slots: vec![(rows, position)], window, softcap: 0.0, live, rope: None, causal: true }
}

/// A slot's keys, or values, `[S, K E]`: as they came, and as the cache has them once their blocks are full.
pub struct Cached {
    own: Vec<f32>,
    full: Vec<f32>,
}

impl Cached {
    /// As the cache has the first `tokens` positions once they are all that there are, of `row` elements each.
    pub fn at_end(&self, tokens: usize, row: usize) -> Vec<f32> {
        let full = tokens / BLOCK as usize * BLOCK as usize * row;
        [&self.full[..full], &self.own[full..tokens * row]].concat()
    }
}

/// What a cache holds of the blocks that rows read: the rows' own ones, hot where there is a difference, and those before them; all
/// else is poison.
pub struct Filled<'a> {
    step: &'a Step,
    heads: Heads,
    dtype: CacheDtype,
    pub words: Vec<u32>,
}

impl<'a> Filled<'a> {
    pub fn new(step: &'a Step, heads: Heads, dtype: CacheDtype) -> Self {
        let blocks = u64::from(step.slots * step.pages);
        let hot = if dtype.bits().is_some() { hot_block_bytes(&heads, dtype) } else { 0 };
        let words = vec![POISON; (blocks * (hot + block_bytes(&heads, dtype)) / 4) as usize];
        Self { step, heads, dtype, words }
    }

    pub fn put(&mut self, kind: Kind, slot: u32, (rows, position): (u32, u32), own: Vec<f32>) -> Cached {
        let [k, e] = [self.heads.kv_heads, self.heads.head_dim].map(|v| v as usize);
        let own = stored(&own, self.dtype.elem());
        let mut full = own.clone();
        let hot = hot_block_bytes(&self.heads, self.dtype) as usize / 4;
        let [first, last] = [position, position + rows - 1].map(|p| (p / BLOCK) as usize);
        for (b, block) in own.chunks(BLOCK as usize * k * e).enumerate() {
            let words = pack(block, e, self.dtype.elem());
            let page = pages_of(self.step, slot)[b] as usize;
            let Some(bits) = self.dtype.bits() else {
                self.words[page * hot..][..words.len()].copy_from_slice(&words);
                continue;
            };
            if b >= first {
                self.words[page * hot..][..words.len()].copy_from_slice(&words);
            }
            if b < last {
                let layout = Layout::new(kind, [k, e], bits as usize);
                let page = cold_pages_of(self.step, slot)[b] as usize;
                let at = (self.step.slots * self.step.pages) as usize * hot + page * layout.words();
                let words = &mut self.words[at..at + layout.words()];
                layout.encode(block, words);
                full[b * BLOCK as usize * k * e..][..block.len()].copy_from_slice(&layout.decode(words));
            }
        }
        Cached { own, full }
    }
}

/// What rows at `position` and after it make of a cache, each reading its own block as it came: `[T, H E]`.
fn attended(q: &[f32], cache: [&Cached; 2], position: u32, setup: &Setup, inv_freq: &[f32], scale: f32) -> Vec<f64> {
    let [h, k, e] = setup.heads.map(|v| v as usize);
    let mut y = Vec::new();
    for (row, p) in q.chunks_exact(h * e).zip(position..) {
        let own = (p / BLOCK * BLOCK) as usize * k * e;
        let [mut keys, values] = cache.map(|c| [&c.full[..own], &c.own[own..]].concat());
        if let Some(Turns { scale, layout, .. }) = setup.rope {
            // rows of keys and values, without queries
            let rows = keys.chunks_exact(k * e).zip(values.chunks_exact(k * e));
            let rows: Vec<f32> = rows.flat_map(|(k, v)| [k, v].concat()).collect();
            let rotated = reference::rope_append(&rows, [0, k, e], (inv_freq, layout.interleaved), scale, 0);
            keys = rotated.k.iter().map(|&v| v as f32).collect();
        }
        let caps = [scale, setup.softcap];
        if !setup.causal {
            y.extend(reference::attention_of_all(row, &keys, &values, [h, k, e], caps));
            continue;
        }
        y.extend(reference::attention(row, &keys, &values, [h, k, e], p as usize, caps, setup.window as usize));
    }
    y
}

fn record(bench: &mut Bench, setup: &Setup, x_elem: Elem, dtype: CacheDtype) {
    let &Setup { heads: [heads, kv_heads, head_dim], bucket, ref slots, window, softcap, live, rope, causal } = setup;
    let [h, k, e] = [heads, kv_heads, head_dim].map(|v| v as usize);
    let rotary = rope.map_or(head_dim / 2 * 2, |rope| rope.rotary);
    let heads = Heads { heads, kv_heads, head_dim, rotary };
    let padded = heads.padded() as usize;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let inv_freq: Vec<f32> = (0..rotary / 2).map(|i| 1000_f32.powf(-2.0 * i as f32 / rotary as f32)).collect();
    let step = bench.step_of(slots);
    let mut caches = [(); 2].map(|()| Filled::new(&step, heads, dtype));
    let (mut q, mut want) = (Vec::new(), Vec::new());
    for (slot, &(rows, position)) in (0..).zip(slots) {
        let seed = 100 * slot;
        // peaked enough that a wrong mask or a wrong maximum shows
        let own: Vec<f32> = random(rows as usize * h * e, seed + 1).iter().map(|v| v * 6.0).collect();
        let own = stored(&own, x_elem);
        let data = |seed| random((position + rows) as usize * k * e, seed);
        let keys = caches[0].put(Kind::Keys, slot, (rows, position), data(seed + 2));
        let values = caches[1].put(Kind::Values, slot, (rows, position), data(seed + 3));
        let y = attended(&own, [&keys, &values], position, setup, &inv_freq, scale);
        want.extend(y.chunks_exact(e).flat_map(|head| padded_to(head, padded)));
        q.extend(own);
    }
    let [k_words, v_words] = caches.map(|cache| cache.words);
    let mut kv = cached_kv(bench.buffer(&k_words), bench.buffer(&v_words), dtype, &step);
    kv.raw_keys = rope.is_some();
    let table = rope.map(|Turns { scale, layout, .. }| {
        let positions = step.pages * BLOCK;
        let data =
            if layout.every { every_position(&inv_freq, positions) } else { rope_table(&inv_freq, scale, positions) };
        RopeTable { data: bench.buffer(data.as_flattened()), layout }
    });
    let wide: Vec<f32> = pack(&q, e, Elem::F32).into_iter().map(f32::from_bits).collect();
    let rows = slots.iter().map(|slot| slot.0).sum();
    let layout = rope.map(|rope| rope.layout);
    let name = format!(
        "attention H {h} K {k} E {e}, rows from positions {slots:?} of {bucket}, window {window}, cap {softcap}, live {live}, causal {causal}, \
         rotated on read {layout:?} R {rotary}, {x_elem:?} cache {dtype:?}"
    );
    bench.case(|case| {
        let input = case.input(&wide, bucket, h * padded, x_elem);
        let params = AttentionParams { heads, scale, softcap, window, causal, live, slots: slots.len() as u32 };
        let y = attention(&mut case.g, &input, &kv, table.as_ref(), &params, &step).expect("shapes fit");
        let (abs, rel) = tolerance(x_elem);
        case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

/// Every type, in one piece and split.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_in_every_variant() {
    let mut bench = Bench::new(&device().await);
    for (x_elem, dtype) in ELEMS.into_iter().flat_map(|x| CacheDtype::ALL.map(|c| (x, c))) {
        record(&mut bench, &setup([4, 2, 16], [8, 5, 40], 0, 64), x_elem, dtype);
        record(&mut bench, &setup([4, 2, 16], [1, 1, 700], 0, 1024), x_elem, dtype);
    }
    bench.run().await;
}

/// Every head width, with multi-head, grouped and multi-query heads.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_at_every_width() {
    let mut bench = Bench::new(&device().await);
    let heads =
        [[4, 4, 6], [8, 4, 8], [3, 3, 16], [6, 1, 20], [9, 3, 64], [2, 2, 80], [4, 2, 128], [2, 1, 256], [24, 1, 8]];
    for (heads, dtype) in heads.into_iter().flat_map(|heads| KINDS.map(|dtype| (heads, dtype))) {
        record(&mut bench, &setup(heads, [4, 3, 37], 0, 41), Elem::F32, dtype);
        record(&mut bench, &setup(heads, [1, 1, 300], 0, 512), Elem::F32, dtype);
    }
    bench.run().await;
}

/// Positions, live lengths and rows around blocks and splits; rows that end before the bucket does.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_at_every_length() {
    let mut bench = Bench::new(&device().await);
    let heads = [4, 2, 8];
    for dtype in KINDS {
        for position in [0, 1, 30, 31, 32, 33, 62, 63, 64, 254, 255, 256, 257, 999] {
            let live = (position + 1_u32).next_power_of_two().max(32);
            record(&mut bench, &setup(heads, [1, 1, position], 0, live), Elem::F32, dtype);
            // recorded for a far longer cache: splits that hold nothing
            record(&mut bench, &setup(heads, [1, 1, position], 0, 4096), Elem::F32, dtype);
        }
        for (bucket, rows, position) in [
            (2, 2, 31),
            (8, 8, 27),
            (8, 8, 508),
            (8, 8, 0),
            (32, 31, 0),
            (32, 32, 32),
            (64, 33, 0),
            (64, 64, 1),
            (256, 65, 190),
        ] {
            record(&mut bench, &setup(heads, [bucket, rows, position], 0, position + bucket), Elem::F32, dtype);
        }
        // several rows and several splits
        record(&mut bench, &setup(heads, [8, 7, 500], 0, 1024), Elem::F32, dtype);
        record(&mut bench, &setup([5, 1, 8], [4, 3, 900], 0, 1024), Elem::F32, dtype);
    }
    bench.run().await;
}

/// Slots of one row, of some, of more than a block, at positions of their own, one with a far longer cache than the others; in one
/// piece and split.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_in_every_slot() {
    let mut bench = Bench::new(&device().await);
    let slots = [
        vec![(1, 40), (5, 0), (33, 30)],
        vec![(33, 0), (1, 700), (5, 61), (1, 31)],
        vec![(1, 5), (1, 64), (1, 900), (1, 0), (1, 33)],
    ];
    for slots in slots {
        let rows: u32 = slots.iter().map(|slot| slot.0).sum();
        for (heads, window) in [([4, 2, 16], 0), ([3, 3, 8], 0), ([8, 1, 6], 0), ([4, 2, 16], 35)] {
            for bucket in [rows, rows.next_power_of_two()] {
                let setup = Setup { slots: slots.clone(), ..setup(heads, [bucket, 0, 0], window, 1024) };
                KINDS.iter().for_each(|&dtype| record(&mut bench, &setup, Elem::F32, dtype));
            }
        }
    }
    bench.run().await;
}

/// Rows that see those after them, around blocks and tiles; slots of their own lengths; in one piece and split.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_to_all() {
    let mut bench = Bench::new(&device().await);
    let slots = [
        vec![(1, 0)],
        vec![(8, 0)],
        vec![(31, 0), (32, 0), (33, 0)],
        vec![(7, 0), (1, 0), (130, 0), (9, 0)],
        vec![(300, 0)],
    ];
    for slots in slots {
        let rows: u32 = slots.iter().map(|slot| slot.0).sum();
        for (heads, live) in [([4, 4, 16], 64), ([3, 3, 6], 512), ([4, 2, 32], 1024)] {
            let bucket = rows.next_power_of_two();
            for dtype in [CacheDtype::F32, CacheDtype::F16] {
                let setup = Setup {
                    slots: slots.clone(),
                    causal: false,
                    softcap: if live == 64 { 3.0 } else { 0.0 },
                    ..setup(heads, [bucket, 0, 0], 0, live.max(rows.next_power_of_two()))
                };
                record(&mut bench, &setup, Elem::F32, dtype);
                record(&mut bench, &setup, Elem::F16, dtype);
            }
        }
    }
    bench.run().await;
}

/// A sliding window, within and across blocks and splits.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_in_a_window() {
    let mut bench = Bench::new(&device().await);
    let heads = [4, 2, 8];
    for window in [1, 2, 31, 32, 33, 64, 100, 5000] {
        for rows in [[1, 1, 0], [1, 1, 95], [1, 1, 600], [64, 50, 20], [8, 8, 300]] {
            let setup = setup(heads, rows, window, 1024);
            KINDS.iter().for_each(|&dtype| record(&mut bench, &setup, Elem::F32, dtype));
        }
    }
    bench.run().await;
}

/// Scores bounded so that it shows, in one piece and split.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_with_bounded_scores() {
    let mut bench = Bench::new(&device().await);
    for softcap in [0.5, 2.0, 50.0] {
        for rows in [[1, 1, 600], [8, 5, 40], [64, 50, 20]] {
            let plain = setup([4, 2, 16], rows, 0, 1024);
            let setup = Setup { softcap, ..plain };
            KINDS.iter().for_each(|&dtype| record(&mut bench, &setup, Elem::F32, dtype));
        }
    }
    bench.run().await;
}

/// Keys that are rotated as they are read, by their place in the cache: every type and layout, pairs within a vec4 and across, heads
/// that are rotated in part.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_to_raw_keys() {
    let mut bench = Bench::new(&device().await);
    let layouts = [(false, false), (false, true), (true, false), (true, true)]
        .map(|(every, interleaved)| RopeLayout { every, interleaved });
    let shapes = [
        ([4, 2, 16], 16, 1.0),
        ([3, 3, 6], 6, 1.0),
        ([2, 1, 20], 20, 1.25),
        ([4, 2, 16], 6, 1.0),
        ([4, 2, 64], 32, 0.8),
    ];
    // browsers are slow to compile: only f32 in every layout, the others in one each
    let all = layouts.map(|layout| (CacheDtype::F32, layout, shapes.len()));
    let each = CacheDtype::ALL.into_iter().zip(layouts).map(|(dtype, layout)| (dtype, layout, 2));
    for (dtype, layout, count) in all.into_iter().chain(each.skip(1)) {
        for (heads, rotary, scale) in shapes.into_iter().take(count) {
            // the factor is none of a table with a row for every position
            let scale = if layout.every { 1.0 } else { scale };
            let rope = Some(Turns { rotary, scale, layout });
            for rows in [[8, 5, 29], [1, 1, 600]] {
                record(&mut bench, &Setup { rope, ..setup(heads, rows, 0, 1024) }, Elem::F32, dtype);
            }
            let slots = vec![(1, 40), (5, 0), (33, 300)];
            record(&mut bench, &Setup { rope, slots, ..setup(heads, [64, 0, 0], 35, 1024) }, Elem::F32, dtype);
        }
    }
    bench.run().await;
}
