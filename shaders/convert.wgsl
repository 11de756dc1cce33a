// Rows of a checkpoint's tensor, as stored there, to rows of a weight, as kernels read it: f32, f16, or few bits.
//
// `bytes` holds whole source rows, packed, or of a tensor that is stored transposed ([inputs, outputs]) whole columns: element
// (r, c) is at (r - first) * row_stride + (c - first_column) * column_stride. Source row r goes to weight row
// base + (r / G) * G' + r % G, and source column c to column (c / C) * C' + c % C: groups of rows or columns (the heads of an attention) that are no multiple of 4 wide are
// padded to one. What pads is zero. Rows outside this part (low .. high) are left alone.
// Values that are not finite, or that f16 cannot hold, are reported in `status` by the tensor's number.
@if(d_blocks) import package::shared::dequantize::{code_bits, F16_ZERO};
@if(d_blocks) import package::shared::encode::{Block, Encoded, encode_block};
import package::shared::f16::{f16_bits, f16_value};
import package::shared::group::flat_group;
import package::shared::status::Status;

struct Params {
    // source rows in `bytes`, the number of the first, and columns of the whole tensor
    rows: u32,
    first: u32,
    columns: u32,
    // the first column in `bytes`, and how far elements are apart
    first_column: u32,
    row_stride: u32,
    column_stride: u32,
    // units (vec4s; in blocks: 64 elements) of a stored row that are made here, and the first
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
    // vec4s in a stored row of the weight, and its scale words
    stride4: u32,
    scale_stride: u32,
    // the tensor's number, for `status`
    tensor: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bytes: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: Status;
@if(d_f32) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<f32>>;
@if(d_f16) @group(0) @binding(3) var<storage, read_write> weight: array<vec2<u32>>;
@if(d_blocks) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<u32>>;
@if(d_blocks) @group(0) @binding(4) var<storage, read_write> scales: array<u32>;

// The format, as `shared/dequantize.wgsl` numbers it.
@if(d_blocks) override CODES: u32 = 0u;
@if(d_blocks) override SCALES: u32 = 0u;

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

// The elements of column c and the three even ones, or odd ones, after it.
@if(d_blocks)
fn alternate4(r: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(value(r, c), value(r, c + 2u), value(r, c + 4u), value(r, c + 6u));
}

// Makes the block from column c on, the weight's block `at`.
@if(d_blocks)
fn encode(r: u32, c: u32, at: u32) -> Encoded {
    let made = encode_block(
        Block(
            alternate4(r, c), alternate4(r, c + 1u), alternate4(r, c + 8u), alternate4(r, c + 9u),
            alternate4(r, c + 16u), alternate4(r, c + 17u), alternate4(r, c + 24u), alternate4(r, c + 25u),
        ),
        CODES,
        SCALES,
    );
    if (made.scale & 0x7fffu) == 0x7c00u {
        atomicMin(&status.overflow, params.tensor);
    }
    if code_bits(CODES) == 8u {
        weight[at * 2u] = made.low;
        weight[at * 2u + 1u] = made.high;
    } else {
        weight[at] = made.low;
    }
    return made;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    // an invocation makes one vec4 of a row, or two blocks
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
        let zeros = SCALES == F16_ZERO;
        let scale_at = to * params.scale_stride + select(i, i * 2u, zeros);
        let first = encode(r, i * 64u, at);
        var word = first.scale | (first.zero << 16u);
        if i * 2u + 1u < blocks {
            let second = encode(r, i * 64u + 32u, at + 1u);
            if zeros {
                scales[scale_at + 1u] = second.scale | (second.zero << 16u);
            } else {
                word |= second.scale << 16u;
            }
        }
        scales[scale_at] = word;
    }
}
