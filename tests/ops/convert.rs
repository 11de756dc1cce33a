#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use half::{bf16, f16};
use webweft::graph::Operand;
use webweft::quant::{self, Blocks};
use webweft::reference::convert as reference;
use webweft::reference::convert::Layout;
use webweft::shaders::{self, ConvertDenseParams, ConvertParams};
use webweft::tensor::{Elem, Storage};

use super::{Bench, KINDS, POISON, STORAGES, pack};
use crate::common::{device, random};

#[derive(Clone, Copy, Debug)]
enum Source {
    F32,
    F16,
    Bf16,
}

const SOURCES: [(Source, &str); 3] = [(Source::F32, "s_f32"), (Source::F16, "s_f16"), (Source::Bf16, "s_bf16")];

impl Source {
    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => reference::from_f32(bytes),
            Self::F16 => reference::from_f16(bytes),
            Self::Bf16 => reference::from_bf16(bytes),
        }
    }
}

/// The words of a weight `[rows, dim]`, and of its scales.
fn words(weight: &[f32], dim: usize, storage: Storage) -> (Vec<u32>, Vec<u32>) {
    match storage {
        Storage::F32 => (pack(weight, dim, Elem::F32), Vec::new()),
        Storage::F16 => (pack(weight, dim, Elem::F16), Vec::new()),
        Storage::Blocks(blocks) => {
            let encoded = quant::encode(weight, dim, blocks);
            (encoded.words, encoded.scales)
        }
    }
}

/// Where source rows go, what is in them, and how they come.
struct Setup<'a> {
    source: (Source, &'static str),
    storage: Storage,
    layout: Layout,
    values: &'a [f32],
    /// rows and elements of a row of the weight
    weight: [usize; 2],
    /// first rows of the weight's parts but the first, and of the chunks of the tensor but the first
    splits: &'a [usize],
    chunks: &'a [usize],
    /// number of the tensor
    tensor: u32,
    /// stored column by column; `chunks` are columns then
    transposed: bool,
}

/// Converts by every kernel that can, and expects the reference's words: in every row that a source row goes to, and in no other.
fn record(bench: &mut Bench, setup: &Setup<'_>, status: [u32; 2]) {
    record_by(bench, setup, status, None);
    let unit = if matches!(setup.storage, Storage::Blocks(_)) { 64 } else { 8 };
    let Layout { columns, row_group, row_padded, column_group, column_padded, .. } = setup.layout;
    let padded = row_group != row_padded || column_group != column_padded || columns != setup.weight[1];
    if !setup.transposed && !padded && columns.is_multiple_of(unit) {
        record_by(bench, setup, status, Some(unit));
    }
}

