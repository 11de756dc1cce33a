// Rows of a checkpoint's tensor, as stored there, to rows of a weight, as kernels read it: f32, f16, or q4.
//
// `bytes` holds whole source rows, packed, or of a tensor that is stored transposed ([inputs, outputs]) whole columns: element
// (r, c) is at (r - first) * row_stride + (c - first_column) * column_stride. Source row r goes to weight row
// base + (r / G) * G' + r % G, and source column c to column (c / C) * C' + c % C: groups of rows or columns (the heads of an attention) that are no multiple of 4 wide are
// padded to one. What pads is zero. Rows outside this part (low .. high) are left alone.
// Values that are not finite, or that f16 cannot hold, are reported in `status` by the tensor's number.
import package::shared::f16::{f16_bits, f16_value};
import package::shared::group::flat_group;

struct Params {
    // source rows in `bytes`, the number of the first, and columns of the whole tensor
    rows: u32,
    first: u32,
    columns: u32,
    // the first column in `bytes`, and how far elements are apart
    first_column: u32,
    row_stride: u32,
    column_stride: u32,
    // units (vec4s; q4: scale words) of a stored row that are made here, and the first
    units: u32,
    first_unit: u32,
    // G, G' and the weight row of the first group
    row_group: u32,
    row_padded: u32,
    base: u32,
    // C, C'
    column_group: u32,
    column_padded: u32,
    // the part of the weight that is bound: rows low .. high
    low: u32,
    high: u32,
    // vec4s in a stored row of the weight, and its scale words (q4)
    stride4: u32,
    scale_stride: u32,
    // the tensor's number, for `status`
    tensor: u32,
}

struct Status {
    // least number of a tensor that holds a NaN or an infinity
    not_finite: atomic<u32>,
    // least number of a tensor with a value beyond f16
    overflow: atomic<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bytes: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: Status;
@if(d_f32) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<f32>>;
@if(d_f16) @group(0) @binding(3) var<storage, read_write> weight: array<vec2<u32>>;
@if(d_blocks) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<u32>>;
@if(d_blocks) @group(0) @binding(4) var<storage, read_write> scales: array<u32>;

const EXPONENT: u32 = 0x7f800000u;

@if(s_f32)
fn source_bits(i: u32) -> u32 {
    return bytes[i];
}

@if(s_bf16)
fn source_bits(i: u32) -> u32 {
    return ((bytes[i / 2u] >> ((i & 1u) * 16u)) & 0xffffu) << 16u;
}

// An f16 infinity or NaN becomes one of f32, so that one test serves all.
@if(s_f16)
fn source_bits(i: u32) -> u32 {
    let half = (bytes[i / 2u] >> ((i & 1u) * 16u)) & 0xffffu;
    if (half & 0x7c00u) == 0x7c00u {
        return EXPONENT;
    }
    return bitcast<u32>(f16_value(half));
}

// Column c of the weight, from local source row r; 0 where c pads.
fn value(r: u32, c: u32) -> f32 {
    let within = c % params.column_padded;
    let origin = (c / params.column_padded) * params.column_group + within;
    if within >= params.column_group || origin >= params.columns {
        return 0.0;
    }
    let bits = source_bits(r * params.row_stride + (origin - params.first_column) * params.column_stride);
    if (bits & EXPONENT) == EXPONENT {
        atomicMin(&status.not_finite, params.tensor);
        return 0.0;
    }
    return bitcast<f32>(bits);
}

fn value4(r: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(value(r, c), value(r, c + 1u), value(r, c + 2u), value(r, c + 3u));
}

@if(d_f16)
fn half2(v: vec2<f32>) -> u32 {
    let low = f16_bits(v.x);
    let high = f16_bits(v.y);
    if (low & 0x7fffu) == 0x7c00u || (high & 0x7fffu) == 0x7c00u {
        atomicMin(&status.overflow, params.tensor);
    }
    return low | (high << 16u);
}

// One block of 32: the scale that takes its largest magnitude (of equals a negative one) to -8 or 8 exactly, as ggml's Q4_0 does, in
// f16.
@if(d_blocks)
fn encode(r: u32, c: u32, at: u32) -> u32 {
    var block: array<vec4<f32>, 8>;
    // a magnitude with its sign below it
    var extreme = 0u;
    for (var i = 0u; i < 8u; i++) {
        let v = value4(r, c + i * 4u);
        block[i] = v;
        for (var j = 0u; j < 4u; j++) {
            let bits = bitcast<u32>(v[j]);
            extreme = max(extreme, (bits << 1u) | (bits >> 31u));
        }
    }
    let scale_bits = f16_bits(bitcast<f32>((extreme >> 1u) | (extreme << 31u)) * -0.125);
    if (scale_bits & 0x7fffu) == 0x7c00u {
        atomicMin(&status.overflow, params.tensor);
    }
    let scale = f16_value(scale_bits);
    let inverse = select(0.0, 1.0 / scale, scale != 0.0);
    var words = vec4<u32>(0u);
    for (var i = 0u; i < 8u; i++) {
        let q = vec4<u32>(clamp(floor(block[i] * inverse + 8.5), vec4<f32>(0.0), vec4<f32>(15.0)));
        words[i / 2u] |= (q.x | (q.y << 4u) | (q.z << 8u) | (q.w << 12u)) << ((i & 1u) * 16u);
    }
    weight[at] = words;
    return scale_bits;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    // an invocation makes one vec4 of a row, or one scale word with its two blocks
    let r = index / params.units;
    let i = params.first_unit + index % params.units;
    if r >= params.rows {
        return;
    }
    let source = params.first + r;
    let row = params.base + (source / params.row_group) * params.row_padded + source % params.row_group;
    if row < params.low || row >= params.high {
        return;
    }
    let to = row - params.low;
    @if(d_f32) {
        weight[to * params.stride4 + i] = value4(r, i * 4u);
    }
    @if(d_f16) {
        let v = value4(r, i * 4u);
        weight[to * params.stride4 + i] = vec2<u32>(half2(v.xy), half2(v.zw));
    }
    @if(d_blocks) {
        let blocks = params.stride4 / 8u;
        let at = to * blocks + i * 2u;
        var pair = encode(r, i * 64u, at);
        if i * 2u + 1u < blocks {
            pair |= encode(r, i * 64u + 32u, at + 1u) << 16u;
        }
        scales[to * params.scale_stride + i] = pair;
    }
}
