// A block of the cache in few bits, 32 positions of K heads: `value = code * scale + minimum`.
//
// Heads are padded to multiples of 8 elements, so that codes fill words; vec4s are numbered along all heads of a position. In words:
//   codes of keys    by vec4 (of 4 bits, by pair of vec4s), then by position: a tile's keys are read side by side
//   codes of values  by position, then by vec4: a key's value is read side by side
//   scales, and with 4 bits as many minima, f16, two in a word; of keys one for each element, for all positions; of values one
//   for each 32 elements of a position, by those groups, then by position
// Keys have elements that are large at every position, values have not (KIVI: Liu et al. 2024). 4 bits count from the minimum;
// 8 bits have a sign.
import package::shared::step::BLOCK;

// Groups of vec4s that share a value's scale.
const GROUP4: u32 = 8u;

// vec4s of a head, padded to pairs.
fn padded4(head4: u32) -> u32 {
    return (head4 + 1u) / 2u * 2u;
}

// Where scales begin: words of codes before them. `row4`: vec4s of a position.
fn scales_at(row4: u32, bits: u32) -> u32 {
    return row4 * 4u * bits;
}

// Words of all scales, or of all minima.
fn scale_words(row4: u32) -> u32 {
    return (row4 + GROUP4 - 1u) / GROUP4 * (BLOCK / 2u);
}

fn block_words(row4: u32, bits: u32) -> u32 {
    return scales_at(row4, bits) + select(1u, 2u, bits == 4u) * scale_words(row4);
}

// The word that has the codes of a key's vec4, and of a value's.
fn key_codes_at(i4: u32, position: u32, bits: u32) -> u32 {
    return i4 * bits / 8u * BLOCK + position;
}

fn value_codes_at(row4: u32, i4: u32, position: u32, bits: u32) -> u32 {
    return (position * row4 + i4) * bits / 8u;
}

// The word that has the scale of a value's vec4: of an even position in its low half, of an odd one in its high half.
fn value_scale_at(i4: u32, position: u32) -> u32 {
    return i4 / GROUP4 * (BLOCK / 2u) + position / 2u;
}

// The codes of vec4 i4 in its word.
fn codes4(word: u32, i4: u32, bits: u32) -> vec4<f32> {
    if bits == 4u {
        let shift = i4 % 2u * 16u;
        return vec4<f32>((vec4<u32>(word) >> (vec4<u32>(0u, 4u, 8u, 12u) + shift)) & vec4<u32>(15u));
    }
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
