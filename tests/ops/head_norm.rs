#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Affine, Heads, NormConfig, NormKind, head_norm};
use webweft::reference;
use webweft::tensor::Elem;

use super::norm::{KINDS, reference_norm};
use super::{Bench, ELEMS, devices, stored, tolerance};
use crate::common::{assert_close, random};

/// Every kind, both element types, with and without subgroups; heads of any width, padded to whole vec4s; values untouched.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn normalizes_heads() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for (elem, kind) in ELEMS.into_iter().flat_map(|elem| KINDS.map(|kind| (elem, kind))) {
            for heads in [[4, 2, 8_usize], [3, 1, 6], [2, 2, 64], [5, 5, 80], [2, 1, 256]] {
                for rows in [[1, 1], [8, 5]] {
                    record(&mut bench, heads, rows, elem, kind);
                }
            }
        }
        bench.run().await;
    }
}

fn record(
    bench: &mut Bench,
    [heads, kv_heads, width]: [usize; 3],
    [bucket, rows]: [u32; 2],
    elem: Elem,
    kind: NormKind,
) {
    let all = heads + 2 * kv_heads;
    let padded = width.next_multiple_of(4);
    let x = stored(&random(rows as usize * all * width, 7), elem);
    let (gain, bias) = (random(2 * width, 8), random(2 * width, 9));
    let config = NormConfig { kind, eps: 1e-6 };
    let want = reference::head_norm(&x, [heads, kv_heads, width], reference_norm(config, &gain, &bias));
    let vector = |bench: &Bench, v: &[f32]| bench.vector(&pad(v, width, padded));
    let affine = Affine {
        gain: vector(bench, &gain),
        bias: (kind == NormKind::Layer).then(|| vector(bench, &bias)),
        count: width as u32,
    };
    let step = bench.step(rows, 2);
    let shape = Heads { heads: heads as u32, kv_heads: kv_heads as u32, head_dim: width as u32, rotary: 0 };
    bench.case(|case| {
        let qkv = case.input(&pad(&x, width, padded), bucket, all * padded, elem);
        head_norm(&mut case.g, &qkv, &shape, &affine, config, &step).expect("shapes fit");
        let (abs, rel) = tolerance(elem);
        let name = format!("head_norm {kind:?} {elem:?} {heads}/{kv_heads} of {width}, rows {rows} of {bucket}");
        case.output(&qkv, rows, name, move |name, got| {
            let (of_heads, padding): (Vec<_>, Vec<_>) =
                got.chunks_exact(padded).map(|head| head.split_at(width)).unzip();
            assert_close(name, &of_heads.concat(), &want, abs, rel);
            assert!(padding.concat().iter().all(|&v| v == 0.0), "{name}: the padding stays zero");
        });
    });
}

/// Each run of `width` followed by zeros up to `padded`.
pub fn pad(data: &[f32], width: usize, padded: usize) -> Vec<f32> {
    let zeros = vec![0.0; padded - width];
    data.chunks_exact(width).flat_map(|head| head.iter().chain(&zeros).copied()).collect()
}
