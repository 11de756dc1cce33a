#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::fma;
use webweft::reference;

use super::{Bench, devices};
use crate::common::assert_close;

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn runs_its_chains() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for count in [1, 31, 255, 256, 257, 70_000] {
            for (rounds, factor, addend) in [(0, 0.5, 1.0), (1, 2.0, -1.0), (7, -0.75, 0.3), (100, 0.5, 1.0)] {
                bench.case(|case| {
                    let y = fma(&mut case.g, count, rounds, factor, addend).expect("shapes fit");
                    let want = reference::fma(count as usize, rounds, factor, addend);
                    let name = format!("fma of {count}, {rounds} rounds");
                    case.output(&y, count, name, move |name, got| assert_close(name, &got, &want, 1e-4, 1e-5));
                });
            }
        }
        bench.run().await;
    }
}
