#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Kernels;
use webweft::ops::{Act, Activated, Affine, Input, NormConfig, NormKind, Normed, Out, Rows, matmul, matmul_activated};
use webweft::reference;
use webweft::tensor::{Elem, Storage};

use super::norm::reference_norm;
use super::{Bench, ELEMS, KINDS, STORAGES, devices, norm, stored, tolerance};
use crate::common::{assert_close, device, portable_device, random};

struct Shape {
    /// rows there is room for, and rows of the step
    bucket: u32,
    rows: u32,
    inputs: usize,
    outputs: usize,
    /// first rows of the weight's parts but the first
    splits: &'static [u32],
    bias: bool,
    accumulate: bool,
    which: Rows,
}

impl Shape {
    const fn new(bucket: u32, rows: u32, inputs: usize, outputs: usize) -> Self {
        Self { bucket, rows, inputs, outputs, splits: &[], bias: false, accumulate: false, which: Rows::All }
    }

    const fn split(self, splits: &'static [u32]) -> Self {
        Self { splits, ..self }
    }

    const fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    const fn accumulate(self) -> Self {
        Self { accumulate: true, ..self }
    }

    const fn last(self) -> Self {
        Self { which: Rows::Last(1), ..self }
    }
}

fn record(bench: &mut Bench, shape: &Shape, x_elem: Elem, y_elem: Elem, storage: Storage) {
    let &Shape { bucket, rows, inputs, outputs, splits, bias, accumulate, which } = shape;
    // what Rows::Last(1) left has one row, whatever the step has
    let count = if which == Rows::Last(1) { 1 } else { rows };
    let x = stored(&random(count as usize * inputs, 1), x_elem);
    // sums of magnitude 1
    let size = 2.0 / (inputs as f32).sqrt();
    let w: Vec<f32> = random(outputs * inputs, 2).iter().map(|v| v * size).collect();
    let (weight, values) = bench.weight(&w, inputs, storage, splits);
    let bias = bias.then(|| random(outputs, 3));
    let bias_buffer = bias.as_ref().map(|b| bench.vector(b));
    let before = accumulate.then(|| stored(&random(count as usize * outputs, 4), y_elem));
    let step = bench.step(rows, 9);
    bench.case(|case| {
        let input = case.input(&x, bucket, inputs, x_elem);
        let sum = before.as_ref().map(|before| case.input(before, bucket, outputs, y_elem));
        let out = sum.as_ref().map_or(Out::New(y_elem), Out::AddTo);
        let y = matmul(&mut case.g, &input, &weight, bias_buffer.as_ref(), out, which, &step).expect("shapes fit");
        let mut want = reference::matmul(&x, &values, inputs, bias.as_deref());
        want.iter_mut().zip(before.iter().flatten()).for_each(|(w, &b)| *w += f64::from(b));
        let (abs, rel) = tolerance(y_elem);
        let name = format!(
            "matmul [{rows} of {bucket}, {inputs}] x [{outputs}, {inputs}], {x_elem:?} {storage:?} {y_elem:?}, parts {splits:?}, \
             bias {}, accumulate {accumulate}, {which:?}",
            bias.is_some()
        );
        case.output(&y, count, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

/// The matrix-vector kernel in all variants.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn few_rows_in_every_variant() {
    let shapes = [
        Shape::new(1, 1, 1, 1),
        Shape::new(1, 1, 255, 33).split(&[4, 20]),
        Shape::new(1, 1, 576, 172),
        Shape::new(8, 5, 33, 31).bias(),
        Shape::new(8, 8, 65, 64).bias().split(&[32]),
    ];
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for x in ELEMS {
            for y in ELEMS {
                for storage in KINDS {
                    shapes.iter().for_each(|s| record(&mut bench, s, x, y, storage));
                }
            }
        }
        bench.run().await;
    }
}

/// Every width around a vec4, a block, a word of scales and the workgroup's reach.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn few_rows_at_every_size() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for storage in STORAGES {
            for inputs in [1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 96, 97, 255, 256, 257, 2047, 2048, 2049, 2081, 4100] {
                record(&mut bench, &Shape::new(1, 1, inputs, 7), Elem::F32, Elem::F32, storage);
            }
            for outputs in [1, 2, 4, 5, 31, 32, 33, 255, 256, 257] {
                record(&mut bench, &Shape::new(1, 1, 40, outputs), Elem::F32, Elem::F32, storage);
            }
            for (bucket, rows) in [(2, 1), (2, 2), (3, 2), (4, 1), (4, 4), (8, 1), (8, 4), (8, 7)] {
                record(&mut bench, &Shape::new(bucket, rows, 36, 12), Elem::F32, Elem::F32, storage);
            }
            let options = [
                Shape::new(1, 1, 64, 20).accumulate(),
                Shape::new(1, 1, 64, 20).accumulate().bias().split(&[4]),
                Shape::new(4, 3, 64, 20).accumulate(),
                // one row, whatever the step has
                Shape::new(1, 37, 64, 20).last(),
                Shape::new(1, 37, 64, 20).last().bias(),
            ];
            options.iter().for_each(|s| record(&mut bench, s, Elem::F32, Elem::F32, storage));
        }
        bench.run().await;
    }
}

