//! Products with weights in every block format, whoever made it: any codes, any scales, groups of any size, rows in an order of their own,
//! inputs in 8 bits.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use half::f16;
use webweft::device::Device;
use webweft::ops::{Out, Rows, embed, matmul};
use webweft::quant::{Blocks, Codes, Encoded, NESTED, Scales, decode};
use webweft::reference;
use webweft::tensor::{Elem, NO_INPUT, Order, Part, Storage, Weight};

use super::{Bench, devices, shuffled, stored, tolerance};
use crate::common::{assert_close, device, portable_device, random, sample_of};

const CODES: [Codes; 7] = [Codes::Int4, Codes::Int8, Codes::Nf4, Codes::Fp4, Codes::E4m3, Codes::Int2, Codes::Iq4Nl];
const SCALES: [Scales; 6] =
    [Scales::F16, Scales::F16Zero, Scales::F32, Scales::F32Zero, Scales::F16Min, Scales::Nested];

/// Any codes but NaNs, scales that make values of magnitude 1, zero points among the codes.
/// `filled` rows; those that pad have scales of zero.
fn encoded(filled: usize, rows: usize, dim: usize, blocks: Blocks) -> Encoded {
    let words = rows * blocks.words(dim as u32) as usize;
    let any = random(words * 4, 7);
    let byte = |v: &f32| {
        let byte = (v * 127.0) as i8 as u8;
        if blocks.codes == Codes::E4m3 && byte & 0x7f == 0x7f { 0 } else { byte }
    };
    let words = any.chunks_exact(4).map(|b| b.iter().fold(0, |word, v| word << 8 | u32::from(byte(v)))).collect();
    let (most, zero) = match blocks.codes {
        Codes::Int4 => (16.0, 7.3),
        Codes::Int8 => (128.0, -3.0),
        Codes::Nf4 | Codes::Fp4 => (1.0, 0.1),
        Codes::E4m3 => (448.0, 1.0),
        Codes::Int2 => (2.0, 1.3),
        Codes::Iq4Nl => (128.0, 3.0),
    };
    let count = dim.div_ceil(blocks.group as usize);
    let mut scales = Vec::new();
    let scale = |v: f32| v.abs().max(0.1) / most;
    let half = |v: f32| u32::from(f16::from_f32(v).to_bits());
    for row in random(rows * count, 8).chunks_exact(count) {
        match blocks.scales {
            Scales::F16 => scales.extend(
                row.chunks(2).map(|pair| half(scale(pair[0])) | half(scale(pair.get(1).copied().unwrap_or(0.0))) << 16),
            ),
            Scales::F16Zero => scales.extend(row.iter().map(|&v| half(scale(v)) | half(zero + v) << 16)),
            Scales::F32 => scales.extend(row.iter().map(|&v| scale(v).to_bits())),
            Scales::F32Zero => scales.extend(row.iter().flat_map(|&v| [scale(v).to_bits(), (zero + v).to_bits()])),
            Scales::F16Min => scales.extend(row.iter().map(|&v| half(scale(v)) | half(v) << 16)),
            Scales::Nested => {
                for some in row.chunks((NESTED / blocks.group) as usize) {
                    scales.push(half(scale(some[0]) / 64.0) | half(some[0] / 128.0) << 16);
                    // both with a sign
                    let bytes = |v: f32| u32::from((v * 127.0) as i8 as u8) | u32::from((v * -96.0) as i8 as u8) << 8;
                    let mut pairs: Vec<u32> = some
                        .chunks(2)
                        .map(|pair| pair.iter().rev().fold(0, |word, &v| word << 16 | bytes(v)))
                        .collect();
                    pairs.resize((NESTED / blocks.group / 2) as usize, 0);
                    scales.extend(pairs);
                }
            }
        }
    }
    scales[filled * blocks.scale_words(dim as u32) as usize..].fill(0);
    Encoded { words, scales }
}

