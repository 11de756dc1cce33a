#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::swiglu;
use webweft::reference;

use super::{Bench, ELEMS, stored, tolerance};
use crate::common::{assert_close, device, random};

/// Both element types; gates far out on either side.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn gates() {
    let mut bench = Bench::new(&device().await);
    for elem in ELEMS {
        for dim in [1_usize, 31, 32, 33, 63, 64, 65, 255, 256, 257, 172] {
            for (bucket, rows) in [(1, 1), (8, 5)] {
                let mut x = stored(&random(rows as usize * 2 * dim, dim as u32), elem);
                x.iter_mut().enumerate().for_each(|(i, v)| *v *= [1.0, 4.0, 64.0, 256.0][i / dim % 4]);
                let step = bench.step(rows, 3);
                // gate and up are padded each for itself
                let padded = dim.next_multiple_of(4);
                let mut wide = vec![0.0; x.len() / dim * padded];
                wide.chunks_exact_mut(padded)
                    .zip(x.chunks_exact(dim))
                    .for_each(|(to, from)| to[..dim].copy_from_slice(from));
                bench.case(|case| {
                    let input = case.input(&wide, bucket, 2 * padded, elem);
                    let y = swiglu(&mut case.g, &input, dim as u32, &step).expect("shapes fit");
                    let want = reference::swiglu(&x, dim);
                    let (abs, rel) = tolerance(elem);
                    let name = format!("swiglu {elem:?} {dim}, rows {rows} of {bucket}");
                    case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
                });
            }
        }
    }
    bench.run().await;
}
