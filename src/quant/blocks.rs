//! Weights in few bits: codes, and a scale (perhaps a zero point, too) for each group of them along a row.
//!
//! `weight[n, k] = scale[n, k / group] * (value(code[n, k]) - zero[n, k / group])`, or
//! `weight[n, k] = scale[n, k / group] * value(code[n, k]) + minimum[n, k / group]`
//!
//! Codes lie in words, the first in the lowest bits, each row filled to whole [`BLOCK`]s and to whole vec4s of words.
//! Scales of a row begin a new word.

use half::f16;

/// Elements that a row is filled to a multiple of.
pub const BLOCK: u32 = 32;

/// What a code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codes {
    /// 4 bits, 0 to 15; without zero points the zero is 8.
    Int4,
    /// 8 bits, -128 to 127.
    Int8,
    /// 4 bits, quantiles of a normal distribution (Dettmers et al. 2023, QLoRA).
    Nf4,
    /// 4 bits, a sign and bitsandbytes' eight magnitudes.
    Fp4,
    /// 8-bit float, 4 exponent bits, no infinities (OCP 8-bit floating point, E4M3).
    E4m3,
    /// 2 bits, 0 to 3; without zero points the zero is 1, so that three of the values are -1, 0 and 1 (BitNet b1.58).
    Int2,
    /// 4 bits, ggml's 16 values from -127 to 113.
    Iq4Nl,
}

/// What stands for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scales {
    /// A scale in f16, two to a word.
    F16,
    /// A scale in f16, and above it in the same word the zero point in f16.
    F16Zero,
    /// A scale in f32.
    F32,
    /// A scale in f32, and in the next word the zero point in f32.
    F32Zero,
    /// A scale in f16, and above it in the same word the minimum in f16.
    F16Min,
    /// For [`NESTED`] elements a word with two factors in f16; then for each of their groups half a word, a scale in 8 bits with a sign,
    /// and above it a minimum: the group's scale is the product with the first factor, its minimum minus that with the second.
    Nested,
}

/// Elements that share factors in [`Scales::Nested`].
pub const NESTED: u32 = 256;

/// A format of weights in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// What a code stands for.
    pub codes: Codes,
    /// What stands for a group.
    pub scales: Scales,
    /// Elements of a group, a multiple of 4; the last of a row may be shorter.
    pub group: u32,
}

/// Values of [`Codes::Nf4`], from bitsandbytes.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Magnitudes of [`Codes::Fp4`], from bitsandbytes; bit 3 is the sign.
const FP4: [f32; 8] = [0.0, 0.005_208_333_3, 0.666_666_7, 1.0, 0.333_333_34, 0.5, 0.166_666_67, 0.25];

/// Values of [`Codes::Iq4Nl`], from ggml.
const IQ4_NL: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

impl Codes {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Int4, "int4"),
        (Self::Int8, "int8"),
        (Self::Nf4, "nf4"),
        (Self::Fp4, "fp4"),
        (Self::E4m3, "e4m3"),
        (Self::Int2, "int2"),
        (Self::Iq4Nl, "iq4nl"),
    ];

    /// Bits of a code.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int2 => 2,
            Self::Int4 | Self::Nf4 | Self::Fp4 | Self::Iq4Nl => 4,
            Self::Int8 | Self::E4m3 => 8,
        }
    }

    /// The number by which kernels know it (`shaders/shared/dequantize.wgsl`).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Int4 => 0,
            Self::Int8 => 1,
            Self::Nf4 => 2,
            Self::Fp4 => 3,
            Self::E4m3 => 4,
            Self::Int2 => 5,
            Self::Iq4Nl => 6,
        }
    }

    /// What `code` stands for, before zero point and scale.
    #[must_use]
    pub fn value(self, code: u32) -> f32 {
        match self {
            Self::Int4 | Self::Int2 => code as f32,
            Self::Int8 => f32::from(code as u8 as i8),
            Self::Nf4 => NF4[code as usize & 15],
            Self::Iq4Nl => IQ4_NL[code as usize & 15],
            Self::Fp4 => FP4[code as usize & 7] * if code & 8 == 0 { 1.0 } else { -1.0 },
            Self::E4m3 => {
                let (exponent, mantissa) = (code >> 3 & 15, (code & 7) as f32 / 8.0);
                let magnitude = match (exponent, code & 7) {
                    (15, 7) => f32::NAN,
                    (0, _) => mantissa * 2.0_f32.powi(-6),
                    _ => (1.0 + mantissa) * 2.0_f32.powi(exponent as i32 - 7),
                };
                if code & 0x80 == 0 { magnitude } else { -magnitude }
            }
        }
    }

    /// The zero point where none is stored.
    #[must_use]
    pub const fn zero(self) -> f32 {
        match self {
            Self::Int4 => 8.0,
            Self::Int2 => 1.0,
            _ => 0.0,
        }
    }
}

impl Scales {
    const ALL: [(Self, &'static str); 6] = [
        (Self::F16, "f16"),
        (Self::F16Zero, "f16z"),
        (Self::F32, "f32"),
        (Self::F32Zero, "f32z"),
        (Self::F16Min, "f16m"),
        (Self::Nested, "nested"),
    ];

    /// The number by which kernels know it (`shaders/shared/dequantize.wgsl`).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::F16 => 0,
            Self::F16Zero => 1,
            Self::F32 => 2,
            Self::F32Zero => 3,
            Self::F16Min => 4,
            Self::Nested => 5,
        }
    }

    /// Whether a minimum is added.
    #[must_use]
    pub const fn has_minimum(self) -> bool {
        matches!(self, Self::F16Min | Self::Nested)
    }
}