/// What a processor takes, and the tiled kernel, in all variants.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn many_rows_in_every_variant() {
    for device in [device().await, portable_device().await] {
        let mut bench = Bench::new(&device);
        let shapes = [Shape::new(64, 33, 33, 31), Shape::new(16, 9, 65, 70).split(&[4])];
        for x in ELEMS {
            for y in ELEMS {
                for storage in KINDS {
                    shapes.iter().for_each(|s| record(&mut bench, s, x, y, storage));
                }
            }
        }
        bench.run().await;
    }
}

/// Sizes around the tile, and every option.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn many_rows_at_every_size() {
    for device in [device().await, portable_device().await] {
        let mut bench = Bench::new(&device);
        for rows in [1_u32, 7, 8, 9, 31, 32, 33, 63, 64, 65, 128, 129] {
            let bucket = rows.next_power_of_two().max(16);
            record(&mut bench, &Shape::new(bucket, rows, 20, 8), Elem::F32, Elem::F32, Storage::F32);
        }
        record(&mut bench, &Shape::new(16, 12, 576, 172), Elem::F32, Elem::F32, Storage::Q4);
        for outputs in [1, 31, 63, 64, 65, 129, 256, 257] {
            record(&mut bench, &Shape::new(16, 16, 20, outputs), Elem::F32, Elem::F32, Storage::F32);
        }
        for storage in KINDS {
            for inputs in [1, 3, 4, 15, 16, 17, 31, 32, 33, 64, 65, 257] {
                record(&mut bench, &Shape::new(16, 10, inputs, 8), Elem::F32, Elem::F32, storage);
            }
            let options = [
                Shape::new(16, 15, 65, 66).bias(),
                Shape::new(16, 15, 65, 66).accumulate(),
                Shape::new(16, 15, 65, 136).accumulate().bias().split(&[64, 132]),
            ];
            options.iter().for_each(|s| record(&mut bench, s, Elem::F32, Elem::F32, storage));
        }
        bench.run().await;
    }
}

/// What [`KINDS`] leaves out. A pipeline of this kernel is slow to compile, so: one for each format.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn many_rows_of_every_format() {
    for device in [device().await, portable_device().await] {
        let mut bench = Bench::new(&device);
        for storage in STORAGES.into_iter().filter(|s| !KINDS.contains(s)) {
            for inputs in [31, 64, 97] {
                record(&mut bench, &Shape::new(16, 10, inputs, 70).split(&[4]), Elem::F32, Elem::F32, storage);
            }
        }
        bench.run().await;
    }
}

/// What an activation makes of a product: in one kernel, and in two where rows are many or the weight has parts.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn activated_with_a_gate_and_without() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for gated in [true, false] {
            for storage in KINDS {
                for (dim, inputs) in [(1, 3), (31, 33), (33, 64), (64, 65), (257, 40)] {
                    for [bucket, rows] in [[1, 1], [8, 5], [16, 9]] {
                        record_activated(
                            &mut bench,
                            Act::Silu,
                            Elem::F32,
                            gated,
                            storage,
                            [dim, inputs],
                            [bucket, rows],
                            false,
                        );
                    }
                }
                record_activated(&mut bench, Act::GeluTanh, Elem::F16, gated, storage, [36, 64], [4, 3], true);
                record_activated(&mut bench, Act::Relu2, Elem::F32, gated, storage, [36, 64], [2, 2], true);
            }
            record_activated(&mut bench, Act::Gelu, Elem::F32, gated, Storage::Q4, [5, 64], [1, 1], true);
        }
        bench.run().await;
    }
}

