//! What is made while loading stands for what it was made of, by the definition of the format in f64.

use half::f16;
use proptest::prelude::*;
use webweft::quant::{Blocks, Codes, Encoded, Scales, decode, encode};

use crate::common::random;

const MADE: [Blocks; 4] = [Blocks::Q4, Blocks::Q4A, Blocks::NF4, Blocks::Q8];

/// `scale * (value(code) - zero)`, of rows of `dim`.
fn defined(from: &Encoded, dim: usize, blocks: Blocks) -> Vec<f64> {
    let bits = blocks.codes.bits() as usize;
    let (words, scale_words) = (blocks.words(dim as u32) as usize, blocks.scale_words(dim as u32) as usize);
    let rows = from.words.chunks_exact(words).zip(from.scales.chunks_exact(scale_words));
    let of_row = |(words, scales): (&[u32], &[u32])| -> Vec<f64> {
        let half = |i: usize| f64::from(f16::from_bits((scales[i / 2] >> (16 * (i % 2))) as u16));
        let element = |i: usize| {
            let (scale, zero) = match blocks.scales {
                Scales::F16Zero => (half(i / 32 * 2), half(i / 32 * 2 + 1)),
                _ => (half(i / 32), f64::from(blocks.codes.zero())),
            };
            let code = (words[i * bits / 32] >> (i * bits % 32)) & ((1 << bits) - 1);
            scale * (f64::from(blocks.codes.value(code)) - zero)
        };
        (0..dim).map(element).collect()
    };
    rows.flat_map(of_row).collect()
}

/// What a block may be off: each element by half the distance between codes and a little, or the root of their mean square where codes
/// are searched for; and what scales lose in f16.
fn bound(block: &[f32], blocks: Blocks) -> f64 {
    let fold = |f: fn(f64, f64) -> f64| block.iter().map(|&v| f64::from(v)).fold(0.0, f);
    let (least, greatest) = (fold(f64::min), fold(f64::max));
    let most = greatest.max(-least);
    match blocks {
        // halves of a step that takes the extreme to 7.25; of a step of which there are 15.25, rounded off the middle by a sixteenth; of
        // the widest distance between quantiles
        Blocks::Q4 => most * (0.5 / 7.25 + 1.0 / 512.0) + 16.0 * 2.0_f64.powi(-25),
        Blocks::Q4A => (greatest - least) * 0.5625 / 15.25 + most / 512.0 + 80.0 * 2.0_f64.powi(-25),
        Blocks::NF4 => most * (0.152 + 1.0 / 512.0) + 2.0_f64.powi(-24),
        // values, their extreme and the inverse have 12 bits: a 32nd of a code each
        _ => most * (0.6 / 127.0 + 1.0 / 2048.0) + 127.0 * 2.0_f64.powi(-25),
    }
}

