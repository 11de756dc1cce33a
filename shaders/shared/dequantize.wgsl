// Weights in few bits (`src/quant/blocks.rs`): weight = scale * (value(code) - zero), or scale * value(code) + minimum; scale and zero or
// minimum shared by a group along the input.
// What codes and scales are comes as pipeline constants, so that what is chosen here is chosen while compiling.

// Codes: 4 bits 0 to 15, 8 bits -128 to 127, two tables of 16, an 8-bit float, 2 bits 0 to 3, another table of 16.
const INT4: u32 = 0u;
const INT8: u32 = 1u;
const NF4: u32 = 2u;
const FP4: u32 = 3u;
const E4M3: u32 = 4u;
const INT2: u32 = 5u;
const IQ4_NL: u32 = 6u;

// Scales: f16, two to a word; f16 with a zero above it; f32; f32 with a zero in the next word; f16 with a minimum above it; 8 bits and a
// minimum of 8 bits, of two groups to a word, after a word that has an f16 factor of each for 64 vec4s.
const F16: u32 = 0u;
const F16_ZERO: u32 = 1u;
const F32: u32 = 2u;
const F32_ZERO: u32 = 3u;
const F16_MIN: u32 = 4u;
const NESTED: u32 = 5u;

fn code_bits(codes: u32) -> u32 {
    return select(select(4u, 8u, codes == INT8 || codes == E4M3), 2u, codes == INT2);
}

fn is_table(codes: u32) -> bool {
    return codes == NF4 || codes == FP4 || codes == IQ4_NL;
}

// Its 16 values, in memory that a variable may index.
var<workgroup> table: array<f32, 16>;

// Fills it. In uniform control flow, by at least 16 invocations, and followed by a barrier.
fn fill_table(codes: u32, lane: u32) {
    if lane < 16u {
        var nf4 = array<f32, 16>(
            -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
            -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
            0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
        );
        var fp4 = array<f32, 8>(0.0, 0.005208333333, 0.6666666667, 1.0, 0.3333333333, 0.5, 0.1666666667, 0.25);
        var iq4 = array<f32, 16>(
            -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
        );
        let of_fp4 = select(fp4[lane & 7u], -fp4[lane & 7u], lane >= 8u);
        table[lane] = select(select(nf4[lane], of_fp4, codes == FP4), iq4[lane], codes == IQ4_NL);
    }
}

// vec4s of codes in a vec4 of words.
fn vec4s_in_words(codes: u32) -> u32 {
    return 32u / code_bits(codes);
}

// The values of vec4 i of a row's codes, less the zero where no other is stored, from the word that holds them.
fn values4(codes: u32, word: u32, i: u32) -> vec4<f32> {
    if codes == INT8 {
        return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
    }
    if codes == E4M3 {
        let byte = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
        let magnitude = byte & vec4<u32>(127u);
        let v = bitcast<vec4<f32>>((magnitude << vec4<u32>(20u)) + vec4<u32>(120u << 23u));
        // subnormals: what an exponent of 0 was taken for, less its one, twice
        let fixed = select(v, v * 2.0 - 0.015625, magnitude < vec4<u32>(8u));
        return select(fixed, -fixed, byte >= vec4<u32>(128u));
    }
    if codes == INT2 {
        return vec4<f32>((vec4<u32>(word) >> (vec4<u32>(0u, 2u, 4u, 6u) + (i & 3u) * 8u)) & vec4<u32>(3u));
    }
    let n = (vec4<u32>(word) >> (vec4<u32>(0u, 4u, 8u, 12u) + (i & 1u) * 16u)) & vec4<u32>(15u);
    if is_table(codes) {
        return vec4<f32>(table[n.x], table[n.y], table[n.z], table[n.w]);
    }
    return vec4<f32>(n);
}

// The word, of a row's words, that holds vec4 i of its codes.
fn code_word(codes: u32, i: u32) -> u32 {
    return i * code_bits(codes) / 8u;
}

// The word, of a row's scales, that holds that of a group of `group4` vec4s.
fn scale_word(scales: u32, group4: u32, group: u32) -> u32 {
    if scales == NESTED {
        let groups = 64u / group4;
        return group / groups * (groups / 2u + 1u) + 1u + group % groups / 2u;
    }
    return select(select(group, group / 2u, scales == F16), group * 2u, scales == F32_ZERO);
}

// And the other one that is needed; the same where there is none.
fn other_word(scales: u32, group4: u32, group: u32) -> u32 {
    let word = scale_word(scales, group4, group);
    if scales == NESTED {
        return word - 1u - group % (64u / group4) / 2u;
    }
    return select(word, word + 1u, scales == F32_ZERO);
}

// Scale, and zero or minimum of a group, from these two words.
fn scale_and_zero(codes: u32, scales: u32, group: u32, word: u32, other: u32) -> vec2<f32> {
    let zero = select(select(0.0, 8.0, codes == INT4), 1.0, codes == INT2);
    if scales == F16 {
        let pair = unpack2x16float(word);
        return vec2<f32>(select(pair.x, pair.y, (group & 1u) == 1u), zero);
    }
    if scales == F16_ZERO || scales == F16_MIN {
        return unpack2x16float(word);
    }
    if scales == F32_ZERO {
        return vec2<f32>(bitcast<f32>(word), bitcast<f32>(other));
    }
    if scales == NESTED {
        let bytes = bitcast<i32>(word << select(16u, 0u, (group & 1u) == 1u));
        let factors = unpack2x16float(other);
        return vec2<f32>(factors.x * f32((bytes << 8u) >> 24u), -(factors.y * f32(bytes >> 24u)));
    }
    return vec2<f32>(bitcast<f32>(word), zero);
}

// The weights that values stand for, `scale` being of `scale_and_zero`.
fn scaled4(scales: u32, values: vec4<f32>, scale: vec2<f32>) -> vec4<f32> {
    if scales == F16_MIN || scales == NESTED {
        return values * scale.x + scale.y;
    }
    return (values - scale.y) * scale.x;
}
