#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{FmaType, fma};
use webweft::reference;

use super::{Bench, devices};
use crate::common::assert_close;

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn runs_its_chains() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for ty in [FmaType::F32, FmaType::F16].into_iter().filter(|ty| ty.is_in(device.capabilities())) {
            let (relative, absolute) = if ty == FmaType::F32 { (1e-4, 1e-5) } else { (1e-2, 0.1) };
            for count in [1, 31, 255, 256, 257, 70_000] {
                for (rounds, factor, addend) in [(0, 0.5, 1.0), (1, 2.0, -1.0), (7, -0.75, 0.3), (100, 0.5, 1.0)] {
                    bench.case(|case| {
                        let y = fma(&mut case.g, ty, count, rounds, factor, addend).expect("shapes fit");
                        let want = reference::fma(count as usize, rounds, factor, addend);
                        let name = format!("fma of {count}, {rounds} rounds in {ty:?}");
                        case.output(&y, count, name, move |name, got| {
                            assert_close(name, &got, &want, relative, absolute)
                        });
                    });
                }
            }
        }
        bench.run().await;
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn integers_are_exact() {
    for device in devices().await.into_iter().filter(|device| FmaType::Int8.is_in(device.capabilities())) {
        let mut bench = Bench::new(&device);
        for count in [1, 255, 256, 257] {
            // the last one leaves the lowest byte
            for (rounds, factor, addend) in [(0, 1, 1), (1, -3, 2), (9, -128, -1), (40, 127, 127)] {
                bench.case(|case| {
                    let (a, b) = (f32::from(factor), f32::from(addend));
                    let y = fma(&mut case.g, FmaType::Int8, count, rounds, a, b).expect("shapes fit");
                    let want = reference::fma_int8(count as usize, rounds, factor, addend);
                    let name = format!("fma of {count}, {rounds} rounds of {factor} in bytes");
                    case.output(&y, count, name, move |name, got| assert_close(name, &got, &want, 0.0, 0.0));
                });
            }
        }
        bench.run().await;
    }
}