/// `dense`: by `convert_dense`, in units of so many elements.
fn record_by(bench: &mut Bench, setup: &Setup<'_>, status: [u32; 2], dense: Option<usize>) {
    let &Setup { source: (source, flag), storage, layout, values, weight, splits, chunks, tensor, transposed } = setup;
    let [rows, dim] = weight;
    let values = source.decode(&source.encode(values));
    let count = values.len() / layout.columns;
    let lines: Vec<f32> = match transposed {
        true => (0..values.len()).map(|i| values[i % count * layout.columns + i / count]).collect(),
        false => values.clone(),
    };
    let bytes = source.encode(&lines);
    let line_count = if transposed { layout.columns } else { count };
    let mut weight = vec![0.0; rows * dim];
    // what is not finite is reported, and is zero
    let finite: Vec<f32> = values.iter().map(|&v| if v.is_finite() { v } else { 0.0 }).collect();
    reference::place(&finite, 0, &layout, &mut weight, dim);
    let written: Vec<bool> = (0..rows).map(|row| (0..count).any(|r| layout.row(r) == row)).collect();
    let (mut want, mut want_scales) = words(&weight, dim, storage);
    for words in [&mut want, &mut want_scales] {
        let per_row = words.len() / rows;
        for (row, _) in written.iter().enumerate().filter(|(_, w)| !**w) {
            words[row * per_row..][..per_row].fill(POISON);
        }
    }

    let ends = |firsts: &[usize], end: usize| -> Vec<[usize; 2]> {
        let all: Vec<usize> = [0].iter().chain(firsts).chain([&end]).copied().collect();
        all.windows(2).map(|w| [w[0], w[1]]).collect()
    };
    let (dest, blocks) = match storage {
        Storage::F32 => ("d_f32", None),
        Storage::F16 => ("d_f16", None),
        Storage::Blocks(blocks) => ("d_blocks", Some(blocks)),
    };
    let constants = |blocks: Blocks| [("CODES", blocks.codes.number()), ("SCALES", blocks.scales.number())];
    let constants: Vec<_> =
        blocks.into_iter().flat_map(constants).map(|(name, number)| (name, f64::from(number))).collect();
    let name = format!(
        "dense {dense:?}, convert {source:?} to {storage:?}, {layout:?}, [{rows}, {dim}], parts {splits:?}, chunks {chunks:?}, \
         transposed {transposed}"
    );
    let reported = bench.buffer(&[u32::MAX; 2]);
    let line_bytes = bytes.len() / line_count;
    let (stride4, scale_stride) = (storage.stride4(dim as u32), storage.scale_stride(dim as u32));
    for [low, high] in ends(splits, rows) {
        let data = bench.poisoned((high - low) * want.len() / rows);
        let scales = blocks.map(|_| bench.poisoned((high - low) * want_scales.len() / rows));
        bench.case(|case| {
            for [first, end] in ends(chunks, line_count) {
                let mut chunk = bytes[first * line_bytes..end * line_bytes].to_vec();
                chunk.resize(chunk.len().next_multiple_of(4), 0xff);
                let chunk =
                    case.g.device().storage_with("chunk", webweft::device::Category::Staging, &chunk).expect("small");
                if let Some(unit) = dense {
                    let per_row = (layout.columns / unit) as u32;
                    let params = ConvertDenseParams {
                        units: (end - first) as u32 * per_row,
                        first: ((layout.base + first) as u32).wrapping_sub(low as u32).wrapping_mul(per_row),
                        limit: (high - low) as u32 * per_row,
                        tensor,
                    };
                    let mut operands: Vec<Operand<'_>> = vec![(&chunk).into(), (&reported).into(), (&data).into()];
                    operands.extend(scales.as_ref().map(Operand::from));
                    let kernel = shaders::CONVERT_DENSE.variant(&[flag, dest]);
                    let groups = u64::from(params.units).div_ceil(2048);
                    case.g.dispatch(kernel, &constants, &params, &operands, groups).expect("it compiles");
                    continue;
                }
                // a unit is a vec4, or two blocks
                let unit = if blocks.is_some() { 64 } else { 4 };
                let per_row = if blocks.is_some() { (dim as u32).div_ceil(64) } else { stride4 };
                let first_unit = if transposed { layout.column(first) as u32 / unit } else { 0 };
                let end_unit = if transposed && end < line_count { layout.column(end) as u32 / unit } else { per_row };
                let rows_here = if transposed { count } else { end - first } as u32;
                let params = ConvertParams {
                    rows: rows_here,
                    first: if transposed { 0 } else { first as u32 },
                    columns: layout.columns as u32,
                    first_column: if transposed { first as u32 } else { 0 },
                    row_stride: if transposed { 1 } else { layout.columns as u32 },
                    column_stride: if transposed { count as u32 } else { 1 },
                    units: end_unit - first_unit,
                    first_unit,
                    row_group: layout.row_group as u32,
                    row_padded: layout.row_padded as u32,
                    base: layout.base as u32,
                    column_group: layout.column_group as u32,
                    column_padded: layout.column_padded as u32,
                    low: low as u32,
                    high: high as u32,
                    stride4,
                    scale_stride,
                    tensor,
                };
                let mut operands: Vec<Operand<'_>> = vec![(&chunk).into(), (&reported).into(), (&data).into()];
                operands.extend(scales.as_ref().map(Operand::from));
                let groups = (u64::from(rows_here) * u64::from(end_unit - first_unit)).div_ceil(64);
                let kernel = shaders::CONVERT.variant(&[flag, dest]);
                case.g.dispatch(kernel, &constants, &params, &operands, groups).expect("it compiles");
            }
        });
        let of = |words: &[u32]| words[low * words.len() / rows..high * words.len() / rows].to_vec();
        let (want, want_scales, name) = (of(&want), of(&want_scales), name.clone());
        let buffers: Vec<_> = [&data].into_iter().chain(&scales).collect();
        bench.read(&buffers, move |bytes| {
            if status != [u32::MAX; 2] {
                return; // such a tensor is refused: what would stand for it does not matter
            }
            for ((bytes, want), what) in bytes.iter().zip([want, want_scales]).zip(["elements", "scales"]) {
                let got: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
                let wrong = got.iter().zip(&want).position(|(g, w)| g != w);
                assert_eq!(got.len(), want.len(), "{name}: {what}");
                if let Some(i) = wrong {
                    panic!("{name}: {what}[{i}] is {:08x}, want {:08x}", got[i], want[i]);
                }
            }
        });
    }
    bench.read(&[&reported], move |bytes| {
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, u32>(bytes[0]), status, "{name}: status");
    });
}

