#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Rows, quantize_rows};
use webweft::reference;
use webweft::tensor::{NO_INPUT, Order};

use super::{Bench, ELEMS, shuffled, stored};
use crate::common::{device, random};

/// Rows of every width around a word, a vec4 of words and the workgroup, one of zeros, an order, one row only, a bound.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn rows_become_codes_and_a_scale() {
    let mut bench = Bench::new(&device().await);
    // some rows reach less far than the least of the last
    for (elem, least) in [(ELEMS[0], 0.0), (ELEMS[1], 0.0), (ELEMS[0], 0.97)] {
        for (dim, bucket, rows, ordered, which) in [
            (1, 1, 1, false, Rows::All),
            (15, 4, 3, false, Rows::All),
            (16, 4, 4, false, Rows::All),
            (17, 8, 5, false, Rows::All),
            (64, 2, 2, true, Rows::All),
            (257, 3, 2, false, Rows::All),
            (1030, 2, 2, true, Rows::All),
            (33, 1, 9, false, Rows::Last(1)),
        ] {
            let count = if which == Rows::Last(1) { 1 } else { rows as usize };
            let mut x = stored(&random(count * dim, 4), elem);
            if count > 2 {
                x[dim..2 * dim].fill(0.0);
            }
            // every second place is no input
            let inputs: Vec<u32> = match ordered {
                true => shuffled(dim as u32).into_iter().flat_map(|k| [NO_INPUT, k]).collect(),
                false => (0..dim as u32).collect(),
            };
            let len = inputs.len();
            let taken: Vec<f32> = x
                .chunks_exact(dim)
                .flat_map(|row| inputs.iter().map(|&k| row.get(k as usize).copied().unwrap_or(0.0)))
                .collect();
            let (codes, scales) = reference::quantize_rows(&taken, len, least);
            let mut padded = inputs.clone();
            padded.resize(len.next_multiple_of(32), NO_INPUT);
            let order = ordered.then(|| Order { len: len as u32, inputs: bench.buffer(&padded) });
            let step = bench.step(rows, 9);
            bench.case(|case| {
                let input = case.input(&x, bucket, dim, elem);
                let y = quantize_rows(&mut case.g, &input, order.as_ref(), least, which, &step).expect("shapes fit");
                let stride = y.dim as usize;
                let name = format!("{elem:?} [{rows} of {bucket}, {dim}], order {ordered}, least {least}");
                case.output(&y, count as u32, name, move |name, got| {
                    for (t, row) in got.chunks_exact(stride).enumerate() {
                        let words: Vec<u32> = row.iter().map(|v| v.to_bits()).collect();
                        let scale = f32::from_bits(words[stride - 4]);
                        assert!((scale - scales[t]).abs() <= scales[t] * 1e-6, "{name}: {scale} of {}", scales[t]);
                        for k in 0..(stride - 4) * 4 {
                            let code = (words[k / 4] >> (k % 4 * 8)) as u8 as i8;
                            let want = if k < len { codes[t * len + k] } else { 0 };
                            // a quotient on the border between two codes may fall to either
                            let exact =
                                f64::from(taken.get(t * len + k).copied().unwrap_or(0.0)) / f64::from(scale.max(1e-30));
                            let border = k < len && (exact.abs().fract() - 0.5).abs() < 1e-4;
                            assert!(code == want || border, "{name}: code {k} of row {t} is {code}, want {want}");
                        }
                    }
                });
            });
        }
    }
    bench.run().await;
}
