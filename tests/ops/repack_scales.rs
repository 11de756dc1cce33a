#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use half::{bf16, f16};
use webweft::device::Category;
use webweft::graph::Operand;
use webweft::quant::{Blocks, Codes, Index, Nested, Scales, ZeroLayout};
use webweft::reference::repack_scales::{element, nested, zero};
use webweft::shaders::{self, RepackScalesParams};

use super::{Bench, POISON};
use crate::common::{device, random};

#[derive(Clone)]
enum Source {
    F32(f32),
    Inverse,
    F16,
    Bf16,
    Nested(Nested),
    Zeros(ZeroLayout),
}

struct Setup<'a> {
    source: Source,
    scales: Scales,
    index: Index,
    rows: u32,
    groups: u32,
    /// elements of the tensor, and the first of its pieces but the first
    count: usize,
    pieces: &'a [usize],
    /// the number of each group
    order: Option<Vec<u32>>,
}

fn record(bench: &mut Bench, setup: &Setup<'_>, status: [u32; 2], spoil: Option<(usize, f32)>) {
    let Setup { source, scales, index, rows, groups, count, pieces, order } = setup;
    let mut numbers = random(*count, 5);
    if let Some((at, value)) = spoil {
        numbers[at] = value;
    }
    let codes: Vec<u8> = numbers.iter().map(|v| (v * 127.0) as i8 as u8).collect();
    let words: Vec<u32> = codes.chunks(4).map(|b| b.iter().rev().fold(0, |w, &b| w << 8 | u32::from(b))).collect();
    let (bytes, bits, values): (Vec<u8>, usize, Vec<f32>) = match source {
        Source::F32(factor) => {
            (numbers.iter().flat_map(|v| v.to_le_bytes()).collect(), 32, numbers.iter().map(|v| v * factor).collect())
        }
        Source::Inverse => {
            (numbers.iter().flat_map(|v| v.to_le_bytes()).collect(), 32, numbers.iter().map(|v| 1.0 / v).collect())
        }
        Source::F16 => (
            numbers.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            16,
            numbers.iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
        ),
        Source::Bf16 => (
            numbers.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            16,
            numbers.iter().map(|&v| bf16::from_f32(v).to_f32()).collect(),
        ),
        Source::Nested(n) => (codes.clone(), 8, (0..*count).map(|i| nested(&codes, n, i)).collect()),
        Source::Zeros(layout) => {
            let per_byte = 8 / layout.bits as usize;
            let bytes = codes[..count / per_byte].to_vec();
            (bytes, layout.bits as usize, (0..*count).map(|i| zero(&words, layout, i)).collect())
        }
    };
    let is_zero = matches!(source, Source::Zeros(_));
    let stride = Blocks { codes: Codes::Int4, scales: *scales, group: 4 }.scale_words(groups * 4) as usize;
    let mut want = vec![POISON; *rows as usize * stride];
    for n in 0..*rows {
        for g in 0..*groups {
            let number = order.as_ref().map_or(g, |order| order[g as usize]);
            let v = values[element(index, n, number)];
            let half = u32::from(f16::from_f32(v).to_bits());
            let row = n as usize * stride;
            let g = g as usize;
            let mut put = |at: usize, bits: u32, mask: u32| want[row + at] = (want[row + at] & !mask) | bits;
            match scales {
                Scales::F16 => put(g / 2, half << (g % 2 * 16), 0xffff << (g % 2 * 16)),
                Scales::F16Zero if is_zero => put(g, half << 16, 0xffff_0000),
                Scales::F16Zero => put(g, half, 0xffff),
                Scales::F32 => put(g, v.to_bits(), u32::MAX),
                Scales::F32Zero => put(2 * g + usize::from(is_zero), v.to_bits(), u32::MAX),
                Scales::F16Min | Scales::Nested => unreachable!("no other tool's"),
            }
        }
    }
    let all: Vec<usize> = [0].iter().chain(*pieces).chain([count]).copied().collect();
    let name = format!("{scales:?}, {index:?}, [{rows}, {groups}], pieces {pieces:?}");
    let data = bench.poisoned(want.len());
    let reported = bench.buffer(&[u32::MAX; 2]);
    bench.case(|case| {
        let device = case.g.device();
        let side: Vec<u32> = match (source, order) {
            (Source::Nested(n), _) => n.map.iter().chain(&n.absmax).map(|v| v.to_bits()).collect(),
            (_, Some(order)) => order.clone(),
            _ => vec![0],
        };
        let side = device.storage_with("side", Category::Staging, &side).expect("small");
        for piece in all.windows(2) {
            let (first, end) = (piece[0], piece[1]);
            let mut some = bytes[first * bits / 8..end * bits / 8].to_vec();
            some.resize(some.len().next_multiple_of(4), 0xff);
            let some = device.storage_with("piece", Category::Staging, &some).expect("small");
            let mut params = RepackScalesParams {
                count: (end - first) as u32,
                first: first as u32,
                rows: *rows,
                groups: *groups,
                row_div: index.row_div,
                row_stride: index.row_stride,
                row_step: index.row_step,
                group_stride: index.group_stride,
                div: index.div,
                factor: 1.0,
                nested_block: 1,
                bits: 8,
                stride: stride as u32,
                row_group: *rows,
                row_padded: *rows,
                high: *rows,
                tensor: 7,
                ..Default::default()
            };
            let number = match source {
                Source::F32(factor) => {
                    params.factor = *factor;
                    0.0
                }
                Source::Inverse => {
                    params.inverse = 1;
                    0.0
                }
                Source::F16 => 1.0,
                Source::Bf16 => 2.0,
                Source::Nested(n) => {
                    (params.nested_block, params.offset) = (n.block, n.offset);
                    3.0
                }
                Source::Zeros(layout) => {
                    (params.bits, params.awq, params.add) = (layout.bits, u32::from(layout.awq), layout.add);
                    (params.sub, params.is_signed) = (layout.sub, u32::from(layout.signed));
                    4.0
                }
            };
            let constants = [
                ("SOURCE", number),
                ("SCALES", f64::from(scales.number())),
                ("ORDER", f64::from(u8::from(order.is_some()))),
            ];
            let operands: [Operand<'_>; 4] = [(&some).into(), (&reported).into(), (&data).into(), (&side).into()];
            let groups = (u64::from(*rows) * stride as u64).div_ceil(64);
            let kernel = shaders::REPACK_SCALES.variant(&[]);
            case.g.dispatch(kernel, &constants, &params, &operands, groups).expect("it compiles");
        }
    });
    bench.read(&[&data, &reported], move |bytes| {
        let got: Vec<u32> = bytemuck::pod_collect_to_vec(bytes[0]);
        if status == [u32::MAX; 2] {
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                // a sum of products may be fused
                let near = got.abs_diff(*want) <= 1;
                assert!(near, "{name}: word {i} is {got:08x}, want {want:08x}");
            }
        }
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, u32>(bytes[1]), status, "{name}");
    });
}

