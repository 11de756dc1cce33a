#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Heads, LayerKv, RopeLayout, RopeTable, rope_append, rope_table};
use webweft::reference;
use webweft::shaders;
use webweft::step::BLOCK;
use webweft::tensor::Elem;

use super::{Bench, ELEMS, POISON, pack, padded_to, pages_of, plain_kv, stored, tolerance, unpack};
use crate::common::{assert_close, device, random};

/// Queries, and what lands in the cache by a shuffled page table; the rest of the cache stays as it was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn rotates_and_appends() {
    let mut bench = Bench::new(&device().await);
    // H, K, E, R; rows there is room for, rows, position
    let cases = [
        (1, 1, 8, 8, 1, 1, 0),
        (8, 4, 8, 8, 8, 5, 30),
        (9, 3, 64, 64, 4, 3, 255),
        (4, 1, 20, 20, 64, 40, 61),
        (4, 4, 16, 8, 2, 2, 511),
        (2, 2, 6, 6, 4, 4, 31),
        (2, 1, 7, 4, 4, 3, 33),
        (2, 1, 80, 32, 2, 1, 1000),
        (1, 1, 128, 128, 1, 1, 5000),
        (1, 1, 256, 256, 2, 2, 100),
        (3, 3, 12, 0, 4, 3, 62),
    ];
    for (x_elem, c_elem) in ELEMS.into_iter().flat_map(|x| ELEMS.map(|c| (x, c))) {
        for (heads, kv_heads, head_dim, rotary, bucket, rows, position) in cases {
            let heads = Heads { heads, kv_heads, head_dim, rotary };
            for interleaved in [false, true] {
                let slots = vec![slot(rows, position)];
                let setup = Setup { heads, interleaved, raw_keys: false, bucket, slots };
                record(&mut bench, &setup, [x_elem, c_elem]);
            }
        }
    }
    bench.run().await;
}

/// Slots of different rows and positions: one from which keys were dropped, one that is done, of which nothing is written.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn appends_in_every_slot() {
    let mut bench = Bench::new(&device().await);
    let dropped = shaders::Slot { dropped: 32, ..slot(5, 130) };
    let done = shaders::Slot { done: 1, ..slot(2, 64) };
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 12, rotary: 8 };
    for slots in [
        vec![slot(1, 40), dropped, slot(33, 30)],
        vec![slot(33, 0), done, slot(1, 255), slot(1, 31)],
        vec![done, slot(1, 7), dropped],
    ] {
        for (bucket, raw_keys) in [(64, false), (40, false), (64, true)] {
            let setup = Setup { heads, interleaved: false, raw_keys, bucket, slots: slots.clone() };
            record(&mut bench, &setup, [Elem::F32, Elem::F32]);
            record(&mut bench, &setup, [Elem::F16, Elem::F16]);
        }
    }
    bench.run().await;
}

struct Setup {
    heads: Heads,
    interleaved: bool,
    /// keys are cached as they come, and queries rotated by their place in the cache
    raw_keys: bool,
    /// rows there is room for
    bucket: u32,
    slots: Vec<shaders::Slot>,
}

/// So many rows from `position` on, with all that was before in the cache.
fn slot(rows: u32, position: u32) -> shaders::Slot {
    shaders::Slot { rows, position, ..Default::default() }
}

