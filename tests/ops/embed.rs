#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{embed, embed_positions, embed_types};
use webweft::reference;
use webweft::shaders::Row;
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
            step.set_ids(&bench.device, [ids.as_slice()]);
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

/// Learned positions from a row of the table on, in every storage, in parts.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn adds_positions() {
    let mut bench = Bench::new(&device().await);
    for storage in STORAGES {
        for (dim, bucket, rows, position, offset) in [(31, 4, 3, 0, 0), (64, 1, 1, 57, 2), (33, 32, 31, 20, 2)] {
            let (table, values) = bench.weight(&random(60 * dim, dim as u32), dim, storage, &[24, 40]);
            let x = random(rows as usize * dim, 2);
            let step = bench.step(rows, position);
            bench.case(|case| {
                let input = case.input(&x, bucket, dim, Elem::F32);
                embed_positions(&mut case.g, &table, &input, offset, &step).expect("shapes fit");
                let want = reference::embed_positions(&x, &values, dim, (position + offset) as usize);
                let (abs, rel) = tolerance(Elem::F32);
                let name =
                    format!("positions {storage:?} of {dim} from {position} + {offset}, rows {rows} of {bucket}");
                case.output(&input, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
            });
        }
    }
    bench.run().await;
}

/// Types from a list of their own, in every storage.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn adds_types() {
    let mut bench = Bench::new(&device().await);
    for storage in STORAGES {
        for (dim, bucket, rows) in [(31, 4, 3), (64, 1, 1), (33, 32, 31)] {
            let (table, values) = bench.weight(&random(3 * dim, dim as u32), dim, storage, &[]);
            let x = random(rows as usize * dim, 2);
            let step = bench.step(rows, 5);
            let types: Vec<u32> = (0..rows).map(|t| (t * 7 + 2) % 3).collect();
            let own: Vec<Row> = types.iter().map(|&id| Row { id, slot: 0 }).collect();
            let own = bench.buffer(&own);
            bench.case(|case| {
                let input = case.input(&x, bucket, dim, Elem::F32);
                embed_types(&mut case.g, &table, &input, &own, &step).expect("shapes fit");
                let want = reference::embed_types(&x, &values, dim, &types);
                let (abs, rel) = tolerance(Elem::F32);
                let name = format!("types {storage:?} of {dim}, rows {rows} of {bucket}");
                case.output(&input, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
            });
        }
    }
    bench.run().await;
}
