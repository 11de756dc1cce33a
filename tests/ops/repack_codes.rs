#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Category;
use webweft::graph::Operand;
use webweft::quant::{NO_COLUMN, Packing};
use webweft::reference::repack_codes::code;
use webweft::shaders::{self, RepackCodesParams};

use super::{Bench, POISON, shuffled};
use crate::common::{device, random};

/// A tensor `[rows, columns]` of codes, and where it goes.
struct Setup<'a> {
    packing: Packing,
    bits: u32,
    rows: usize,
    columns: usize,
    /// codes from one row to the next
    row_stride: usize,
    flip: u32,
    invert: u32,
    /// rows of a group, and what they are padded to
    group: [usize; 2],
    /// first row of the second part of the weight
    split: usize,
    /// first lines of the pieces but the first
    pieces: &'a [usize],
    order: Option<Vec<u32>>,
}

impl Setup<'_> {
    fn lines(&self) -> usize {
        match self.packing {
            Packing::Rows => self.rows,
            Packing::Columns => self.columns.div_ceil((32 / self.bits) as usize),
            Packing::Awq => self.columns,
            Packing::Quarters => self.rows.div_ceil(4),
        }
    }

    /// Bytes before a line.
    fn before(&self, line: usize) -> usize {
        match self.packing {
            Packing::Rows => line * self.row_stride * self.bits as usize / 8,
            Packing::Columns => line * self.rows * 4,
            Packing::Awq => line * self.rows.div_ceil(8) * 4,
            Packing::Quarters => line * self.row_stride,
        }
    }
}

fn record(bench: &mut Bench, setup: &Setup<'_>) {
    let Setup { packing, bits, rows, columns, row_stride, flip, invert, group, split, pieces, .. } = *setup;
    let per = (32 / bits) as usize;
    let lines = setup.lines();
    let bytes: Vec<u8> = random(setup.before(lines), 3).iter().map(|v| (v * 127.0) as i8 as u8).collect();
    let order: Vec<u32> = setup.order.clone().unwrap_or_else(|| (0..columns as u32).collect());
    let stride = order.len().next_multiple_of(per.max(8) * 4) / per;
    let to_row = |r: usize| 4 + r / group[0] * group[1] + r % group[0];
    let weight_rows = to_row(rows - 1) + 5;
    let mut want = vec![POISON; weight_rows * stride];
    for r in 0..rows {
        for (element, &k) in order.iter().enumerate().filter(|(_, k)| **k != NO_COLUMN) {
            let (row, k) = match packing {
                Packing::Rows => (0, (r * row_stride + k as usize) ^ flip as usize),
                _ => (r, k as usize),
            };
            let code = code(&bytes, packing, bits, [rows, row_stride], row, k) ^ invert;
            let word = &mut want[to_row(r) * stride + element / per];
            let (shift, mask) =
                ((element % per) as u32 * bits, ((1_u32 << bits) - 1) << ((element % per) as u32 * bits));
            *word = (*word & !mask) | (code << shift);
        }
    }
    let all: Vec<usize> = [0].iter().chain(pieces.iter().filter(|p| **p < lines)).chain([&lines]).copied().collect();
    let name =
        format!("{packing:?} of {bits} bits [{rows}, {columns}], pieces {pieces:?}, order {}", setup.order.is_some());
    for [low, high] in [[0, split], [split, weight_rows]] {
        let data = bench.poisoned((high - low) * stride);
        bench.case(|case| {
            let device = case.g.device();
            let reported = device.storage_with("status", Category::Staging, &[u32::MAX; 2]).expect("small");
            let columns_of = device.storage_with("order", Category::Staging, &order).expect("small");
            for piece in all.windows(2) {
                let (first, end) = (piece[0], piece[1]);
                let mut some = bytes[setup.before(first)..setup.before(end)].to_vec();
                some.resize(some.len().next_multiple_of(4), 0xff);
                let some = device.storage_with("piece", Category::Staging, &some).expect("small");
                let filled = order.len().div_ceil(per);
                let words = match packing {
                    Packing::Quarters => 0..filled,
                    _ if setup.order.is_some() => 0..filled,
                    Packing::Rows => 0..filled,
                    Packing::Columns => first..end.min(filled),
                    Packing::Awq => first / per..end.div_ceil(per).min(filled),
                };
                let visited = match packing {
                    Packing::Rows => first..end,
                    Packing::Quarters => 4 * first..4 * end,
                    _ => 0..rows,
                };
                let params = RepackCodesParams {
                    lines: (end - first) as u32,
                    first: first as u32,
                    rows: rows as u32,
                    columns: columns as u32,
                    row_stride: row_stride as u32,
                    flip,
                    invert,
                    visited: visited.len() as u32,
                    first_row: visited.start as u32,
                    words: words.len() as u32,
                    first_word: words.start as u32,
                    len: order.len() as u32,
                    stride: stride as u32,
                    row_group: group[0] as u32,
                    row_padded: group[1] as u32,
                    base: 4,
                    low: low as u32,
                    high: high as u32,
                    tensor: 7,
                };
                let number = match packing {
                    Packing::Rows => 0.0,
                    Packing::Columns => 1.0,
                    Packing::Awq => 2.0,
                    Packing::Quarters => 3.0,
                };
                let constants = [
                    ("BITS", f64::from(bits)),
                    ("PACKING", number),
                    ("ORDER", f64::from(u8::from(setup.order.is_some()))),
                ];
                let operands: [Operand<'_>; 4] =
                    [(&some).into(), (&reported).into(), (&data).into(), (&columns_of).into()];
                let groups = (u64::from(params.visited) * u64::from(params.words)).div_ceil(64);
                let kernel = shaders::REPACK_CODES.variant(&[]);
                case.g.dispatch(kernel, &constants, &params, &operands, groups).expect("it compiles");
            }
        });
        let (want, name) = (want[low * stride..high * stride].to_vec(), name.clone());
        bench.read(&[&data], move |bytes| {
            let got: Vec<u32> = bytemuck::pod_collect_to_vec(bytes[0]);
            // what is no column of a word that has one is 0 or as it was
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got, want, "{name}: word {i} of rows {low} .. {high}");
            }
        });
    }
}

