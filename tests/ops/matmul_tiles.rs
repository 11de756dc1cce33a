//! Products of many rows by every way of sharing tiles that the adapter has, at sizes around the tiles.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use half::f16;
use webweft::device::{Capabilities, Device, Kernels, Tiles};
use webweft::ops::{Out, Rows, matmul};
use webweft::quant::{Blocks, Codes, Encoded, Scales};
use webweft::reference;
use webweft::tensor::{Elem, NO_INPUT, Order, Storage};

use super::{Bench, ELEMS, KINDS, STORAGES, matmul_blocks, shuffled, stored, tolerance};
use crate::common::{assert_close, gpu_device, portable_device, random, report, sample_of, skipped};

/// Which kernel, and on which device: large tiles however few there are.
struct Kind {
    device: Device,
    kernels: Kernels,
    /// What inputs may be.
    elems: &'static [Elem],
}

/// Those that there are; the others are counted as skipped.
async fn kinds() -> Vec<Kind> {
    let (gpu, portable) = (gpu_device().await, portable_device().await);
    let Capabilities { shader_f16, matrices, .. } = gpu.capabilities();
    let mut all = Vec::new();
    let mut add = |device: &Device, tiles, elems| {
        let kernels = Kernels { tiles, tiles_alone: false, few_rows: 0, large_tiles: 0, ..device.kernels() };
        all.push(Kind { device: device.clone(), kernels, elems });
    };
    add(&portable, Tiles::F32, &ELEMS[..]);
    match shader_f16 {
        true => add(&gpu, Tiles::F16, &ELEMS[1..]),
        false => skipped("tiles in f16: the adapter has no f16"),
    }
    match matrices {
        Some(tiles) => add(&gpu, tiles, &ELEMS[1..]),
        None => skipped("matrices: the adapter has none of f16 with sums in f32"),
    }
    report(&format!("tiles: {:?}", all.iter().map(|kind| kind.kernels.tiles).collect::<Vec<_>>()));
    all
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    rows: u32,
    inputs: usize,
    outputs: usize,
    storage: Storage,
    x: Elem,
    y: Elem,
    /// first rows of the weight's parts but the first
    splits: &'static [u32],
    bias: bool,
    accumulate: bool,
    ordered: bool,
    /// one row, whatever the step has
    last: bool,
}

const ONE: Setup = Setup {
    rows: 65,
    inputs: 36,
    outputs: 12,
    storage: Storage::Q4,
    x: Elem::F16,
    y: Elem::F32,
    splits: &[],
    bias: false,
    accumulate: false,
    ordered: false,
    last: false,
};