const fn plain(columns: usize) -> Layout {
    Layout { columns, row_group: 1 << 20, row_padded: 1 << 20, base: 0, column_group: columns, column_padded: columns }
}

/// Every stored type to every type. How a type is read and how blocks are made meet nowhere, and browsers are slow to compile: there
/// formats that differ by constants alone come from one type.
fn pairs() -> Vec<((Source, &'static str), Storage)> {
    let all = SOURCES.into_iter().flat_map(|source| STORAGES.map(|storage| (source, storage)));
    all.filter(|((source, _), storage)| {
        !cfg!(target_arch = "wasm32") || KINDS.contains(storage) || matches!(source, Source::F32)
    })
    .collect()
}

/// Every stored type to every type, bit by bit: odd sizes, parts, chunks, groups that are padded, tensors that are joined.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn converts_bit_by_bit() {
    let mut bench = Bench::new(&device().await);
    for (source, storage) in pairs() {
        let mut place = |transposed, layout: Layout, count: usize, weight, splits: &[usize], chunks: &[usize]| {
            let mut values = random(count * layout.columns, (count * layout.columns) as u32);
            // magnitudes from row to row; a block of zeros
            values.iter_mut().enumerate().for_each(|(i, v)| *v *= 8.0_f32.powi((i / layout.columns % 4) as i32 - 3));
            values.iter_mut().take(32).for_each(|v| *v *= 0.0);
            // the extreme of a block twice, with either sign
            if let [.., a, _, _, b, _, c] = values.as_mut_slice() {
                (*a, *b, *c) = (-7.0, 7.0, -7.0);
            }
            let setup =
                Setup { source, storage, layout, values: &values, weight, splits, chunks, tensor: 4, transposed };
            record(&mut bench, &setup, [u32::MAX; 2]);
        };
        // columns in pieces of whole units, and of whole heads that fill units
        for columns in [1, 31, 64, 65, 200] {
            place(true, plain(columns), 5, [8, columns], &[], &[]);
        }
        place(true, plain(172), 66, [68, 172], &[20, 64], &[64, 128]);
        place(true, Layout { row_group: 6, row_padded: 8, ..plain(200) }, 18, [24, 200], &[8], &[128]);
        place(true, Layout { column_group: 6, column_padded: 8, ..plain(108) }, 4, [4, 144], &[], &[48, 96]);
        let mut check = |layout, count, weight, splits, chunks| place(false, layout, count, weight, splits, chunks);
        for columns in [1, 2, 31, 32, 33, 63, 64, 65, 96, 97, 256, 257] {
            check(plain(columns), 5, [8, columns], &[], &[]);
        }
        check(plain(172), 65, [68, 172], &[20, 64], &[7, 40, 41]);
        for columns in [8, 16, 128, 192] {
            check(plain(columns), 65, [68, columns], &[20, 64], &[7, 40, 41]);
        }
        check(Layout { base: 12, ..plain(64) }, 6, [20, 64], &[16], &[1]);
        // rows of a second tensor, behind 12 of another
        check(Layout { base: 12, ..plain(33) }, 6, [20, 33], &[16], &[1]);
        // three heads of 6 as rows, then as columns, each padded to 8
        check(Layout { row_group: 6, row_padded: 8, ..plain(40) }, 18, [24, 40], &[], &[5]);
        check(Layout { column_group: 6, column_padded: 8, ..plain(18) }, 4, [4, 24], &[], &[]);
        check(Layout { column_group: 21, column_padded: 24, ..plain(84) }, 7, [8, 96], &[4], &[3]);
    }
    bench.run().await;
}

