#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{PoolKind, pool};
use webweft::reference;
use webweft::tensor::Elem;

use super::{Bench, ELEMS, devices, stored, tolerance};
use crate::common::{assert_close, random};

/// Means and first rows, with and without a length of 1; texts of many lengths, widths around lanes and vec4s.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn pools() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for (elem, dim) in ELEMS.into_iter().flat_map(|elem| [1_usize, 33, 64, 255, 256, 257, 384].map(|d| (elem, d))) {
            for rows in [vec![1], vec![5, 1, 64], vec![33, 32, 7, 31]] {
                for (kind, normalize) in
                    [PoolKind::Mean, PoolKind::First].into_iter().flat_map(|k| [(k, true), (k, false)])
                {
                    record(&mut bench, elem, dim, &rows, kind, normalize);
                }
            }
        }
        bench.run().await;
    }
}

fn record(bench: &mut Bench, elem: Elem, dim: usize, rows: &[usize], kind: PoolKind, normalize: bool) {
    let all = rows.iter().sum::<usize>();
    let x = stored(&random(all * dim, dim as u32), elem);
    let slots: Vec<(u32, u32)> = rows.iter().map(|&rows| (rows as u32, 0)).collect();
    let step = bench.step_of(&slots);
    bench.case(|case| {
        let input = case.input(&x, (all as u32).next_power_of_two(), dim, elem);
        let y = pool(&mut case.g, &input, kind, normalize, rows.len() as u32, &step).expect("shapes fit");
        let want = reference::pool(&x, dim, rows, kind == PoolKind::First, normalize);
        let (abs, rel) = tolerance(Elem::F32);
        let name = format!("{kind:?} of {rows:?}, normalized {normalize}, {elem:?} {dim}");
        case.output(&y, rows.len() as u32, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}
