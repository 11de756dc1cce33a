use crate::checkpoint::Dtype;
use half::f16;

/// The values of one row in ggml's blocks of type `dtype`, as ggml's `dequantize_row_*` have them.
#[must_use]
pub fn repack_ggml(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let size = dtype.block().1 as usize;
    let block = match dtype {
        Dtype::Q2_K => q2_k,
        Dtype::Q3_K => q3_k,
        Dtype::Q4_K | Dtype::Q5_K => q4_k,
        Dtype::Q6_K => q6_k,
        _ => small,
    };
    bytes.chunks_exact(size).flat_map(|b| block(dtype, b)).collect()
}

fn half(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// Blocks of 32.
fn small(dtype: Dtype, b: &[u8]) -> Vec<f32> {
    const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    let d = half(b, 0);
    // where the codes begin, and where their fifth bits
    let (codes, fifth, has_minimum) = match dtype {
        Dtype::Q4_1 => (4, 0, true),
        Dtype::Q5_0 => (6, 2, false),
        Dtype::Q5_1 => (8, 4, true),
        _ => (2, 0, false),
    };
    let value = |j: usize| {
        if dtype == Dtype::Q8_0 {
            return d * f32::from(b[2 + j] as i8);
        }
        let mut code = b[codes + j % 16] >> (4 * (j / 16)) & 15;
        if dtype == Dtype::IQ4_NL {
            return d * f32::from(VALUES[usize::from(code)]);
        }
        if fifth > 0 {
            code |= (b[fifth + j / 8] >> (j % 8) & 1) << 4;
        }
        let code = f32::from(code);
        if has_minimum { d * code + half(b, 2) } else { d * (code - if fifth > 0 { 16.0 } else { 8.0 }) }
    };
    (0..32).map(value).collect()
}

fn q2_k(_: Dtype, b: &[u8]) -> Vec<f32> {
    let (d, minimum) = (half(b, 80), half(b, 82));
    let value = |e: usize| {
        let scale = b[e / 16];
        let code = b[16 + e / 128 * 32 + e % 32] >> (2 * (e % 128 / 32)) & 3;
        d * f32::from(scale & 15) * f32::from(code) - minimum * f32::from(scale >> 4)
    };
    (0..256).map(value).collect()
}

fn q3_k(_: Dtype, b: &[u8]) -> Vec<f32> {
    let d = half(b, 108);
    let scale = |g: usize| {
        let low = b[96 + g % 8] >> (4 * (g / 8)) & 15;
        let high = b[104 + g % 4] >> (2 * (g / 4)) & 3;
        f32::from((low | high << 4) as i8 - 32)
    };
    let value = |e: usize| {
        let code = b[32 + e / 128 * 32 + e % 32] >> (2 * (e % 128 / 32)) & 3;
        let high = b[e % 32] >> (e / 32) & 1;
        d * scale(e / 16) * (f32::from(code) - if high == 0 { 4.0 } else { 0.0 })
    };
    (0..256).map(value).collect()
}

/// And `Q5_K`, which has fifth bits between scales and codes.
fn q4_k(dtype: Dtype, b: &[u8]) -> Vec<f32> {
    let (d, minimum) = (half(b, 0), half(b, 2));
    let scales = &b[4..16];
    let scale = |g: usize| match g {
        0..4 => (scales[g] & 63, scales[g + 4] & 63),
        _ => (scales[g + 4] & 15 | scales[g - 4] >> 6 << 4, scales[g + 4] >> 4 | scales[g] >> 6 << 4),
    };
    let has_fifth = dtype == Dtype::Q5_K;
    let codes = if has_fifth { 48 } else { 16 };
    let value = |e: usize| {
        let mut code = b[codes + e / 64 * 32 + e % 32] >> (4 * (e / 32 % 2)) & 15;
        if has_fifth {
            code |= (b[16 + e % 32] >> (e / 32) & 1) << 4;
        }
        let (s, m) = scale(e / 32);
        d * f32::from(s) * f32::from(code) - minimum * f32::from(m)
    };
    (0..256).map(value).collect()
}

fn q6_k(_: Dtype, b: &[u8]) -> Vec<f32> {
    let d = half(b, 208);
    let value = |e: usize| {
        let (side, quarter, l) = (e / 128, e % 128 / 32, e % 32);
        let low = b[side * 64 + quarter % 2 * 32 + l] >> (4 * (quarter / 2)) & 15;
        let high = b[128 + side * 32 + l] >> (2 * quarter) & 3;
        d * f32::from(b[192 + e / 16] as i8) * f32::from((low | high << 4) as i8 - 32)
    };
    (0..256).map(value).collect()
}
