#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::softcap;
use webweft::reference;
use webweft::tensor::Elem;

use super::{Bench, tolerance};
use crate::common::{assert_close, device, random};

/// From where it changes nothing to where it is the bound itself.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn bounds() {
    let mut bench = Bench::new(&device().await);
    for (rows, vocab) in [(1, 1_usize), (1, 255), (1, 256), (1, 257), (3, 33), (2, 480)] {
        for cap in [0.5, 6.0, 30.0] {
            let mut x = random(rows as usize * vocab, vocab as u32);
            x.iter_mut().enumerate().for_each(|(i, v)| *v *= 10.0_f32.powi(i as i32 % 6 - 2));
            bench.case(|case| {
                let input = case.input(&x, rows, vocab, Elem::F32);
                softcap(&mut case.g, &input, cap).expect("shapes fit");
                let want = reference::softcap(&x, cap);
                let (abs, rel) = tolerance(Elem::F32);
                let name = format!("softcap {cap} of [{rows}, {vocab}]");
                case.output(&input, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
            });
        }
    }
    bench.run().await;
}