fn record(bench: &mut Bench, kernels: Kernels, setup: Setup) {
    let Setup { rows, inputs, outputs, storage, x: x_elem, y: y_elem, splits, bias, accumulate, ordered, last } = setup;
    let which = if last { Rows::Last(1) } else { Rows::All };
    let count = if last { 1 } else { rows };
    // more than 64, or tiles are of 64 rows and in f32
    let bucket = rows.next_power_of_two().max(128);
    // every fifth element of an ordered row is no input
    let order: Vec<u32> = match ordered {
        true => shuffled(inputs as u32).chunks(4).flat_map(|some| some.iter().copied().chain([NO_INPUT])).collect(),
        false => (0..inputs as u32).collect(),
    };
    // sums of magnitude 1
    let size = 2.0 / (inputs as f32).sqrt();
    let scaled = |values: &[f32]| values.iter().map(|v| v * size).collect::<Vec<_>>();
    let (x, w) = (random(count as usize * inputs, 1), random(outputs * order.len(), 2));
    let (x, (mut weight, mut of_elements)) = match storage {
        Storage::Blocks(blocks) if !STORAGES.contains(&storage) => {
            (scaled(&x), matmul_blocks::weight(bench, outputs, order.len(), blocks))
        }
        _ => (x, bench.weight(&scaled(&w), order.len(), storage, splits)),
    };
    let x = stored(&x, x_elem);
    if kernels.tiles != Tiles::F32 && storage != Storage::F32 {
        of_elements.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
    }
    let mut values = vec![0.0; outputs * inputs];
    for (n, row) in of_elements.chunks_exact(order.len()).enumerate() {
        for (v, &k) in row.iter().zip(&order).filter(|(_, k)| **k != NO_INPUT) {
            values[n * inputs + k as usize] = *v;
        }
    }
    if ordered {
        let mut padded = order.clone();
        padded.resize(order.len().next_multiple_of(32), NO_INPUT);
        let order = Order { len: order.len() as u32, inputs: bench.buffer(&padded) };
        weight.dim = inputs as u32;
        weight.parts.iter_mut().for_each(|part| part.order = Some(order.clone()));
    }
    let bias = bias.then(|| random(outputs, 3));
    let bias_buffer = bias.as_ref().map(|b| bench.vector(b));
    let before = accumulate.then(|| stored(&random(count as usize * outputs, 4), y_elem));
    let step = bench.step(rows, 9);
    bench.case(|case| {
        case.g.set_kernels(kernels);
        let input = case.input(&x, bucket, inputs, x_elem);
        let sum = before.as_ref().map(|before| case.input(before, bucket, outputs, y_elem));
        let out = sum.as_ref().map_or(Out::New(y_elem), Out::AddTo);
        let y = matmul(&mut case.g, &input, &weight, bias_buffer.as_ref(), out, which, &step).expect("shapes fit");
        let mut want = reference::matmul(&x, &values, inputs, bias.as_deref());
        want.iter_mut().zip(before.iter().flatten()).for_each(|(w, &b)| *w += f64::from(b));
        let (abs, rel) = tolerance(y_elem);
        let name = format!("{:?} {setup:?}", kernels.tiles);
        case.output(&y, count, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

async fn run(cases: impl Fn(Elem, &mut dyn FnMut(Setup))) {
    for Kind { device, kernels, elems } in kinds().await {
        let mut bench = Bench::new(&device);
        for &x in elems {
            cases(x, &mut |setup| record(&mut bench, kernels, setup));
        }
        bench.run().await;
    }
}

/// Every type of input, weight and output.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn in_every_variant() {
    run(|x, add| {
        for storage in KINDS {
            for y in ELEMS {
                add(Setup { rows: 130, inputs: 65, outputs: 70, splits: &[4], storage, x, y, ..ONE });
            }
        }
    })
    .await;
}

/// Rows, outputs and inputs around the sides of tiles, of matrices, and of what a tile holds of K.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn at_every_size() {
    run(|x, add| {
        for storage in sample_of(1, &[Storage::Q4, Storage::F16]).iter().copied() {
            let one = Setup { storage, x, ..ONE };
            for rows in [1, 7, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 257] {
                add(Setup { rows, ..one });
            }
            for outputs in [1, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 257] {
                add(Setup { outputs, ..one });
            }
            for inputs in [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 257, 1030] {
                add(Setup { inputs, ..one });
            }
            add(Setup { rows: 200, inputs: 576, outputs: 172, ..one });
        }
    })
    .await;
}

/// Every option.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn with_every_option() {
    run(|x, add| {
        let one = Setup { rows: 129, inputs: 70, outputs: 136, x, ..ONE };
        add(Setup { bias: true, ..one });
        add(Setup { accumulate: true, ..one });
        add(Setup { accumulate: true, bias: true, splits: &[64, 132], y: Elem::F16, ..one });
        add(Setup { ordered: true, ..one });
        add(Setup { ordered: true, bias: true, accumulate: true, ..one });
        add(Setup { last: true, bias: true, ..one });
        add(Setup { last: true, rows: 3, ..one });
    })
    .await;
}

/// Every format that is made here, every other way to store codes and scales, and groups that end within a tile.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn of_every_format() {
    run(|x, add| {
        for storage in STORAGES.into_iter().filter(|storage| !KINDS.contains(storage)) {
            add(Setup { rows: 66, inputs: 97, outputs: 70, storage, x, ..ONE });
        }
        let of = |codes, scales, group| Storage::Blocks(Blocks { codes, scales, group });
        let others = [
            of(Codes::Int4, Scales::F16, 24),
            of(Codes::E4m3, Scales::F32, 64),
            of(Codes::Int4, Scales::F16Zero, 128),
            of(Codes::Fp4, Scales::F32, 32),
            of(Codes::Int2, Scales::F16, 16),
            of(Codes::Iq4Nl, Scales::F16, 32),
            of(Codes::Int4, Scales::F32Zero, 64),
            of(Codes::Int4, Scales::F16Min, 32),
            of(Codes::Int4, Scales::Nested, 32),
        ];
        for &storage in sample_of(2, &others) {
            for ordered in [false, true] {
                add(Setup { inputs: 300, storage, x, ordered, ..ONE });
            }
        }
    })
    .await;
}

/// Weights that f16 does not hold are what it comes to: the greatest that it has, zero, and the nearest.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn weights_that_f16_does_not_hold() {
    for Kind { device, kernels, .. } in kinds().await.into_iter().filter(|kind| kind.kernels.tiles != Tiles::F32) {
        let mut bench = Bench::new(&device);
        let blocks = Blocks { codes: Codes::Int8, scales: Scales::F32, group: 32 };
        let weights =
            [1e6_f32, -1e6, 65504.0, 65519.0, 1e-12, 1e-6, 1.0 / 3.0, 600.0, 0.0, -3e38, 1.0 + 1.0 / 2048.0, 1.0];
        // the fourth of each row is 1 times its scale, the others are 0
        let words = weights.iter().flat_map(|_| (0..8).map(|word| if word == 0 { 1 << 24 } else { 0 })).collect();
        let from = Encoded { words, scales: weights.iter().map(|v| v.to_bits()).collect() };
        let weight = matmul_blocks::of_part(&bench, [weights.len(), 32], blocks, &from);
        let held = |v: &f32| f64::from(f16::from_f32(v.clamp(-65504.0, 65504.0)));
        let x: Vec<f32> = (0..66 * 32).map(|i| f32::from(u8::from(i % 32 == 3))).collect();
        let want: Vec<f64> = (0..66).flat_map(|_| weights.iter().map(held)).collect();
        let step = bench.step(66, 0);
        bench.case(|case| {
            case.g.set_kernels(kernels);
            let input = case.input(&x, 128, 32, Elem::F16);
            let y = matmul(&mut case.g, &input, &weight, None, Out::New(Elem::F32), Rows::All, &step).expect("it fits");
            case.output(&y, 66, format!("{:?}", kernels.tiles), move |name, got| {
                assert_close(name, &got, &want, 1e-12, 0.0);
            });
        });
        bench.run().await;
    }
}

/// Where few tiles of 128 rows would be made, they are of 64.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn large_tiles_where_they_are_many() {
    let device = portable_device().await;
    let mut bench = Bench::new(&device);
    let kernels = device.kernels();
    // 63, 64 and 65 workgroups of 128 x 64
    for outputs in [63 * 64, 64 * 64, 64 * 64 + 4] {
        record(&mut bench, kernels, Setup { rows: 70, inputs: 8, outputs, ..ONE });
    }
    bench.run().await;
}
