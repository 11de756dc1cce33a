#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Act, activation};
use webweft::reference::{self, activation as scalar};
use webweft::tensor::Elem;

use super::{Bench, ELEMS, stored, tolerance};
use crate::common::{assert_close, device, random};

type Scalar = fn(f64) -> f64;

const ACTS: [(Act, Scalar); 7] = [
    (Act::Silu, scalar::silu),
    (Act::GeluTanh, scalar::gelu_tanh),
    (Act::Gelu, scalar::gelu),
    (Act::QuickGelu, scalar::quick_gelu),
    (Act::Relu, scalar::relu),
    (Act::Relu2, scalar::relu2),
    (Act::Tanh, f64::tanh),
];

/// Every nonlinearity, with a gate and without, in both element types; arguments far out on either side.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn activates() {
    let mut bench = Bench::new(&device().await);
    for (elem, (act, scalar)) in ELEMS.into_iter().flat_map(|elem| ACTS.map(|act| (elem, act))) {
        for gated in [true, false] {
            for dim in [1_usize, 31, 32, 33, 63, 64, 65, 255, 256, 257, 172] {
                for rows in [[1, 1], [8, 5]] {
                    record(&mut bench, elem, (act, scalar), gated, dim, rows);
                }
            }
        }
    }
    bench.run().await;
}

fn record(
    bench: &mut Bench,
    elem: Elem,
    (act, scalar): (Act, Scalar),
    gated: bool,
    dim: usize,
    [bucket, rows]: [u32; 2],
) {
    let parts = if gated { 2 } else { 1 };
    let mut x = random(rows as usize * parts * dim, dim as u32);
    // squares of what is further out are not held by f16
    let far = if act == Act::Relu2 { [1.0, 4.0, 8.0, 12.0] } else { [1.0, 4.0, 64.0, 256.0] };
    x.iter_mut().enumerate().for_each(|(i, v)| *v *= far[i / dim % 4]);
    let x = stored(&x, elem);
    let step = bench.step(rows, 3);
    // gate and up are padded each for itself
    let padded = dim.next_multiple_of(4);
    let width = if gated { 2 * padded } else { dim };
    let wide = if gated { pad(&x, dim, padded) } else { x.clone() };
    bench.case(|case| {
        let input = case.input(&wide, bucket, width, elem);
        let y = activation(&mut case.g, &input, act, gated, dim as u32, &step).expect("shapes fit");
        let want = reference::activation(&x, scalar, gated, dim);
        let (abs, rel) = tolerance(elem);
        let name = format!("{act:?} {elem:?} {dim}, gate {gated}, rows {rows} of {bucket}");
        case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

/// Each run of `width` followed by zeros up to `padded`.
fn pad(data: &[f32], width: usize, padded: usize) -> Vec<f32> {
    let zeros = vec![0.0; padded - width];
    data.chunks_exact(width).flat_map(|run| run.iter().chain(&zeros).copied()).collect()
}
