#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Heads, OBSERVED, gather_cache};
use webweft::reference;
use webweft::reference::quantize_cache::Kind;
use webweft::shaders::Slot;
use webweft::tensor::CacheDtype;

use super::attention::Filled;
use super::{Bench, cached_kv, stored, tolerance};
use crate::common::{assert_close, device, random};

/// Rows `first .. first + rows` of `kept` ones, in a program for `bucket`.
fn record(
    bench: &mut Bench,
    [kv_heads, head_dim]: [u32; 2],
    [tokens, kept]: [u32; 2],
    [first, rows, bucket]: [u32; 3],
    dtype: CacheDtype,
) {
    let [k, e] = [kv_heads, head_dim].map(|v| v as usize);
    let heads = Heads { heads: 2 * kv_heads, kv_heads, head_dim, rotary: 0 };
    let step = bench.step_of(&[(rows, first), (1, tokens)]);
    let slots = [Slot { position: first, rows, ..Slot::default() }, Slot { position: tokens, ..Slot::default() }];
    step.set(&bench.device, &slots);
    let mut caches = [(); 2].map(|()| Filled::new(&step, heads, dtype));
    let data = |seed| random((tokens as usize + 1) * k * e, seed);
    let cached = [(Kind::Keys, 1), (Kind::Values, 2)].map(|(kind, seed)| {
        let cached = caches[seed as usize - 1].put(kind, 1, (1, tokens), data(seed));
        cached.at_end(tokens as usize, k * e)
    });
    let [k_words, v_words] = caches.map(|cache| cache.words);
    let kv = cached_kv(bench.buffer(&k_words), bench.buffer(&v_words), dtype, &step);

    let early = (kept - OBSERVED) as usize;
    let of_head = |head: usize| reference::select_keys(&random((tokens - OBSERVED) as usize, 9 + head as u32), early);
    let chosen: Vec<u32> = (0..k).flat_map(of_head).collect();
    let buffer = bench.buffer(&[vec![u32::MAX; 7], chosen.clone()].concat());
    let [keys, values] = cached.map(|cached| reference::gather_cache(&cached, [k, e], &chosen, kept as usize));
    let range = (first * kv_heads * head_dim) as usize..((first + rows) * kv_heads * head_dim) as usize;
    let both = keys[range.clone()].chunks_exact(k * e).zip(values[range].chunks_exact(k * e));
    // rows of keys and values, heads padded as kernels have them
    let padded = heads.padded() as usize;
    let elem = dtype.elem();
    let want: Vec<f64> = both
        .flat_map(|(k, v)| [k, v].concat())
        .collect::<Vec<_>>()
        .chunks_exact(e)
        .flat_map(|head| {
            let mut head: Vec<f64> = stored(head, elem).iter().map(|&v| f64::from(v)).collect();
            head.resize(padded, 0.0);
            head
        })
        .collect();
    let name = format!("gather_cache K {k} E {e}, {first} to {} of {kept} of {tokens}, {dtype:?}", first + rows);
    bench.case(|case| {
        let y = gather_cache(&mut case.g, &heads, &kv, (&buffer, 7, kept), bucket, &step).expect("shapes fit");
        let (abs, rel) = tolerance(elem);
        case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

/// Every type, chosen positions and last ones, some of them in one program; heads with padding.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn gathers() {
    let mut bench = Bench::new(&device().await);
    for dtype in CacheDtype::ALL {
        for shape in [[2, 16], [1, 6], [3, 20]] {
            record(&mut bench, shape, [300, 128], [0, 128, 128], dtype);
        }
        record(&mut bench, [2, 16], [320, 160], [128, 32, 128], dtype);
        record(&mut bench, [2, 16], [161, 160], [64, 70, 128], dtype);
    }
    bench.run().await;
}