fn plain(packing: Packing, bits: u32, rows: usize, columns: usize) -> Setup<'static> {
    Setup {
        packing,
        bits,
        rows,
        columns,
        row_stride: columns,
        flip: 0,
        invert: 0,
        group: [rows, rows],
        split: 8,
        pieces: &[],
        order: None,
    }
}

/// Every packing and width: whole and in pieces, heads that are padded, parts of a weight, orders, codes the other way round.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn codes_go_where_they_belong() {
    let mut bench = Bench::new(&device().await);
    for bits in [4, 8] {
        let invert = if bits == 8 { 0x80 } else { 0 };
        for (rows, columns) in [(8, 32), (24, 64), (40, 128), (16, 40)] {
            for packing in [Packing::Rows, Packing::Columns, Packing::Awq] {
                if packing == Packing::Awq && bits == 8 {
                    continue;
                }
                record(&mut bench, &plain(packing, bits, rows, columns));
                let in_pieces = |pieces| Setup { pieces, invert, ..plain(packing, bits, rows, columns) };
                record(&mut bench, &in_pieces(if packing == Packing::Awq { &[8, 24] } else { &[3, 5] }));
                let order = shuffled(columns as u32).into_iter().flat_map(|k| [k, NO_COLUMN]).collect();
                record(&mut bench, &Setup { order: Some(order), ..in_pieces(&[3, 7]) });
                let group = [rows / 8 * 2, rows / 8 * 2 + 3];
                record(&mut bench, &Setup { group, ..in_pieces(if packing == Packing::Awq { &[16] } else { &[4] }) });
            }
        }
        // rows that are filled up, that end within a word, within a byte, the second nibble first
        record(&mut bench, &Setup { row_stride: 40, ..plain(Packing::Rows, bits, 9, 36) });
        record(&mut bench, &Setup { pieces: &[2, 6], ..plain(Packing::Rows, bits, 10, 35) });
    }
    // four rows to a byte: fewer rows than four lines have, columns that end within a word, and within 4 bytes
    for rows in [1, 3, 4, 5, 8, 27, 64] {
        for columns in [1, 16, 36, 64, 70, 128] {
            let quarters = || plain(Packing::Quarters, 2, rows, columns);
            record(&mut bench, &quarters());
            record(&mut bench, &Setup { pieces: &[1, 3], ..quarters() });
            let order = shuffled(columns as u32).into_iter().flat_map(|k| [k, NO_COLUMN]).collect();
            record(&mut bench, &Setup { order: Some(order), pieces: &[1], ..quarters() });
        }
    }
    record(&mut bench, &Setup { group: [6, 8], pieces: &[4], ..plain(Packing::Quarters, 2, 24, 48) });
    for columns in [32, 36, 34, 33] {
        record(&mut bench, &Setup { flip: 1, pieces: &[4], ..plain(Packing::Rows, 4, 10, columns) });
    }
    bench.run().await;
}