/// Rounding to f16 at its edges: ties, subnormals, the largest value.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn rounds_to_f16() {
    let mut bench = Bench::new(&device().await);
    let tiny = 2.0_f32.powi(-24);
    let mut values =
        vec![0.0, 1.0, -1.0, 65504.0, -65519.0, tiny, -tiny, tiny / 2.0, tiny * 0.5001, tiny * 1.5, tiny * 2.5];
    values.extend(
        [1.0, 1.0 + 1.0 / 1024.0, 0.3, 6.1e-5, 6.0e-5, 2047.0, 4094.0].iter().map(|v| v * (1.0 + 1.0 / 2048.0)),
    );
    values.extend(random(400, 9).iter().enumerate().map(|(i, v)| v * 2.0_f32.powi(i as i32 % 40 - 25)));
    values.truncate(400);
    let setup = |source, storage| Setup {
        source,
        storage,
        layout: plain(100),
        values: &values,
        weight: [4, 100],
        splits: &[],
        chunks: &[],
        tensor: 0,
        transposed: false,
    };
    record(&mut bench, &setup(SOURCES[0], Storage::F16), [u32::MAX; 2]);
    // every f16 comes through
    let every: Vec<f32> = (0..=u16::MAX).map(|b| f16::from_bits(b).to_f32()).filter(|v| v.is_finite()).collect();
    for storage in [Storage::F32, Storage::F16] {
        let layout = plain(every.len() / 2);
        let weight = [2, layout.columns];
        record(&mut bench, &Setup { layout, values: &every, weight, ..setup(SOURCES[1], storage) }, [u32::MAX; 2]);
    }
    bench.run().await;
}

