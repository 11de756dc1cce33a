//! Weights to the formats that are made while loading: the twin of `shaders/shared/encode.wgsl`, bit by bit.
//!
//! A block's values become whole numbers `x` of at most 12 bits and a sign, by a power of two. From there on all products and sums are
//! whole numbers that f32 holds exactly, in whatever order they are added and whether or not multiply and add are fused, and divisions
//! are those of u32: so every adapter comes to the same bits. Each encoder tries a few steps (distances between codes), fits to the codes
//! that each gives the scale of the least squared error, and keeps the best: the one of the greatest `a * a / n`, by which codes `q` with
//! `a = sum x q`, `n = sum q q` lessen the squared error.

use half::f16;

use super::{BLOCK, Blocks, Encoded};

const SIZE: usize = BLOCK as usize;

/// Scale, zero point and codes.
type Block = (f16, Option<f16>, [u32; SIZE]);

/// Quantizes `weight`, `[rows, dim]`, to one of the formats that are made here ([`Blocks::Q4`], [`Blocks::Q4A`], [`Blocks::NF4`],
/// [`Blocks::Q8`]); a last short block of a row is filled with zeros. What is not finite is taken for 0.
///
/// # Panics
/// For another format.
#[must_use]
pub fn encode(weight: &[f32], dim: usize, blocks: Blocks) -> Encoded {
    let encoder = match blocks {
        Blocks::Q4 => q4,
        Blocks::Q4A => q4a,
        Blocks::NF4 => nf4,
        Blocks::Q8 => q8,
        other => panic!("{other:?} is not made here"),
    };
    let mut to = Encoded::default();
    for row in weight.chunks_exact(dim) {
        let mut halves = Vec::new();
        for block in row.chunks(SIZE) {
            let mut full = [0.0; SIZE];
            full.iter_mut().zip(block).for_each(|(to, &v)| *to = if v.is_finite() { v } else { 0.0 });
            let (scale, zero, codes) = encoder(&full);
            let bits = blocks.codes.bits();
            to.words.extend(codes.chunks_exact((32 / bits) as usize).map(|codes| {
                codes
                    .iter()
                    .enumerate()
                    .fold(0, |word, (i, code)| word | (code & ((1 << bits) - 1)) << (i as u32 * bits))
            }));
            halves.push(scale.to_bits());
            halves.extend(zero.map(f16::to_bits));
        }
        to.scales.extend(
            halves.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 16),
        );
    }
    to
}

/// A block as whole numbers.
struct Whole {
    x: [f32; SIZE],
    /// The least and the greatest of them and 0.
    low: f32,
    high: f32,
    /// The larger of their magnitudes: 2048 to 4096, where the block is not zero.
    most: u32,
    /// The largest magnitude in the block, and whether it is a negative value's (of equals it is).
    extreme: f32,
    negative: bool,
    /// The biased exponent of `extreme`; below [`LEAST`] all is zero.
    exponent: u32,
}

/// The biased exponent of 2^-24, the least number in f16: a block below it is zero.
const LEAST: u32 = 103;

impl Whole {
    fn new(block: &[f32; SIZE]) -> Self {
        let (least, greatest) = block.iter().fold((0.0, 0.0), |(a, b): (f32, f32), &v| (a.min(v), b.max(v)));
        let (negative, extreme) = (-least >= greatest, greatest.max(-least));
        let exponent = extreme.to_bits() >> 23;
        let factor = if exponent < LEAST { 0.0 } else { f32::from_bits((265 - exponent) << 23) };
        let whole = |v: f32| (v * factor + 0.5).floor();
        let (low, high) = (whole(least), whole(greatest));
        let most = (high.max(-low) as u32).max(2048);
        Self { x: block.map(whole), low, high, most, extreme, negative, exponent }
    }

    /// `number`, in units of `2^-bits` of a whole number, as a weight in f16.
    fn scale(&self, number: f32, bits: u32) -> f16 {
        if self.exponent < LEAST {
            return f16::ZERO;
        }
        f16::from_f32(number * f32::from_bits((self.exponent - 11 - bits) << 23))
    }
}

fn sum(terms: impl Iterator<Item = f32>) -> f32 {
    terms.sum()
}

/// Codes -8 to 7. The extreme goes to -8.25, which is rounded to -8 and leaves the others finer steps, or to -7.25.
fn q4(block: &[f32; SIZE]) -> Block {
    let whole = Whole::new(block);
    let sign = if whole.negative { 1.0 } else { -1.0 };
    let codes = |inverse: f32| whole.x.map(|x| (x * inverse + 0.5).floor().clamp(-8.0, 7.0));
    let (mut best, mut kept) = (-1.0, (0.0, 0.0));
    for eighths in [66, 58] {
        let inverse = sign * (((1 << 28) / whole.most * eighths) >> 11) as f32 * 2.0_f32.powi(-20);
        let q = codes(inverse);
        let a = sum(q.iter().zip(&whole.x).map(|(q, x)| q * x)).abs();
        let n = sum(q.iter().map(|q| q * q));
        let step = ((a as u32) << 11) / (n as u32).max(1);
        let score = a * step as f32;
        if score > best {
            (best, kept) = (score, (step as f32, inverse));
        }
    }
    let (step, inverse) = kept;
    (whole.scale(sign * step, 11), None, codes(inverse).map(|q| (q + 8.0) as u32))
}

