#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::embed;
use webweft::reference;
use webweft::tensor::Elem;

use super::{Bench, STORAGES, tolerance};
use crate::common::{assert_close, device, random};

/// Every storage, one part and several, odd widths, rows past the step's.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn embeds() {
    let mut bench = Bench::new(&device().await);
    let shapes: [(usize, usize, u32, u32, &[u32]); 6] = [
        (5, 1, 1, 1, &[]),
        (33, 31, 4, 3, &[8, 12]),
        (64, 33, 8, 8, &[]),
        (65, 64, 64, 63, &[32]),
        (100, 257, 2, 2, &[4, 96]),
        (40, 172, 128, 100, &[]),
    ];
    for storage in STORAGES {
        for (vocab, dim, bucket, rows, splits) in shapes {
            let scale = if dim == 33 { 5.75 } else { 1.0 };
            let (table, values) = bench.weight(&random(vocab * dim, dim as u32), dim, storage, splits);
            let step = bench.step(rows, 7);
            let ids: Vec<u32> = (0..rows).map(|t| (t * 29 + 3) % vocab as u32).collect();
            let mut ids = ids;
            ids[0] = vocab as u32 - 1;
            step.set_ids(&bench.device, &ids);
            bench.case(|case| {
                let y = embed(&mut case.g, &table, bucket, scale, &step).expect("shapes fit");
                let want = reference::embed(&values, dim, &ids, scale);
                let (abs, rel) = tolerance(Elem::F32);
                let name = format!("embed {storage:?} [{vocab}, {dim}] rows {rows} of {bucket} parts {splits:?}");
                case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
            });
        }
    }
    bench.run().await;
}