/// What is not finite, and what f16 cannot hold, is reported by the tensor's number.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn reports_what_is_not_finite() {
    let mut bench = Bench::new(&device().await);
    for (source, storage) in pairs() {
        for (bad, columns) in [(f32::NAN, 70), (f32::NAN, 128), (f32::INFINITY, 128), (f32::NEG_INFINITY, 70)] {
            let mut values = random(3 * columns, 1);
            values[2 * columns + 65] = bad;
            let layout = plain(columns);
            let setup = Setup {
                source,
                storage,
                layout,
                values: &values,
                weight: [4, columns],
                splits: &[],
                chunks: &[],
                tensor: 11,
                transposed: false,
            };
            record(&mut bench, &setup, [11, u32::MAX]);
        }
    }
    for (source, storage, value, reported) in [
        (SOURCES[0], Storage::F16, 65520.0, true),
        (SOURCES[0], Storage::F16, -1e30, true),
        (SOURCES[2], Storage::F16, 1e6, true),
        (SOURCES[0], Storage::F32, 1e30, false),
        (SOURCES[0], Storage::Q4, 500_000.0, false),
        (SOURCES[0], Storage::Q4, 530_000.0, true),
        (SOURCES[2], Storage::Q4, -1e30, true),
        (SOURCES[0], Storage::Q4, f32::MAX, true),
        (SOURCES[0], Storage::Blocks(Blocks::Q4A), 950_000.0, false),
        (SOURCES[0], Storage::Blocks(Blocks::Q4A), -1_050_000.0, true),
        (SOURCES[0], Storage::Blocks(Blocks::Q4A), f32::MIN, true),
        (SOURCES[0], Storage::Blocks(Blocks::NF4), -65_000.0, false),
        (SOURCES[0], Storage::Blocks(Blocks::NF4), 66_000.0, true),
        (SOURCES[2], Storage::Blocks(Blocks::NF4), 3e38, true),
        (SOURCES[0], Storage::Blocks(Blocks::Q8), -8.0e6, false),
        (SOURCES[0], Storage::Blocks(Blocks::Q8), 8.5e6, true),
        (SOURCES[2], Storage::Blocks(Blocks::Q8), -3e38, true),
    ] {
        for columns in [70, 128] {
            let mut values = vec![0.0; 3 * columns];
            values[columns] = value;
            let layout = plain(columns);
            let setup = Setup {
                source,
                storage,
                layout,
                values: &values,
                weight: [4, columns],
                splits: &[],
                chunks: &[],
                tensor: 5,
                transposed: false,
            };
            record(&mut bench, &setup, [u32::MAX, if reported { 5 } else { u32::MAX }]);
        }
    }
    bench.run().await;
}

/// Blocks that lie at an edge of their encoders, by both kernels.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn encodes_edges_bit_by_bit() {
    let mut bench = Bench::new(&device().await);
    let noise = random(32 * 64, 5);
    let mut values = Vec::new();
    let mut block = |of: &dyn Fn(usize) -> f32| values.extend((0..32).map(of));
    // magnitudes from where all is zero to nearly where scales become infinite, subnormals and their borders between
    for power in (-150..=-100).step_by(25).chain(-40..=15) {
        block(&|i| noise[(power + 200) as usize + i] * 2.0_f32.powi(power));
        block(&|i| if i == 7 { 2.0_f32.powi(power) } else { 0.0 });
    }
    for k in 1..40 {
        let v = k as f32 / 7.0;
        block(&|_| v);
        block(&|_| -v);
        // two values, near one another or not, and of either sign
        block(&|i| if i % 3 == 0 { v } else { v * 0.995 });
        block(&|i| if i % 2 == 0 { -v } else { v });
        // one that is far from all others
        block(&|i| if i == k % 32 { -1000.0 * v } else { noise[k * 32 + i] });
        // none near zero
        block(&|i| v + noise[k * 32 + i] * 0.1);
        block(&|i| noise[k * 32 + i] * 0.01 - v);
        // whole numbers: ties everywhere
        block(&|i| ((i * k) % 33) as f32 - 16.0);
        block(&|i| (i % (k + 1)) as f32 * 0.5);
    }
    block(&|_| 0.0);
    block(&|_| -0.0);
    values.resize(values.len().next_multiple_of(128), 0.25);
    // at 127 columns rows begin elsewhere, and are filled
    let of_blocks = |(_, storage): &(_, Storage)| matches!(storage, Storage::Blocks(_));
    for (source, storage) in pairs().into_iter().filter(of_blocks) {
        for columns in [128, 127] {
            let count = values.len() / columns / 4 * 4;
            let setup = Setup {
                source,
                storage,
                layout: plain(columns),
                values: &values[..count * columns],
                weight: [count, columns],
                splits: &[],
                chunks: &[],
                tensor: 0,
                transposed: false,
            };
            record(&mut bench, &setup, [u32::MAX; 2]);
        }
    }
    bench.run().await;
}
