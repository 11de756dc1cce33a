#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{Affine, NormConfig, NormKind, Out, Rows, norm};
use webweft::reference;
use webweft::tensor::Elem;

use super::head_norm::pad;
use super::{Bench, ELEMS, devices, tolerance};
use crate::common::{assert_close, device, random};

pub const KINDS: [NormKind; 3] = [NormKind::Rms, NormKind::RmsPlusOne, NormKind::Layer];

/// The reference's form of a config.
pub fn reference_norm<'a>(config: NormConfig, gain: &'a [f32], bias: &'a [f32]) -> reference::Norm<'a> {
    let center = config.kind == NormKind::Layer;
    let offset = if config.kind == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
    reference::Norm { center, offset, eps: config.eps, gain, bias: center.then_some(bias) }
}

/// Every kind, both result types, with and without subgroups, all rows and the last one, new and added to what is there.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn normalizes() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for dim in [1, 3, 31, 32, 33, 64, 255, 256, 257, 576] {
            for (bucket, rows) in [(1, 1), (4, 3), (64, 33)] {
                for kind in KINDS {
                    for elem in ELEMS {
                        for which in [Rows::All, Rows::Last(1)] {
                            record(&mut bench, [dim, bucket, rows], Some(elem), which, kind);
                        }
                    }
                    record(&mut bench, [dim, bucket, rows], None, Rows::All, kind);
                }
            }
        }
        bench.run().await;
    }
}

/// The last row of each slot, in the order of slots, wherever their rows are.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn normalizes_the_last_row_of_every_slot() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for dim in [6_usize, 257] {
            for counts in [vec![1, 5, 33], vec![33, 1, 1, 2], vec![1, 1, 1]] {
                let rows: u32 = counts.iter().sum();
                let x = random(rows as usize * dim, 3);
                let gain = random(dim, 4);
                let config = NormConfig { kind: NormKind::Rms, eps: 1e-5 };
                let affine = Affine { gain: bench.vector(&gain), bias: None, count: dim as u32 };
                let ends = counts.iter().scan(0, |end, count| {
                    *end += *count as usize;
                    Some(*end)
                });
                let last: Vec<f32> = ends.flat_map(|end| x[(end - 1) * dim..end * dim].to_vec()).collect();
                let want = reference::norm(&last, reference_norm(config, &gain, &[]));
                let step = bench.step_of(&counts.iter().map(|&rows| (rows, 7 * rows)).collect::<Vec<_>>());
                let slots = counts.len() as u32;
                bench.case(|case| {
                    let input = case.input(&x, 64, dim, Elem::F32);
                    // recorded for more slots than there are
                    let which = Rows::Last(slots + 1);
                    let y = norm(&mut case.g, &input, &affine, config, which, Out::New(Elem::F32), &step)
                        .expect("shapes fit");
                    let (abs, rel) = tolerance(Elem::F32);
                    let name = format!("norm of the last of {counts:?} rows, {dim} wide");
                    case.output(&y, slots, name, move |name, got| assert_close(name, &got, &want, abs, rel));
                });
            }
        }
        bench.run().await;
    }
}

/// Heads of any width side by side, each padded: what pads them is zero before and after, and no part of the mean.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn padding_between_heads_does_not_count() {
    let mut bench = Bench::new(&device().await);
    let rows = 3_u32;
    for (heads, width) in [(1_usize, 6_usize), (5, 3), (6, 6), (43, 6), (3, 86), (4, 8)] {
        let (dim, padded) = (heads * width, width.next_multiple_of(4));
        let x = random(rows as usize * dim, 3);
        let gain = random(dim, 4);
        for kind in [NormKind::Rms, NormKind::RmsPlusOne] {
            let config = NormConfig { kind, eps: 1e-3 };
            let affine = Affine { gain: bench.vector(&pad(&gain, width, padded)), bias: None, count: dim as u32 };
            let want = reference::norm(&x, reference_norm(config, &gain, &[]));
            for elem in ELEMS {
                let (step, want) = (bench.step(rows, 5), want.clone());
                bench.case(|case| {
                    let input = case.input(&pad(&x, width, padded), 4, heads * padded, Elem::F32);
                    let out = Out::New(elem);
                    let y = norm(&mut case.g, &input, &affine, config, Rows::All, out, &step).expect("shapes fit");
                    let (abs, rel) = tolerance(elem);
                    let name = format!("norm {kind:?} of {heads} heads, {width} wide, to {elem:?}");
                    case.output(&y, rows, name, move |name, got| {
                        let (values, pads): (Vec<_>, Vec<_>) =
                            got.chunks_exact(padded).map(|head| head.split_at(width)).unzip();
                        assert_close(name, &values.concat(), &want, abs, rel);
                        assert!(pads.concat().iter().all(|&v| v == 0.0), "{name}: {pads:?}");
                    });
                });
            }
        }
    }
    bench.run().await;
}

/// `elem`: of a new result; `None`: added to one in f32.
fn record(bench: &mut Bench, [dim, bucket, rows]: [usize; 3], elem: Option<Elem>, which: Rows, kind: NormKind) {
    // rows of different magnitude, and not around zero
    let mut x = random(rows * dim, 3);
    x.iter_mut().enumerate().for_each(|(i, v)| *v = (*v + 0.5) * 10.0_f32.powi((i / dim % 5) as i32 - 2));
    let (gain, bias, before) = (random(dim, 4), random(dim, 5), random(rows * dim, 6));
    let config = NormConfig { kind, eps: 1e-5 };
    let affine = Affine {
        gain: bench.vector(&gain),
        bias: (kind == NormKind::Layer).then(|| bench.vector(&bias)),
        count: dim as u32,
    };
    let step = bench.step(rows as u32, 5);
    bench.case(|case| {
        let input = case.input(&x, bucket as u32, dim, Elem::F32);
        let sum = elem.is_none().then(|| case.input(&before, bucket as u32, dim, Elem::F32));
        let out = sum.as_ref().map_or(Out::New(elem.unwrap_or(Elem::F32)), Out::AddTo);
        let y = norm(&mut case.g, &input, &affine, config, which, out, &step).expect("shapes fit");
        let from = if which == Rows::Last(1) { (rows - 1) * dim } else { 0 };
        let mut want = reference::norm(&x[from..], reference_norm(config, &gain, &bias));
        if elem.is_none() {
            want.iter_mut().zip(&before).for_each(|(y, &b)| *y += f64::from(b));
        }
        let (abs, rel) = tolerance(elem.unwrap_or(Elem::F32));
        let count = if which == Rows::Last(1) { 1 } else { rows as u32 };
        let name = format!("norm {kind:?} {dim} to {elem:?}, {which:?} of {rows} in {bucket}");
        case.output(&y, count, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}