/// Codes 0 to 15 from the least to the greatest, rounded at two offsets; scale and zero point by linear regression.
fn q4a(block: &[f32; SIZE]) -> Block {
    let whole = Whole::new(block);
    let width = ((whole.high - whole.low) as u32).max(2048);
    let inverse = ((244 << 16) / width) as f32 * 2.0_f32.powi(-20);
    let u = whole.x.map(|x| x - whole.low);
    let codes = |offset: f32| u.map(|u| (u * inverse + offset).floor());
    let sx = sum(u.iter().copied()) as i32;
    let (mut best, mut kept) = (-1.0, (1, 0, 0.0));
    for offset in [9.0 / 16.0, 3.0 / 16.0] {
        let q = codes(offset);
        let sq = sum(q.iter().copied()) as i32;
        let squares = sum(q.iter().map(|q| q * q)) as i32;
        let products = sum(q.iter().zip(&u).map(|(q, u)| q * u)) as i32;
        let (a, n) = (32 * products - sx * sq, 32 * squares - sq * sq);
        let fitted = if a > 0 && n > 0 {
            let (a, n) = (a as u32, n as u32);
            ((a / n) << 13) + ((a % n) << 13) / n
        } else {
            0
        };
        // values that are nearly the same, far from zero, fit a step so small that f16 loses them: best are then codes that are the same
        let (step, score) = if fitted >= width << 7 {
            (fitted, (a as u32 >> 4) as f32 * fitted as f32)
        } else {
            ((width << 13) / 15, if n == 0 { 0.0 } else { -0.5 })
        };
        if score > best {
            (best, kept) = (score, (step, sq, offset));
        }
    }
    let (step, sq, offset) = kept;
    // what zero is: (sum of codes - sum of values / step) / 32, in units of 2^-11
    let total = sx + 32 * whole.low as i32;
    let t = total.unsigned_abs() << 13;
    let steps = (((t / step) << 8) + ((t % step) << 8) / step) as i32;
    let zero = (sq * 256 - steps * total.signum()) >> 2;
    let zero = f16::from_f32(zero as f32 * 2.0_f32.powi(-11));
    (whole.scale(step as f32, 13), Some(zero), codes(offset).map(|q| q as u32))
}

/// Borders between the values of [`Codes::Nf4`](super::Codes::Nf4), in units of 2^-23, and the values, in units of 2^-7.
const NF4_BORDERS: [f32; 15] = [
    -7_114_348.0,
    -5_122_360.0,
    -3_858_720.0,
    -2_849_438.0,
    -1_968_030.0,
    -1_156_888.0,
    -381_892.0,
    333_784.0,
    1_008_774.0,
    1_707_260.0,
    2_449_589.0,
    3_265_790.0,
    4_208_258.0,
    5_392_088.0,
    7_226_605.0,
];
const NF4_VALUES: [f32; 16] =
    [-128.0, -89.0, -67.0, -51.0, -36.0, -24.0, -12.0, 0.0, 10.0, 21.0, 32.0, 43.0, 56.0, 72.0, 93.0, 128.0];

/// Quantiles are not symmetric: the extreme goes to 1, or a little beyond -1.
fn nf4(block: &[f32; SIZE]) -> Block {
    let whole = Whole::new(block);
    let (mut best, mut kept) = (-1.0, (0.0, [0; SIZE]));
    for (thirtyseconds, sign) in [(32, 1.0), (34, -1.0)] {
        let sign = if whole.negative { -sign } else { sign };
        let inverse = sign * (((1 << 28) / whole.most * thirtyseconds) >> 10) as f32;
        let codes = whole.x.map(|x| NF4_BORDERS.iter().filter(|&&border| x * inverse > border).count());
        let values = codes.map(|code| NF4_VALUES[code]);
        let a = (sign * sum(values.iter().zip(&whole.x).map(|(v, x)| v * x))).max(0.0);
        let n = (sum(values.iter().map(|v| v * v)) as u32).max(1);
        let (mut step, mut rest) = (a as u32 / n, a as u32 % n);
        for bits in [12, 5] {
            (step, rest) = ((step << bits) + (rest << bits) / n, (rest << bits) % n);
        }
        let score = a * step as f32;
        if score > best {
            (best, kept) = (score, (sign * step as f32, codes.map(|code| code as u32)));
        }
    }
    (whole.scale(kept.0, 10), None, kept.1)
}

/// Codes -127 to 127, the extreme at one end: 8 bits need no search.
fn q8(block: &[f32; SIZE]) -> Block {
    let whole = Whole::new(block);
    let inverse = ((127 << 17) / whole.most) as f32 * 2.0_f32.powi(-17);
    let scale = if whole.exponent < LEAST { f16::ZERO } else { f16::from_f32(whole.extreme * (1.0 / 127.0)) };
    (scale, None, whole.x.map(|x| (x * inverse + 0.5).floor() as i32 as u32))
}