impl Blocks {
    /// 4 bits, symmetric, blocks of 32: 4.5 bits.
    pub const Q4: Self = Self { codes: Codes::Int4, scales: Scales::F16, group: BLOCK };
    /// 4 bits with a zero point, blocks of 32: 5 bits.
    pub const Q4A: Self = Self { codes: Codes::Int4, scales: Scales::F16Zero, group: BLOCK };
    /// 4 bits, quantiles, blocks of 32: 4.5 bits.
    pub const NF4: Self = Self { codes: Codes::Nf4, scales: Scales::F16, group: BLOCK };
    /// 8 bits, symmetric, blocks of 32: 8.5 bits.
    pub const Q8: Self = Self { codes: Codes::Int8, scales: Scales::F16, group: BLOCK };

    /// Codes, scales and group: `int4-f16-32`.
    #[must_use]
    pub fn name(self) -> String {
        let codes = Codes::ALL.iter().find(|(codes, _)| *codes == self.codes).map_or("", |(_, name)| name);
        let scales = Scales::ALL.iter().find(|(scales, _)| *scales == self.scales).map_or("", |(_, name)| name);
        format!("{codes}-{scales}-{}", self.group)
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut words = name.split('-');
        let (codes, scales, group) = (words.next()?, words.next()?, words.next()?.parse::<u32>().ok()?);
        let codes = Codes::ALL.iter().find(|(_, name)| *name == codes)?.0;
        let scales = Scales::ALL.iter().find(|(_, name)| *name == scales)?.0;
        let nested = scales != Scales::Nested || group <= NESTED / 2 && NESTED.is_multiple_of(2 * group);
        let fits = words.next().is_none() && group > 0 && group.is_multiple_of(4) && nested;
        fits.then_some(Self { codes, scales, group })
    }

    /// Elements of a stored row of `dim`.
    #[must_use]
    pub const fn padded(self, dim: u32) -> u32 {
        // a vec4 of words, which is what kernels read at a time, is two blocks of the narrowest codes
        let in_vec4 = 128 / self.codes.bits();
        dim.next_multiple_of(if in_vec4 > BLOCK { in_vec4 } else { BLOCK })
    }

    /// Words of codes of a row of `dim`.
    #[must_use]
    pub const fn words(self, dim: u32) -> u32 {
        self.padded(dim) / (32 / self.codes.bits())
    }

    /// Words of scales of a row of `dim`.
    #[must_use]
    pub const fn scale_words(self, dim: u32) -> u32 {
        let groups = dim.div_ceil(self.group);
        match self.scales {
            Scales::F16 => groups.div_ceil(2),
            Scales::F16Zero | Scales::F32 | Scales::F16Min => groups,
            Scales::F32Zero => groups * 2,
            Scales::Nested => dim.div_ceil(NESTED) * (1 + NESTED / self.group / 2),
        }
    }

    /// Bits of a weight, in long rows.
    #[must_use]
    pub fn bits_per_weight(self) -> f64 {
        let group = f64::from(self.group);
        let of_weight = match self.scales {
            Scales::F16 => 16.0 / group,
            Scales::F16Zero | Scales::F32 | Scales::F16Min => 32.0 / group,
            Scales::F32Zero => 64.0 / group,
            Scales::Nested => 16.0 / group + 32.0 / f64::from(NESTED),
        };
        f64::from(self.codes.bits()) + of_weight
    }
}

/// A weight `[rows, dim]` in few bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Codes, [`Blocks::words`] to a row.
    pub words: Vec<u32>,
    /// Scales, [`Blocks::scale_words`] to a row.
    pub scales: Vec<u32>,
}

/// The values that `from` stands for: `[rows, dim]`.
#[must_use]
pub fn decode(from: &Encoded, rows: usize, dim: usize, blocks: Blocks) -> Vec<f32> {
    let (words, scale_words) = (blocks.words(dim as u32) as usize, blocks.scale_words(dim as u32) as usize);
    let bits = blocks.codes.bits();
    let per_word = (32 / bits) as usize;
    let half = |word: u32, high: bool| f16::from_bits((word >> if high { 16 } else { 0 }) as u16).to_f32();
    let value = |r: usize, c: usize| {
        let scales = &from.scales[r * scale_words..][..scale_words];
        let group = c / blocks.group as usize;
        let (scale, zero) = match blocks.scales {
            Scales::F16 => (half(scales[group / 2], group % 2 == 1), blocks.codes.zero()),
            Scales::F16Zero | Scales::F16Min => (half(scales[group], false), half(scales[group], true)),
            Scales::F32 => (f32::from_bits(scales[group]), blocks.codes.zero()),
            Scales::F32Zero => (f32::from_bits(scales[2 * group]), f32::from_bits(scales[2 * group + 1])),
            Scales::Nested => {
                let groups = (NESTED / blocks.group) as usize;
                let words = &scales[group / groups * (1 + groups / 2)..];
                let bytes = (words[1 + group % groups / 2] >> (group % 2 * 16)).to_le_bytes();
                let of = |byte: u8| f32::from(byte as i8);
                (half(words[0], false) * of(bytes[0]), -(half(words[0], true) * of(bytes[1])))
            }
        };
        let code = from.words[r * words + c / per_word] >> ((c % per_word) as u32 * bits) & ((1_u32 << bits) - 1);
        let value = blocks.codes.value(code);
        if blocks.scales.has_minimum() { scale * value + zero } else { scale * (value - zero) }
    };
    (0..rows).flat_map(|r| (0..dim).map(move |c| (r, c))).map(|(r, c)| value(r, c)).collect()
}
