#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Rows, rms_norm};
use webweft::reference;
use webweft::tensor::Elem;

use super::{Bench, ELEMS, devices, tolerance};
use crate::common::{assert_close, random};

/// Both result types, with and without subgroups, all rows and the last one.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn normalizes() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for dim in [1, 3, 31, 32, 33, 64, 255, 256, 257, 576] {
            for (bucket, rows) in [(1, 1), (4, 3), (64, 33)] {
                for elem in ELEMS {
                    for which in [Rows::All, Rows::Last] {
                        record(&mut bench, dim, bucket, rows, elem, which);
                    }
                }
            }
        }
        bench.run().await;
    }
}

fn record(bench: &mut Bench, dim: usize, bucket: u32, rows: u32, elem: Elem, which: Rows) {
    // rows of different magnitude
    let mut x = random(rows as usize * dim, 3);
    x.iter_mut().enumerate().for_each(|(i, v)| *v *= 10.0_f32.powi((i / dim % 5) as i32 - 2));
    let gain = random(dim, 4);
    let gain_buffer = bench.vector(&gain);
    let step = bench.step(rows, 5);
    bench.case(|case| {
        let input = case.input(&x, bucket, dim, Elem::F32);
        let y = rms_norm(&mut case.g, &input, &gain_buffer, 1e-5, which, elem, &step).expect("shapes fit");
        let from = if which == Rows::Last { (rows as usize - 1) * dim } else { 0 };
        let want = reference::rms_norm(&x[from..], &gain, 1e-5);
        let (abs, rel) = tolerance(elem);
        let count = if which == Rows::Last { 1 } else { rows };
        let name = format!("rms_norm {dim} to {elem:?}, {which:?} of {rows} in {bucket}");
        case.output(&y, count, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}
