// ggml's blocks, which hold codes and scales together (<https://github.com/ggml-org/ggml>, `ggml-common.h`), to codes and scales of a
// weight as kernels read them (`src/quant/blocks.rs`).
//
// `bytes` holds whole rows of the tensor, the first being `first`. An invocation makes 64 elements, and what scales them. Source row r
// goes to weight row base + (r / G) * G' + r % G.
import package::shared::group::flat_group;
import package::shared::status::Status;

// ggml's number of the type.
override TYPE: u32 = 2u;
const Q4_0: u32 = 2u;
const Q4_1: u32 = 3u;
const Q5_0: u32 = 6u;
const Q5_1: u32 = 7u;
const Q8_0: u32 = 8u;
const Q2_K: u32 = 10u;
const Q3_K: u32 = 11u;
const Q4_K: u32 = 12u;
const Q5_K: u32 = 13u;
const Q6_K: u32 = 14u;
const IQ4_NL: u32 = 20u;
// Bytes of a block, and bits of the codes that are made.
override BYTES: u32 = 18u;
override BITS: u32 = 4u;

struct Params {
    // rows in `bytes`, the number of the first, and its elements
    rows: u32,
    first: u32,
    columns: u32,
    // of a row of the weight: words of codes, words of scales
    stride: u32,
    scale_stride: u32,
    // G, G' and the weight row of the first group
    row_group: u32,
    row_padded: u32,
    base: u32,
    // the part of the weight that is bound: rows low .. high
    low: u32,
    high: u32,
    // the tensor's number, for `status`
    tensor: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bytes: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: Status;
@group(0) @binding(3) var<storage, read_write> weight: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;

fn byte(at: u32) -> u32 {
    return (bytes[at / 4u] >> (at % 4u * 8u)) & 255u;
}

// The f16 at an even place.
fn half(at: u32) -> u32 {
    let bits = (bytes[at / 4u] >> ((at & 2u) * 8u)) & 0xffffu;
    if (bits & 0x7c00u) == 0x7c00u {
        atomicMin(&status.not_finite, params.tensor);
    }
    return bits;
}

// Bit i from `at` on.
fn bit(at: u32, i: u32) -> u32 {
    return (byte(at + i / 8u) >> (i % 8u)) & 1u;
}

// The code of element i of 32 whose block begins at `at`.
fn code32(at: u32, i: u32) -> u32 {
    if TYPE == Q8_0 {
        return byte(at + 2u + i);
    }
    var first = 2u; // the first byte of two codes
    if TYPE == Q4_1 {
        first = 4u;
    } else if TYPE == Q5_0 {
        first = 6u;
    } else if TYPE == Q5_1 {
        first = 8u;
    }
    let nibble = (byte(at + first + (i & 15u)) >> (i / 16u * 4u)) & 15u;
    if TYPE == Q5_0 {
        return ((nibble | (bit(at + 2u, i) << 4u)) - 16u) & 255u;
    }
    if TYPE == Q5_1 {
        return nibble | (bit(at + 4u, i) << 4u);
    }
    return nibble;
}

// The code of element i of 256 whose block begins at `at`.
fn code256(at: u32, i: u32) -> u32 {
    let side = i / 128u;
    let quarter = i % 128u / 32u;
    let l = i % 32u;
    if TYPE == Q2_K {
        return (byte(at + 16u + side * 32u + l) >> (quarter * 2u)) & 3u;
    }
    if TYPE == Q3_K {
        let low = (byte(at + 32u + side * 32u + l) >> (quarter * 2u)) & 3u;
        return low | (((byte(at + l) >> (i / 32u)) & 1u) << 2u);
    }
    if TYPE == Q6_K {
        let low = (byte(at + side * 64u + (quarter & 1u) * 32u + l) >> (quarter / 2u * 4u)) & 15u;
        let high = (byte(at + 128u + side * 32u + l) >> (quarter * 2u)) & 3u;
        return ((low | (high << 4u)) - 32u) & 255u;
    }
    let shift = (quarter & 1u) * 4u;
    if TYPE == Q5_K {
        let low = (byte(at + 48u + i / 64u * 32u + l) >> shift) & 15u;
        return low | (((byte(at + 16u + l) >> (i / 32u)) & 1u) << 4u);
    }
    return (byte(at + 16u + i / 64u * 32u + l) >> shift) & 15u;
}

// Scale and minimum of group g of such a block, a byte each.
fn scale_and_minimum(at: u32, g: u32) -> u32 {
    if TYPE == Q2_K {
        let both = byte(at + g);
        return (both & 15u) | ((both >> 4u) << 8u);
    }
    if TYPE == Q3_K {
        let low = (byte(at + 96u + (g & 7u)) >> (g / 8u * 4u)) & 15u;
        let high = (byte(at + 104u + (g & 3u)) >> (g / 4u * 2u)) & 3u;
        let scale = (low | (high << 4u)) - 32u;
        // codes are around 4
        return (scale & 255u) | (((scale * 4u) & 255u) << 8u);
    }
    if TYPE == Q6_K {
        return byte(at + 192u + g);
    }
    let packed = at + 4u;
    if g < 4u {
        return (byte(packed + g) & 63u) | ((byte(packed + g + 4u) & 63u) << 8u);
    }
    let low = byte(packed + g + 4u);
    let scale = (low & 15u) | ((byte(packed + g - 4u) >> 6u) << 4u);
    let minimum = (low >> 4u) | ((byte(packed + g) >> 6u) << 4u);
    return scale | (minimum << 8u);
}

// The factors of both.
fn factors(at: u32) -> u32 {
    if TYPE == Q2_K {
        return half(at + 80u) | (half(at + 82u) << 16u);
    }
    if TYPE == Q3_K {
        let factor = half(at + 108u);
        return factor | (factor << 16u);
    }
    if TYPE == Q6_K {
        return half(at + 208u);
    }
    return half(at) | (half(at + 2u) << 16u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let is_large = TYPE >= Q2_K && TYPE <= Q6_K;
    let of_block = select(32u, 256u, is_large);
    let units = (params.columns + 63u) / 64u;
    let index = flat_group(group, groups) * 64u + lane;
    let r = index / units;
    let unit = index % units;
    if r >= params.rows {
        return;
    }
    let source = params.first + r;
    let row = params.base + (source / params.row_group) * params.row_padded + source % params.row_group;
    if row < params.low || row >= params.high {
        return;
    }
    let row_at = r * (params.columns / of_block * BYTES);
    let to = (row - params.low) * params.stride;
    let per = 32u / BITS;
    for (var w = 0u; w < 64u / per; w++) {
        let word = unit * (64u / per) + w;
        if word >= params.stride {
            break;
        }
        var codes = 0u;
        for (var k = 0u; k < per; k++) {
            let i = word * per + k;
            if i < params.columns {
                let at = row_at + i / of_block * BYTES;
                var code = 0u;
                if is_large {
                    code = code256(at, i % 256u);
                } else {
                    code = code32(at, i % 32u);
                }
                codes |= code << (k * BITS);
            }
        }
        weight[to + word] = codes;
    }

    let scale_to = (row - params.low) * params.scale_stride;
    if is_large {
        // a word of factors, then two groups to a word
        let at = row_at + unit / 4u * BYTES;
        let of_32 = TYPE == Q4_K || TYPE == Q5_K;
        let words = select(8u, 4u, of_32);
        let begin = scale_to + unit / 4u * (words + 1u);
        if unit % 4u == 0u {
            scales[begin] = factors(at);
        }
        for (var w = unit % 4u * (words / 4u); w < (unit % 4u + 1u) * (words / 4u); w++) {
            scales[begin + 1u + w] = scale_and_minimum(at, w * 2u) | (scale_and_minimum(at, w * 2u + 1u) << 16u);
        }
        return;
    }
    let first = row_at + unit * 2u * BYTES;
    let has_second = unit * 64u + 32u < params.columns;
    if TYPE == Q4_1 || TYPE == Q5_1 {
        scales[scale_to + unit * 2u] = half(first) | (half(first + 2u) << 16u);
        if has_second {
            scales[scale_to + unit * 2u + 1u] = half(first + BYTES) | (half(first + BYTES + 2u) << 16u);
        }
        return;
    }
    var both = half(first);
    if has_second {
        both |= (half(first + BYTES) << 16u);
    }
    scales[scale_to + unit] = both;
}