/// Weights as they are and as they are not: spread about zero or about something else, few of them large, all alike.
fn values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    (prop::collection::vec(-1.0_f32..1.0, count), -45..14, 0..5, -1.0_f32..1.0).prop_map(
        |(values, power, shape, at)| {
            let shaped = values.into_iter().enumerate().map(|(i, v)| match shape {
                0 => v,
                1 => v * v * v,
                2 => at + v * 0.01,
                3 => {
                    if i % 13 == 0 {
                        v
                    } else {
                        v * 1e-3
                    }
                }
                _ => (v * 3.0).round() * at,
            });
            shaped.map(|v| v * 2.0_f32.powi(power)).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_made_is_near_what_it_was_made_of((dim, values) in (1..=130_usize).prop_flat_map(|dim| (Just(dim), values(3 * dim)))) {
        for blocks in MADE {
            let made = encode(&values, dim, blocks);
            prop_assert_eq!(made.words.len(), 3 * blocks.words(dim as u32) as usize);
            prop_assert_eq!(made.scales.len(), 3 * blocks.scale_words(dim as u32) as usize);
            let got = defined(&made, dim, blocks);
            for (decoded, &defined) in decode(&made, 3, dim, blocks).iter().zip(&got) {
                prop_assert!((f64::from(*decoded) - defined).abs() <= defined.abs() * 1e-6, "{decoded} is not {defined}");
            }
            for (row, got) in values.chunks(dim).zip(got.chunks(dim)) {
                for (block, got) in row.chunks(32).zip(got.chunks(32)) {
                    let errors = block.iter().zip(got).map(|(&v, g)| (f64::from(v) - g).abs());
                    let error = match blocks {
                        Blocks::Q8 => errors.fold(0.0, f64::max),
                        _ => (errors.map(|e| e * e).sum::<f64>() / 32.0).sqrt(),
                    };
                    prop_assert!(error <= bound(block, blocks), "{blocks:?}: {error} > {}, {block:?} became {got:?}", bound(block, blocks));
                }
            }
        }
    }

    /// What was made once is made of it again, but for what its scales lose in f16.
    #[test]
    fn q4_of_q4_is_q4(values in values(64)) {
        let first = decode(&encode(&values, 64, Blocks::Q4), 1, 64, Blocks::Q4);
        let second = decode(&encode(&first, 64, Blocks::Q4), 1, 64, Blocks::Q4);
        for (first, second) in first.chunks(32).zip(second.chunks(32)) {
            let most = first.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
            for (a, b) in first.iter().zip(second) {
                prop_assert!((a - b).abs() <= most / 256.0 + 16.0 * 2.0_f32.powi(-25), "{first:?} became {second:?}");
            }
        }
    }
}

/// Codes of 2 bits lie sixteen to a word and stand for -1 to 2; a row is filled to 64 of them.
#[test]
fn codes_of_2_bits() {
    let blocks = Blocks { codes: Codes::Int2, scales: Scales::F32, group: 64 };
    assert_eq!(Blocks::from_name(&blocks.name()), Some(blocks));
    assert_eq!([1, 63, 64, 65, 100, 128, 129].map(|dim| blocks.words(dim)), [4, 4, 4, 8, 8, 8, 12]);
    let row = [0b11_10_01_00, 0, 0, 1 << 30, 0b10, 0, 0, 0];
    let from = Encoded { words: row.repeat(2), scales: [0.5_f32, 4.0, -2.0, 1.0].map(f32::to_bits).to_vec() };
    let got = decode(&from, 2, 65, blocks);
    let nonzero = |values: &[f32]| -> Vec<(usize, f32)> {
        values.iter().copied().enumerate().filter(|(_, v)| v.abs() != values[10].abs()).collect()
    };
    assert_eq!(got[..4], [-0.5, 0.0, 0.5, 1.0]);
    assert_eq!(nonzero(&got[4..65]), [(59, 0.0), (60, 4.0)]);
    assert_eq!(got[65..69], [2.0, 0.0, -2.0, -4.0]);
    assert_eq!(nonzero(&got[69..]), [(59, 0.0), (60, 1.0)]);
}

/// What fills a row is zero; with a zero point, which lies between codes, it is near zero.
#[test]
fn what_fills_a_row_is_zero() {
    for blocks in MADE {
        for dim in [1_usize, 31, 33, 70] {
            let full = dim.next_multiple_of(32);
            let values: Vec<f32> = random(dim, 8).iter().map(|v| v + 0.3).collect();
            let made = encode(&values, dim, blocks);
            let most = values.iter().fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
            let near = if blocks == Blocks::Q4A { most / 15.0 } else { 0.0 };
            let fill = defined(&made, full, blocks).split_off(dim);
            assert!(fill.iter().all(|v| v.abs() <= near), "{blocks:?} of {dim}: {fill:?}");
        }
    }
}

/// Squared errors of normally distributed weights: the search earns its time, and more bits are worth more.
#[test]
fn the_search_lessens_the_error() {
    // sums of twelve uniform numbers
    let values: Vec<f32> = random(4096 * 12, 3).chunks(12).map(|twelve| twelve.iter().sum()).collect();
    let square = |got: &[f64]| values.iter().zip(got).map(|(&v, g)| (f64::from(v) - g).powi(2)).sum::<f64>();
    let [q4, q4a, nf4, q8] = MADE.map(|blocks| square(&defined(&encode(&values, 4096, blocks), 4096, blocks)));
    // the extreme to -8, without a search
    let plain: Vec<f64> = values
        .chunks(32)
        .flat_map(|block| {
            let extreme = block.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
            let scale = f64::from(f16::from_f32(extreme / -8.0));
            block.iter().map(move |&v| (f64::from(v) / scale).round().clamp(-8.0, 7.0) * scale)
        })
        .collect();
    let plain = square(&plain);
    assert!(
        q4 < 0.94 * plain && q4a < 0.75 * plain && nf4 < 0.95 * plain && q8 < 0.01 * plain,
        "{plain}: {q4} {q4a} {nf4} {q8}"
    );
}
