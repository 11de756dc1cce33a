use crate::quant::Packing;

/// The code of row `n` and column `k` of a tensor of `rows` rows, whose codes have `bits`, packed so.
#[must_use]
pub fn code(bytes: &[u8], packing: Packing, bits: u32, [rows, row_stride]: [usize; 2], n: usize, k: usize) -> u32 {
    let per = (32 / bits) as usize;
    let word = |at: usize| u32::from_le_bytes([bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]]);
    let (word, place) = match packing {
        Packing::Rows => {
            let at = n * row_stride + k;
            let byte = u32::from(bytes[at * bits as usize / 8]);
            return if bits == 8 { byte } else { byte >> (at % 2 * 4) & 15 };
        }
        // a byte has a row of each quarter
        Packing::Quarters => {
            let quarter = rows.div_ceil(4);
            return u32::from(bytes[n % quarter * row_stride + k]) >> (n / quarter * 2) & 3;
        }
        Packing::Columns => (word(k / per * rows + n), k % per),
        // nibble i belongs to row 0 2 4 6 1 3 5 7 of eight
        Packing::Awq => {
            let place = [0, 2, 4, 6, 1, 3, 5, 7].iter().position(|row| *row == n % 8);
            (word(k * rows.div_ceil(8) + n / 8), place.unwrap_or(0))
        }
    };
    word >> (place as u32 * bits) & ((1 << bits) - 1)
}
