#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{AttentionParams, Heads, LayerKv, attention};
use webweft::reference;
use webweft::step::BLOCK;
use webweft::tensor::Elem;

use super::{Bench, ELEMS, POISON, TABLE, pack, padded_to, pages_of, stored, tolerance};
use crate::common::{assert_close, device, random};

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
}

fn setup(heads: [u32; 3], [bucket, rows, position]: [u32; 3], window: u32, live: u32) -> Setup {
    Setup { heads, bucket, slots: vec![(rows, position)], window, softcap: 0.0, live }
}

fn record(bench: &mut Bench, setup: &Setup, x_elem: Elem, c_elem: Elem) {
    let &Setup { heads: [heads, kv_heads, head_dim], bucket, ref slots, window, softcap, live } = setup;
    let [h, k, e] = [heads, kv_heads, head_dim].map(|v| v as usize);
    let heads = Heads { heads, kv_heads, head_dim, rotary: head_dim / 2 * 2 };
    let padded = heads.padded() as usize;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let step = bench.step_of(slots);
    let row_words = k * padded / 4 * c_elem.bytes4() as usize / 4;
    // what no position has is NaN
    let mut caches = [(); 2].map(|()| vec![POISON; (step.slots * step.pages * BLOCK) as usize * row_words]);
    let (mut q, mut want) = (Vec::new(), Vec::new());
    for (slot, &(rows, position)) in (0..).zip(slots) {
        let seed = 100 * slot;
        let keys = (position + rows) as usize;
        // peaked enough that a wrong mask or a wrong maximum shows
        let own: Vec<f32> = random(rows as usize * h * e, seed + 1).iter().map(|v| v * 6.0).collect();
        let own = stored(&own, x_elem);
        let kv = [2, 3].map(|kind| stored(&random(keys * k * e, seed + kind), c_elem));
        for (cache, data) in caches.iter_mut().zip(&kv) {
            for (s, row) in data.chunks_exact(k * e).enumerate() {
                let at = reference::cache_row(&pages_of(&step, slot), s) * row_words;
                cache[at..at + row_words].copy_from_slice(&pack(row, e, c_elem));
            }
        }
        let shape = [h, k, e];
        let y = reference::attention(&own, &kv[0], &kv[1], shape, position as usize, [scale, softcap], window as usize);
        want.extend(y.chunks_exact(e).flat_map(|head| padded_to(head, padded)));
        q.extend(own);
    }
    let [keys, values] = caches.map(|words| bench.buffer(&words));
    let kv = LayerKv { k: keys, v: values, elem: c_elem, table: TABLE };
    let wide: Vec<f32> = pack(&q, e, Elem::F32).into_iter().map(f32::from_bits).collect();
    let rows = slots.iter().map(|slot| slot.0).sum();
    let name = format!(
        "attention H {h} K {k} E {e}, rows from positions {slots:?} of {bucket}, window {window}, cap {softcap}, live {live}, \
         {x_elem:?} cache {c_elem:?}"
    );
    bench.case(|case| {
        let input = case.input(&wide, bucket, h * padded, x_elem);
        let params = AttentionParams { heads, scale, softcap, window, live, slots: slots.len() as u32 };
        let y = attention(&mut case.g, &input, &kv, &params, &step).expect("shapes fit");
        let (abs, rel) = tolerance(x_elem);
        case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

/// Every type, in one piece and split.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_in_every_variant() {
    let mut bench = Bench::new(&device().await);
    for (x_elem, c_elem) in ELEMS.into_iter().flat_map(|x| ELEMS.map(|c| (x, c))) {
        record(&mut bench, &setup([4, 2, 16], [8, 5, 40], 0, 64), x_elem, c_elem);
        record(&mut bench, &setup([4, 2, 16], [1, 1, 700], 0, 1024), x_elem, c_elem);
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
    for heads in heads {
        record(&mut bench, &setup(heads, [4, 3, 37], 0, 41), Elem::F32, Elem::F32);
        record(&mut bench, &setup(heads, [1, 1, 300], 0, 512), Elem::F32, Elem::F32);
    }
    bench.run().await;
}

/// Positions, live lengths and rows around blocks and splits; rows that end before the bucket does.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn attends_at_every_length() {
    let mut bench = Bench::new(&device().await);
    let heads = [4, 2, 8];
    for position in [0, 1, 30, 31, 32, 33, 62, 63, 64, 254, 255, 256, 257, 999] {
        let live = (position + 1_u32).next_power_of_two().max(32);
        record(&mut bench, &setup(heads, [1, 1, position], 0, live), Elem::F32, Elem::F32);
        // recorded for a far longer cache: splits that hold nothing
        record(&mut bench, &setup(heads, [1, 1, position], 0, 4096), Elem::F32, Elem::F32);
    }
    for (bucket, rows, position) in
        [(2, 2, 31), (8, 8, 0), (32, 31, 0), (32, 32, 32), (64, 33, 0), (64, 64, 1), (256, 65, 190)]
    {
        record(&mut bench, &setup(heads, [bucket, rows, position], 0, position + bucket), Elem::F32, Elem::F32);
    }
    // several rows and several splits
    record(&mut bench, &setup(heads, [8, 7, 500], 0, 1024), Elem::F32, Elem::F32);
    record(&mut bench, &setup([5, 1, 8], [4, 3, 900], 0, 1024), Elem::F32, Elem::F32);
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
                let setup = Setup { heads, bucket, slots: slots.clone(), window, softcap: 0.0, live: 1024 };
                record(&mut bench, &setup, Elem::F32, Elem::F32);
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
            record(&mut bench, &setup(heads, rows, window, 1024), Elem::F32, Elem::F32);
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
            record(&mut bench, &Setup { softcap, ..plain }, Elem::F32, Elem::F32);
        }
    }
    bench.run().await;
}