/// Scales as every tool stores them, to every form, whole and in pieces; zero points beside them.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn scales_and_zeros_go_where_they_belong() {
    let mut bench = Bench::new(&device().await);
    let none = [u32::MAX; 2];
    let over_rows = Index { row_div: 1, row_stride: 86, row_step: 0, group_stride: 2, div: 64 };
    let of_blocks = Index { row_div: 5, row_stride: 7, row_step: 0, group_stride: 1, div: 1 };
    let along_rows = Index { row_div: 8, row_stride: 7 * 8, row_step: 1, group_stride: 8, div: 1 };
    for scales in [Scales::F16, Scales::F16Zero, Scales::F32, Scales::F32Zero] {
        for source in [Source::F32(1.0 / 127.0), Source::F32(1.0), Source::F16, Source::Bf16] {
            let plain = |index, groups, count, pieces, order| Setup {
                source: source.clone(),
                scales,
                index,
                rows: 19,
                groups,
                count,
                pieces,
                order,
            };
            record(&mut bench, &plain(Index::plain(1, 19), 7, 19 * 7, &[8, 40], None), none, None);
            record(&mut bench, &plain(Index::plain(7, 1), 7, 19 * 7, &[16], None), none, None);
            record(&mut bench, &plain(Index::plain(1, 0), 1, 19, &[], None), none, None);
            record(&mut bench, &plain(Index::plain(0, 0), 1, 1, &[], None), none, None);
            record(&mut bench, &plain(of_blocks, 7, 28, &[], None), none, None);
            record(&mut bench, &plain(over_rows, 43, 26, &[8], None), none, None);
            record(
                &mut bench,
                &plain(Index::plain(7, 1), 9, 19 * 7, &[], Some(vec![3, 3, 0, 6, 5, 1, 2, 2, 4])),
                none,
                None,
            );
            record(&mut bench, &plain(Index::plain(7, 1), 7, 19 * 7, &[], None), [7, u32::MAX], Some((100, f32::NAN)));
            let overflows = !matches!(source, Source::F16) && matches!(scales, Scales::F16 | Scales::F16Zero);
            let status = if overflows {
                [u32::MAX, 7]
            } else if matches!(source, Source::F16) {
                [7, u32::MAX]
            } else {
                none
            };
            record(&mut bench, &plain(Index::plain(7, 1), 7, 19 * 7, &[], None), status, Some((50, 1e9)));
        }
        let map: Vec<f32> = random(256, 8);
        let statistics = Nested { map, absmax: random(9, 9), block: 16, offset: 0.3 };
        let setup = |index, groups, pieces| Setup {
            source: Source::Nested(statistics.clone()),
            scales,
            index,
            rows: 19,
            groups,
            count: 19 * 7,
            pieces,
            order: None,
        };
        record(&mut bench, &setup(Index::plain(7, 1), 7, &[24, 64]), none, None);
        record(&mut bench, &setup(over_rows, 43, &[]), none, None);
    }
    // what divides, and what has no inverse
    for spoil in [None, Some(0.0), Some(-1e-38), Some(f32::INFINITY)] {
        let setup = Setup {
            source: Source::Inverse,
            scales: Scales::F32,
            index: Index::plain(0, 0),
            rows: 5,
            groups: 1,
            count: 1,
            pieces: &[],
            order: None,
        };
        record(&mut bench, &setup, if spoil.is_some() { [7, u32::MAX] } else { none }, spoil.map(|v| (0, v)));
    }
    for scales in [Scales::F16Zero, Scales::F32Zero] {
        for (bits, awq, add, sub, signed) in [
            (4, false, 0x1111_1111, 0, false),
            (4, false, 0, 0, false),
            (4, true, 0, 0, false),
            (8, false, 0x0101_0101, 128, false),
            (8, false, 0, 0, true),
        ] {
            let layout = |index| ZeroLayout { index, bits, awq, add, sub, signed };
            let setup = |index, count, pieces| Setup {
                source: Source::Zeros(layout(index)),
                scales,
                index,
                rows: 16,
                groups: 7,
                count,
                pieces,
                order: None,
            };
            record(&mut bench, &setup(Index::plain(1, 16), 16 * 7, &[8, 64]), none, None);
            if !awq {
                record(&mut bench, &setup(along_rows, 2 * 7 * 8, &[16]), none, None);
            }
        }
    }
    bench.run().await;
}
