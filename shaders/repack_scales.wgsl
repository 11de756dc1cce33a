// Scales and zero points of a quantized tensor, as another tool stores them, to those of a weight as kernels read them
// (`src/quant/layer.rs`).
//
// `bytes` holds the tensor's elements from `first` on. An invocation makes one word of the weight's scales; what of it is not in `bytes`
// stays. Row n and group g find their element at
// ((n / row_div) * row_stride + (n % row_div) * row_step + g * group_stride) / div, g being numbers[g] where groups have an ORDER.
import package::shared::f16::{f16_bits, f16_value};
import package::shared::group::flat_group;
import package::shared::status::Status;

// Of the elements: f32, f16, bf16, bytes into a table (nested), integers.
override SOURCE: u32 = 0u;
// As in `shared/dequantize.wgsl`.
override SCALES: u32 = 0u;
override ORDER: bool = false;

struct Params {
    // elements in `bytes`, and the number of the first
    count: u32,
    first: u32,
    rows: u32,
    // groups of a weight's row
    groups: u32,
    row_div: u32,
    row_stride: u32,
    row_step: u32,
    group_stride: u32,
    div: u32,
    // scales: what they are multiplied by, whether (1) they are what divides; nested: scales in a block, and their mean
    factor: f32,
    inverse: u32,
    nested_block: u32,
    offset: f32,
    // zeros: their bits; AWQ's order (1); what is added to a word, and taken from a code; whether (1) codes have a sign
    bits: u32,
    awq: u32,
    add: u32,
    sub: u32,
    is_signed: u32,
    // words of a row's scales
    stride: u32,
    // G, G' and the weight row of the first group of rows
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
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;
// the number of each group (ORDER), or the table of nested statistics: 256 values, then those of blocks
@group(0) @binding(4) var<storage, read> side: array<u32>;

const IS_F16: u32 = 1u;
const IS_BF16: u32 = 2u;
const IS_NESTED: u32 = 3u;
const IS_INTEGER: u32 = 4u;

// The element of a row and a group.
fn place(n: u32, g: u32) -> u32 {
    var number = g;
    if ORDER {
        number = side[g];
    }
    let before = (n / params.row_div) * params.row_stride + (n % params.row_div) * params.row_step;
    return (before + number * params.group_stride) / params.div;
}

fn scaled(v: f32) -> f32 {
    if params.inverse == 0u {
        return v * params.factor;
    }
    // what is so near to zero has no inverse in f32, or none on some adapters
    if abs(v) < 1e-37 {
        atomicMin(&status.not_finite, params.tensor);
        return 0.0;
    }
    return params.factor / v;
}

// The value of element i of `bytes`.
fn value(i: u32) -> f32 {
    if SOURCE == IS_INTEGER {
        var at = i;
        if params.awq == 1u {
            let within = i & 7u;
            at = (i - within) + (within >> 1u) + (within & 1u) * 4u;
        }
        let per = 32u / params.bits;
        let mask = (1u << params.bits) - 1u;
        let code = ((bytes[at / per] + params.add) >> (at % per * params.bits)) & mask;
        if params.is_signed == 1u {
            return f32(bitcast<i32>(code << 24u) >> 24u);
        }
        return f32(code) - f32(params.sub);
    }
    if SOURCE == IS_NESTED {
        let code = (bytes[i / 4u] >> (i % 4u * 8u)) & 255u;
        let absmax = bitcast<f32>(side[256u + (params.first + i) / params.nested_block]);
        let product = bitcast<f32>(side[code]) * absmax;
        return product + params.offset;
    }
    var bits = 0u;
    if SOURCE == IS_F16 {
        bits = (bytes[i / 2u] >> ((i & 1u) * 16u)) & 0xffffu;
        if (bits & 0x7c00u) == 0x7c00u {
            atomicMin(&status.not_finite, params.tensor);
            return 0.0;
        }
        return scaled(f16_value(bits));
    }
    bits = bytes[i];
    if SOURCE == IS_BF16 {
        bits = ((bytes[i / 2u] >> ((i & 1u) * 16u)) & 0xffffu) << 16u;
    }
    if (bits & 0x7f800000u) == 0x7f800000u {
        atomicMin(&status.not_finite, params.tensor);
        return 0.0;
    }
    return scaled(bitcast<f32>(bits));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    let source = index / params.stride;
    let word = index % params.stride;
    if source >= params.rows {
        return;
    }
    let row = params.base + (source / params.row_group) * params.row_padded + source % params.row_group;
    if row < params.low || row >= params.high {
        return;
    }
    let at = (row - params.low) * params.stride + word;
    let is_zero = SOURCE == IS_INTEGER;
    // the scales in this word: two in f16, or one, or (its next word holds the zero) half of one
    var g = word;
    var count = 1u;
    if SCALES == 0u {
        g = word * 2u;
        count = 2u;
    } else if SCALES == 3u {
        if ((word & 1u) == 1u) != is_zero {
            return;
        }
        g = word / 2u;
    }
    for (var k = 0u; k < count; k++) {
        if g + k < params.groups {
            let i = place(source, g + k);
            if i >= params.first && i - params.first < params.count {
                let v = value(i - params.first);
                if SCALES >= 2u {
                    scales[at] = bitcast<u32>(v);
                } else {
                    let half = f16_bits(v);
                    if (half & 0x7fffu) == 0x7c00u {
                        atomicMin(&status.overflow, params.tensor);
                    }
                    let shift = select(select(0u, 16u, is_zero), k * 16u, SCALES == 0u);
                    scales[at] = (scales[at] & ~(0xffffu << shift)) | (half << shift);
                }
            }
        }
    }
}