fn record(bench: &mut Bench, setup: &Setup, [x_elem, c_elem]: [Elem; 2]) {
    let &Setup { heads, interleaved, raw_keys, bucket, ref slots } = setup;
    let [h, k, e] = [heads.heads, heads.kv_heads, heads.head_dim].map(|v| v as usize);
    let all = h + 2 * k;
    let padded = heads.padded() as usize;
    let inv_freq: Vec<f32> =
        (0..heads.rotary / 2).map(|i| 10000_f32.powf(-2.0 * i as f32 / heads.rotary as f32)).collect();
    // YaRN's factor, in one of the cases
    let scale = if e == 20 { 1.25 } else { 1.0 };
    let step = bench.step_of(&slots.iter().map(|slot| (slot.rows, slot.position)).collect::<Vec<_>>());
    step.set(&bench.device, slots);
    // one of the cases has a row for every position
    let every = e == 6;
    let positions = slots.iter().map(|slot| slot.position + slot.rows).max().unwrap_or(0);
    let data = if every { every_position(&inv_freq, positions) } else { rope_table(&inv_freq, scale, positions) };
    let table = RopeTable { data: bench.buffer(data.as_flattened()), layout: RopeLayout { every, interleaved } };
    let table = (heads.rotary > 0).then_some(&table);
    let row_words = k * padded / 4 * c_elem.bytes4() as usize / 4;
    let cache = || bench.poisoned((step.slots * step.pages * BLOCK) as usize * row_words);
    let kv = LayerKv { raw_keys, ..plain_kv(cache(), cache(), c_elem) };

    let rows: u32 = slots.iter().map(|slot| slot.rows).sum();
    let qkv = stored(&random(rows as usize * all * e, slots[0].position), x_elem);
    // of each row its queries, where it goes in the cache, and its keys and values; nothing of slots that are done
    let (mut queries, mut appended) = (Vec::new(), Vec::new());
    let mut rest = qkv.as_slice();
    for (s, slot) in (0..).zip(slots) {
        let own = rest.split_off(..slot.rows as usize * all * e).expect("rows of every slot");
        if slot.done != 0 {
            queries.extend((0..slot.rows).map(|_| None));
            continue;
        }
        let position = if raw_keys { slot.position - slot.dropped } else { slot.position } as usize;
        let mut want = reference::rope_append(own, [h, k, e], (&inv_freq, interleaved), scale, position);
        if raw_keys {
            want.k = own.chunks(all * e).flat_map(|row| &row[h * e..(h + k) * e]).map(|&v| v.into()).collect();
        }
        queries.extend(want.q.chunks(h * e).map(|row| Some(row.to_vec())));
        for (t, (keys, values)) in want.k.chunks(k * e).zip(want.v.chunks(k * e)).enumerate() {
            let at = reference::cache_row(&pages_of(&step, s), (slot.position - slot.dropped) as usize + t) * row_words;
            appended.push((at, [keys.to_vec(), values.to_vec()]));
        }
    }
    let name = format!(
        "rope_append {heads:?} interleaved {interleaved} raw keys {raw_keys} {x_elem:?} cache {c_elem:?}, {rows} of {bucket} rows: {slots:?}"
    );
    // every head is padded for itself, so that it looks like a row of pack
    let wide: Vec<u32> = pack(&qkv, e, Elem::F32);
    let wide: Vec<f32> = wide.into_iter().map(f32::from_bits).collect();
    bench.case(|case| {
        let input = case.input(&wide, bucket, all * padded, x_elem);
        let q = rope_append(&mut case.g, &input, &heads, table, &kv, &step).expect("shapes fit");
        let (abs, rel) = tolerance(x_elem);
        case.output(&q, rows, name.clone(), move |name, got| {
            for (got, want) in got.chunks_exact(h * padded).zip(&queries) {
                match want {
                    Some(row) => {
                        let row: Vec<f64> = row.chunks(e).flat_map(|head| padded_to(head, padded)).collect();
                        assert_close(name, got, &row, abs, rel);
                    }
                    None => assert!(got.iter().all(|v| v.is_nan()), "{name}: a slot that is done was written"),
                }
            }
        });
    });
    for (kind, what, buffer) in [(0, "keys", &kv.k), (1, "values", &kv.v)] {
        let name = format!("{name}: {what}");
        let appended: Vec<_> = appended.iter().map(|(at, kv)| (*at, kv[kind].clone())).collect();
        bench.read(&[buffer], move |bytes| {
            let mut bytes: Vec<[u8; 4]> = bytes[0].chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect();
            let (abs, rel) = tolerance(c_elem);
            for (at, want) in appended {
                let got = unpack(&name, bytes[at..at + row_words].as_flattened(), k, e, c_elem);
                assert_close(&name, &got, &want, abs, rel);
                bytes[at..at + row_words].fill(POISON.to_le_bytes());
            }
            assert!(bytes.iter().all(|&b| b == POISON.to_le_bytes()), "{name}: other rows were written");
        });
    }
}

/// (cos, sin) of every pair at every position.
pub fn every_position(inv_freq: &[f32], positions: u32) -> Vec<[f32; 2]> {
    let turn = |p: u32, f: f32| (f64::from(p) * f64::from(f)).sin_cos();
    let row = |p| inv_freq.iter().map(move |&f| turn(p, f)).map(|(sin, cos)| [cos as f32, sin as f32]);
    (0..positions).flat_map(row).collect()
}