/// A weight of these, and the values that it stands for.
pub fn weight(bench: &Bench, outputs: usize, inputs: usize, blocks: Blocks) -> (Weight, Vec<f32>) {
    let padded = outputs.next_multiple_of(4);
    let from = encoded(outputs, padded, inputs, blocks);
    let mut values = decode(&from, padded, inputs, blocks);
    values.truncate(outputs * inputs);
    (of_part(bench, [outputs, inputs], blocks, &from), values)
}

/// A weight of one part.
pub fn of_part(bench: &Bench, [outputs, inputs]: [usize; 2], blocks: Blocks, from: &Encoded) -> Weight {
    let part = Part {
        first: 0,
        rows: outputs.next_multiple_of(4) as u32,
        storage: Storage::Blocks(blocks),
        data: bench.buffer(&from.words),
        scales: Some(bench.buffer(&from.scales)),
        order: None,
        int8_inputs: false,
    };
    Weight { rows: outputs as u32, dim: inputs as u32, parts: vec![part] }
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    bucket: u32,
    rows: u32,
    inputs: usize,
    outputs: usize,
    blocks: Blocks,
    ordered: bool,
    int8_inputs: bool,
    elem: Elem,
}

fn record(bench: &mut Bench, setup: Setup) {
    let Setup { bucket, rows, inputs, outputs, blocks, ordered, int8_inputs, elem } = setup;
    // every fifth element is no input
    let order: Vec<u32> = match ordered {
        true => shuffled(inputs as u32).chunks(4).flat_map(|some| some.iter().copied().chain([NO_INPUT])).collect(),
        false => (0..inputs as u32).collect(),
    };
    let len = order.len();
    let (mut weight, of_elements) = weight(bench, outputs, len, blocks);
    let mut values = vec![0.0; outputs * inputs];
    for n in 0..outputs {
        for (element, &k) in order.iter().enumerate().filter(|(_, k)| **k != NO_INPUT) {
            values[n * inputs + k as usize] = of_elements[n * len + element];
        }
    }
    let order = ordered.then(|| {
        let mut inputs = order.clone();
        inputs.resize(len.next_multiple_of(32), NO_INPUT);
        Order { len: len as u32, inputs: bench.buffer(&inputs) }
    });
    weight.dim = inputs as u32;
    weight.parts[0].order = order;
    weight.parts[0].int8_inputs = int8_inputs;
    let size = 1.0 / (inputs as f32).sqrt();
    let x: Vec<f32> = random(rows as usize * inputs, 1).iter().map(|v| v * size).collect();
    let x = stored(&x, elem);
    let seen: Vec<f32> = if int8_inputs {
        let (codes, scales) =
            reference::quantize_rows(&x, inputs, if blocks.codes == Codes::Int2 { 1e-5 } else { 0.0 });
        codes.iter().enumerate().map(|(i, &code)| f32::from(code) * scales[i / inputs]).collect()
    } else {
        x.clone()
    };
    let want = reference::matmul(&seen, &values, inputs, None);
    let step = bench.step(rows, 9);
    bench.case(|case| {
        let input = case.input(&x, bucket, inputs, elem);
        let y = matmul(&mut case.g, &input, &weight, None, Out::New(elem), Rows::All, &step).expect("shapes fit");
        let (abs, rel) = tolerance(elem);
        // a code on the border between two may fall to either
        let abs = if int8_inputs { abs + f64::from(size) / 100.0 } else { abs };
        case.output(&y, rows, format!("{setup:?}"), move |name, got| assert_close(name, &got, &want, abs, rel));
    });
}

const ONE: Setup = Setup {
    bucket: 1,
    rows: 1,
    inputs: 100,
    outputs: 7,
    blocks: Blocks::Q4,
    ordered: false,
    int8_inputs: false,
    elem: Elem::F32,
};

