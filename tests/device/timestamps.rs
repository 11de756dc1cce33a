//! More passes than one query set has room for.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::graph::{Arena, Graph};
use webweft::ops;

use crate::common::{device, skipped};

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn thousands_of_passes_are_timed() {
    let device = device().await;
    if !device.capabilities().timestamps {
        return skipped("the adapter has no timestamps");
    }
    const COUNT: u64 = 2048 + 52;
    let mut g = Graph::new(&device);
    for _ in 0..COUNT {
        ops::fma(&mut g, ops::FmaType::F32, 1, 0, 0.5, 1.0).unwrap();
    }
    let program = g.finish(&Arena::default()).unwrap();
    let parts: Vec<_> = program.parts().collect();
    let [part] = &parts[..] else { panic!("nothing is brought") };
    let timed = part.time(&device, &[]).await.unwrap();
    assert_eq!(timed.dispatches.len() as u64, COUNT);
    assert!(timed.dispatches.iter().all(|d| d.begin_ns > 0 && d.amount.is_none()), "what nobody states is not there");
    assert!(timed.dispatches.is_sorted_by(|a, b| a.end_ns <= b.begin_ns));
    assert!(timed.kernels_us() > 0.0 && timed.kernels_us() <= timed.wall_us + 200.0);
}
