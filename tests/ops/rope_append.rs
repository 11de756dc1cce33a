#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Heads, LayerKv, RopeLayout, RopeTable, rope_append, rope_table};
use webweft::reference;
use webweft::step::BLOCK;
use webweft::tensor::Elem;

use super::{Bench, ELEMS, POISON, TABLE, pack, pages_of, stored, tolerance, unpack};
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
                record(&mut bench, heads, interleaved, [bucket, rows, position], [x_elem, c_elem]);
            }
        }
    }
    bench.run().await;
}

fn record(
    bench: &mut Bench,
    heads: Heads,
    interleaved: bool,
    [bucket, rows, position]: [u32; 3],
    [x_elem, c_elem]: [Elem; 2],
) {
    let [h, k, e] = [heads.heads, heads.kv_heads, heads.head_dim].map(|v| v as usize);
    let all = h + 2 * k;
    let padded = heads.padded() as usize;
    let qkv = stored(&random(rows as usize * all * e, position), x_elem);
    let inv_freq: Vec<f32> =
        (0..heads.rotary / 2).map(|i| 10000_f32.powf(-2.0 * i as f32 / heads.rotary as f32)).collect();
    // YaRN's factor, in one of the cases
    let scale = if e == 20 { 1.25 } else { 1.0 };
    let step = bench.step(rows, position);
    let pages = pages_of(&step, 0);
    // one of the cases has a row for every position
    let every = e == 6;
    let data =
        if every { every_position(&inv_freq, position + rows) } else { rope_table(&inv_freq, scale, position + rows) };
    let table = RopeTable { data: bench.buffer(data.as_flattened()), layout: RopeLayout { every, interleaved } };
    let table = (heads.rotary > 0).then_some(&table);
    let row_words = k * padded / 4 * c_elem.bytes4() as usize / 4;
    let cache = || bench.poisoned((step.pages * BLOCK) as usize * row_words);
    let kv = LayerKv { k: cache(), v: cache(), elem: c_elem, table: TABLE };

    let want = reference::rope_append(&qkv, [h, k, e], (&inv_freq, interleaved), scale, position as usize);
    let name = format!(
        "rope_append {heads:?} interleaved {interleaved} {x_elem:?} cache {c_elem:?}, {rows} of {bucket} rows from {position}"
    );
    // every head is padded for itself, so that it looks like a row of pack
    let wide: Vec<u32> = pack(&qkv, e, Elem::F32);
    let wide: Vec<f32> = wide.into_iter().map(f32::from_bits).collect();
    bench.case(|case| {
        let input = case.input(&wide, bucket, all * padded, x_elem);
        let q = rope_append(&mut case.g, &input, &heads, table, &kv, &step).expect("shapes fit");
        let (abs, rel) = tolerance(x_elem);
        let want: Vec<f64> = want.q.chunks(e).flat_map(|head| padded_to(head, padded)).collect();
        case.output(&q, rows, name.clone(), move |name, got| assert_close(name, &got, &want, abs, rel));
    });
    for (what, buffer, want) in [("keys", &kv.k, want.k), ("values", &kv.v, want.v)] {
        let (name, pages) = (format!("{name}: {what}"), pages.clone());
        bench.read(&[buffer], move |bytes| {
            let mut bytes: Vec<[u8; 4]> = bytes[0].chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect();
            let mut got = Vec::new();
            for t in 0..rows as usize {
                let at = reference::cache_row(&pages, position as usize + t) * row_words;
                got.extend(unpack(&name, bytes[at..at + row_words].as_flattened(), k, e, c_elem));
                bytes[at..at + row_words].fill(POISON.to_le_bytes());
            }
            assert!(bytes.iter().all(|&b| b == POISON.to_le_bytes()), "{name}: other rows were written");
            let (abs, rel) = tolerance(c_elem);
            assert_close(&name, &got, &want, abs, rel);
        });
    }
}

fn padded_to(head: &[f64], padded: usize) -> Vec<f64> {
    let mut head = head.to_vec();
    head.resize(padded, 0.0);
    head
}

fn every_position(inv_freq: &[f32], positions: u32) -> Vec<[f32; 2]> {
    let turn = |p: u32, f: f32| (f64::from(p) * f64::from(f)).sin_cos();
    let row = |p| inv_freq.iter().map(move |&f| turn(p, f)).map(|(sin, cos)| [cos as f32, sin as f32]);
    (0..positions).flat_map(row).collect()
}
