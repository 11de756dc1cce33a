use crate::quant::{Index, Nested, ZeroLayout};

/// Which element of a tensor belongs to row `n` and group `g`.
#[must_use]
pub const fn element(index: &Index, n: u32, g: u32) -> usize {
    let before = n / index.row_div * index.row_stride + n % index.row_div * index.row_step;
    ((before + g * index.group_stride) / index.div) as usize
}

/// Zero point number `i` of words.
#[must_use]
pub fn zero(words: &[u32], layout: &ZeroLayout, i: usize) -> f32 {
    let per = (32 / layout.bits) as usize;
    let place = if layout.awq { [0, 4, 1, 5, 2, 6, 3, 7][i % 8] } else { i % per };
    let code = words[i / per].wrapping_add(layout.add) >> (place as u32 * layout.bits) & ((1 << layout.bits) - 1);
    if layout.signed { f32::from(code as u8 as i8) } else { code as f32 - layout.sub as f32 }
}

/// Scale number `i` of scales that are quantized themselves.
#[must_use]
pub fn nested(codes: &[u8], nested: &Nested, i: usize) -> f32 {
    nested.map[codes[i] as usize] * nested.absmax[i / nested.block as usize] + nested.offset
}