/// The matrix-vector kernel: every format, groups within a load and over several, in an order and not.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn few_rows_of_every_format() {
    for device in sample_of(1, &devices().await) {
        let mut bench = Bench::new(device);
        for codes in CODES {
            for scales in SCALES {
                let all = scales == Scales::F16 && matches!(codes, Codes::Int4 | Codes::Int8 | Codes::Int2);
                let groups: &[u32] = match scales {
                    _ if all => &[4, 16, 24, 32, 64, 128],
                    Scales::Nested => &[16, 32],
                    _ => &[32],
                };
                for &group in groups {
                    let blocks = Blocks { codes, scales, group };
                    record(&mut bench, Setup { blocks, ..ONE });
                    record(&mut bench, Setup { blocks, ordered: true, bucket: 4, rows: 3, ..ONE });
                }
            }
            let blocks = Blocks { codes, scales: Scales::F32, group: 64 };
            for inputs in [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 2050, 4097] {
                record(&mut bench, Setup { blocks, inputs, ..ONE });
            }
        }
        bench.run().await;
    }
}

/// More rows, likewise.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn many_rows_of_every_format() {
    for device in [device().await, portable_device().await] {
        let mut bench = Bench::new(&device);
        let many = Setup { bucket: 16, rows: 13, outputs: 70, ..ONE };
        for codes in CODES {
            let scales = if codes == Codes::Int4 { &SCALES[..] } else { &SCALES[2..3] };
            for &scales in scales {
                record(&mut bench, Setup { blocks: Blocks { codes, scales, group: 32 }, ..many });
            }
        }
        let blocks = Blocks { codes: Codes::Int4, scales: Scales::F16Zero, group: 24 };
        record(&mut bench, Setup { blocks, ordered: true, elem: Elem::F16, ..many });
        bench.run().await;
    }
}

async fn products_of_integers(device: &Device, codes: Codes) {
    let mut bench = Bench::new(device);
    let of = |scales, group| Setup { blocks: Blocks { codes, scales, group }, int8_inputs: true, ..ONE };
    for elem in [Elem::F32, Elem::F16] {
        record(&mut bench, Setup { elem, ..of(Scales::F32, 128) });
        record(&mut bench, Setup { elem, bucket: 16, rows: 14, outputs: 70, ..of(Scales::F32, 128) });
    }
    for inputs in [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000] {
        record(&mut bench, Setup { inputs, bucket: 4, rows: 4, ..of(Scales::F16, 16) });
        record(&mut bench, Setup { inputs, bucket: 16, rows: 9, ..of(Scales::F16, 32) });
    }
    for bucket in [2, 64, 128] {
        record(&mut bench, Setup { bucket, rows: bucket - 1, outputs: 129, ordered: true, ..of(Scales::F32, 1024) });
    }
    bench.run().await;
}

/// Inputs in 8 bits, with the language's packed products where it has them, and without.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn inputs_in_8_bits() {
    for codes in [Codes::Int8, Codes::Int2] {
        for device in devices().await {
            products_of_integers(&device, codes).await;
        }
    }
}

/// Look-ups in tables of every format.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn tables_of_every_format() {
    let mut bench = Bench::new(&device().await);
    for codes in CODES {
        for scales in SCALES {
            let (blocks, vocab, dim) = (Blocks { codes, scales, group: 24 }, 12, 70);
            let from = encoded(vocab, vocab, dim, blocks);
            let values = decode(&from, vocab, dim, blocks);
            let part = Part {
                first: 0,
                rows: vocab as u32,
                storage: Storage::Blocks(blocks),
                data: bench.buffer(&from.words),
                scales: Some(bench.buffer(&from.scales)),
                order: None,
                int8_inputs: false,
            };
            let table = Weight { rows: vocab as u32, dim: dim as u32, parts: vec![part] };
            let ids = [3, 0, 11, 7];
            let step = bench.step(4, 0);
            step.set_ids(&bench.device, [ids.as_slice()]);
            let want = reference::embed(&values, dim, &ids, 0.5);
            bench.case(|case| {
                let y = embed(&mut case.g, &table, 4, 0.5, &step).expect("shapes fit");
                case.output(&y, 4, format!("{blocks:?}"), move |name, got| {
                    assert_close(name, &got, &want, 1e-6, 1e-6);
                });
            });
        }
    }
    bench.run().await;
}