#[expect(clippy::too_many_arguments, reason = "a case of a table")]
fn record_activated(
    bench: &mut Bench,
    act: Act,
    elem: Elem,
    gated: bool,
    storage: Storage,
    [dim, inputs]: [usize; 2],
    [bucket, rows]: [u32; 2],
    bias: bool,
) {
    let scalar = match act {
        Act::Silu => reference::activation::silu,
        Act::GeluTanh => reference::activation::gelu_tanh,
        Act::Gelu => reference::activation::gelu,
        _ => reference::activation::relu2,
    };
    let halves = if gated { 2 } else { 1 };
    let padded = if gated { dim.next_multiple_of(4) } else { dim };
    let x = stored(&random(rows as usize * inputs, 1), elem);
    let size = 2.0 / (inputs as f32).sqrt();
    // gate and the other, each padded for itself
    let mut w: Vec<f32> = random(halves * padded * inputs, 2).iter().map(|v| v * size).collect();
    let mut b = random(halves * padded, 3);
    for half in 0..halves {
        w[(half * padded + dim) * inputs..(half + 1) * padded * inputs].fill(0.0);
        b[half * padded + dim..(half + 1) * padded].fill(0.0);
    }
    let (weight, values) = bench.weight(&w, inputs, storage, &[]);
    let buffer = bias.then(|| bench.vector(&b));
    let step = bench.step(rows, 9);
    bench.case(|case| {
        let input = case.input(&x, bucket, inputs, elem);
        let activated = Activated { elem, act, gated, dim: dim as u32 };
        let y = matmul_activated(&mut case.g, &input, &weight, buffer.as_ref(), activated, &step).expect("shapes fit");
        let products = reference::matmul(&x, &values, inputs, bias.then_some(&b[..]));
        let each = products.chunks_exact(halves * padded);
        let want: Vec<f64> = each
            .flat_map(|row| {
                (0..dim).map(|i| scalar(row[i]) * if gated { row[padded + i] } else { 1.0 }).collect::<Vec<_>>()
            })
            .collect();
        let (abs, rel) = tolerance(elem);
        let name = format!(
            "{act:?} of [{rows} of {bucket}, {inputs}] x [{halves} x {dim}], gate {gated}, {elem:?} {storage:?}, bias {bias}"
        );
        case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

/// What is normalized first: in the kernel of the product, and before it where rows are many or wide, or have their mean taken away.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn normalized_first() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for storage in KINDS {
            for kind in norm::KINDS {
                for (inputs, outputs) in [(3, 5), (33, 31), (64, 33), (255, 20), (257, 20), (1025, 8)] {
                    for [bucket, rows] in [[1, 1], [2, 2], [8, 7], [16, 9]] {
                        record_normed(&mut bench, (kind, Elem::F32), storage, [inputs, outputs], [bucket, rows], false);
                    }
                }
                record_normed(&mut bench, (kind, Elem::F16), storage, [64, 36], [4, 3], false);
                record_normed(&mut bench, (kind, Elem::F32), storage, [64, 36], [4, 3], true);
                record_normed(&mut bench, (kind, Elem::F16), storage, [96, 36], [1, 1], true);
            }
        }
        bench.run().await;
    }
}

fn record_normed(
    bench: &mut Bench,
    (kind, elem): (NormKind, Elem),
    storage: Storage,
    [inputs, outputs]: [usize; 2],
    [bucket, rows]: [u32; 2],
    gated: bool,
) {
    let x: Vec<f32> = random(rows as usize * inputs, 1).iter().map(|v| 30.0 * v).collect();
    let [gain, bias] = [2, 3].map(|seed| random(inputs, seed));
    let halves = if gated { 2 } else { 1 };
    let size = 2.0 / (inputs as f32).sqrt();
    let w: Vec<f32> = random(halves * outputs * inputs, 4).iter().map(|v| v * size).collect();
    let b = random(halves * outputs, 5);
    let (weight, values) = bench.weight(&w, inputs, storage, &[]);
    let product_bias = bench.vector(&b);
    let layer_bias = (kind == NormKind::Layer).then(|| bench.vector(&bias));
    let affine = Affine { gain: bench.vector(&gain), bias: layer_bias, count: inputs as u32 };
    let step = bench.step(rows, 9);
    bench.case(|case| {
        // not so small that it does not show
        let config = NormConfig { kind, eps: 1.0 };
        let x_of = case.input(&x, bucket, inputs, Elem::F32);
        let normed = Input::Normed(Normed { x: &x_of, affine: &affine, config, elem: Elem::F32 });
        let g = &mut case.g;
        // on every device, narrow rows in one kernel and wide ones in two
        g.set_kernels(Kernels { norm_in_products: 300, ..g.kernels() });
        let y = if gated {
            let activated = Activated { elem, act: Act::Silu, gated, dim: outputs as u32 };
            matmul_activated(g, normed, &weight, Some(&product_bias), activated, &step)
        } else {
            matmul(g, normed, &weight, Some(&product_bias), Out::New(elem), Rows::All, &step)
        };
        let y = y.expect("shapes fit");
        let normed = reference::norm(&x, reference_norm(config, &gain, &bias));
        let normed: Vec<f32> = normed.iter().map(|&v| v as f32).collect();
        let mut want = reference::matmul(&normed, &values, inputs, Some(&b));
        if gated {
            let gate = |row: &[f64]| {
                (0..outputs).map(|i| reference::activation::silu(row[i]) * row[outputs + i]).collect::<Vec<_>>()
            };
            want = want.chunks_exact(2 * outputs).flat_map(gate).collect();
        }
        let (abs, rel) = tolerance(elem);
        let name =
            format!("{kind:?} and [{rows} of {bucket}, {inputs}] x [{halves} x {outputs}], {elem:?} {storage:?}");
        case.output(&y, rows, name, move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}
