// As `convert`, of rows whose columns are stored without padding and are a multiple of 8 (in blocks: 64): source and weight are then one
// run of units each, and a unit is converted without a division, in vectors. Nearly all bytes of a checkpoint are such rows.
//
// A unit is 8 elements, in blocks 64. Results are those of `convert`, bit by bit (but for tensors
// that are refused: what is not finite is not made 0).
@if(d_blocks) import package::shared::dequantize::{code_bits, F16_ZERO};
@if(d_blocks) import package::shared::encode::{Block, Encoded, encode_block};
import package::shared::f16::{f16_magnitude4, f16_subnormal4, f16_value4};
import package::shared::group::flat_group;
import package::shared::status::Status;

struct Params {
    // units in `bytes`
    units: u32,
    // where the first one goes, in units of this part of the weight: modulo 2^32 before its beginning
    first: u32,
    // units of this part
    limit: u32,
    // the tensor's number, for `status`
    tensor: u32,
}

// The bits of 8 elements as f32: those at even places, those at odd ones.
struct Eight {
    even: vec4<u32>,
    odd: vec4<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bytes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> status: Status;
@if(d_f32) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<u32>>;
@if(d_f16) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<u32>>;
@if(d_blocks) @group(0) @binding(3) var<storage, read_write> weight: array<vec4<u32>>;
@if(d_blocks) @group(0) @binding(4) var<storage, read_write> scales: array<u32>;

// The format, as `shared/dequantize.wgsl` numbers it.
@if(d_blocks) override CODES: u32 = 0u;
@if(d_blocks) override SCALES: u32 = 0u;

// Units that an invocation makes, 64 apart, so that neighbours read neighbouring bytes.
const PER: u32 = 32u;

@if(s_f32)
fn eight(i: u32) -> Eight {
    let a = bytes[i * 2u];
    let b = bytes[i * 2u + 1u];
    return Eight(vec4<u32>(a.xz, b.xz), vec4<u32>(a.yw, b.yw));
}

@if(s_bf16)
fn eight(i: u32) -> Eight {
    let words = bytes[i];
    return Eight(words << vec4<u32>(16u), words & vec4<u32>(0xffff0000u));
}

// An f16 infinity or NaN becomes a number beyond f16's range: `NOT_FINITE` is below it.
@if(s_f16)
fn eight(i: u32) -> Eight {
    let words = bytes[i];
    return Eight(f16_value4(words & vec4<u32>(0xffffu)), f16_value4(words >> vec4<u32>(16u)));
}

@if(s_f16)
const NOT_FINITE: u32 = 0x47800000u;
@if(!s_f16)
const NOT_FINITE: u32 = 0x7f800000u;
// The least magnitude that becomes infinity in f16; in blocks a mark for a scale that did.
@if(d_f32)
const OVERFLOW: u32 = 0xffffffffu;
@if(d_f16)
const OVERFLOW: u32 = 0x477ff000u;
@if(d_blocks)
const OVERFLOW: u32 = 1u;

// The greatest of eight.
fn greatest(even: vec4<u32>, odd: vec4<u32>) -> u32 {
    let both = max(even, odd);
    return max(max(both.x, both.y), max(both.z, both.w));
}

const MAGNITUDE: vec4<u32> = vec4<u32>(0x7fffffffu);

// Makes one unit; returns the bits of its greatest magnitude, or what is to be said of it.
@if(d_f32)
fn convert(i: u32, to: u32) -> u32 {
    let v = eight(i);
    weight[to * 2u] = vec4<u32>(v.even.x, v.odd.x, v.even.y, v.odd.y);
    weight[to * 2u + 1u] = vec4<u32>(v.even.z, v.odd.z, v.even.w, v.odd.w);
    return greatest(v.even & MAGNITUDE, v.odd & MAGNITUDE);
}

@if(d_f16 && s_f32)
fn convert(i: u32, to: u32) -> u32 {
    let v = eight(i);
    let even = v.even & MAGNITUDE;
    let odd = v.odd & MAGNITUDE;
    let signs = ((v.even >> vec4<u32>(16u)) & vec4<u32>(0x8000u)) | (v.odd & vec4<u32>(0x80000000u));
    weight[to] = signs | f16_magnitude4(even) | (f16_magnitude4(odd) << vec4<u32>(16u));
    return greatest(even, odd);
}

// Where it is normal in f16, bf16 fits without rounding.
@if(d_f16 && s_bf16)
fn half(bits: vec4<u32>) -> vec4<u32> {
    let normal = (bits - vec4<u32>(0x38000000u)) >> vec4<u32>(13u);
    return select(normal, f16_subnormal4(bits), bits < vec4<u32>(0x38800000u));
}

@if(d_f16 && s_bf16)
fn convert(i: u32, to: u32) -> u32 {
    let words = bytes[i];
    let even = (words & vec4<u32>(0x7fffu)) << vec4<u32>(16u);
    let odd = words & vec4<u32>(0x7fff0000u);
    weight[to] = (words & vec4<u32>(0x80008000u)) | half(even) | (half(odd) << vec4<u32>(16u));
    return greatest(even, odd);
}

@if(d_f16 && s_f16)
fn convert(i: u32, to: u32) -> u32 {
    let words = bytes[i];
    weight[to] = words;
    let most = greatest(words & vec4<u32>(0x7fffu), (words >> vec4<u32>(16u)) & vec4<u32>(0x7fffu));
    return select(0u, NOT_FINITE, most >= 0x7c00u);
}

// Makes the block `at` of the elements from vector i on.
@if(d_blocks)
fn encode(i: u32, at: u32) -> Encoded {
    let a = eight(i);
    let b = eight(i + 1u);
    let c = eight(i + 2u);
    let d = eight(i + 3u);
    let made = encode_block(
        Block(
            bitcast<vec4<f32>>(a.even), bitcast<vec4<f32>>(a.odd), bitcast<vec4<f32>>(b.even), bitcast<vec4<f32>>(b.odd),
            bitcast<vec4<f32>>(c.even), bitcast<vec4<f32>>(c.odd), bitcast<vec4<f32>>(d.even), bitcast<vec4<f32>>(d.odd),
        ),
        CODES,
        SCALES,
    );
    if code_bits(CODES) == 8u {
        weight[at * 2u] = made.low;
        weight[at * 2u + 1u] = made.high;
    } else {
        weight[at] = made.low;
    }
    return made;
}

@if(d_blocks)
fn convert(i: u32, to: u32) -> u32 {
    let first = encode(i * 8u, to * 2u);
    let second = encode(i * 8u + 4u, to * 2u + 1u);
    if SCALES == F16_ZERO {
        scales[to * 2u] = first.scale | (first.zero << 16u);
        scales[to * 2u + 1u] = second.scale | (second.zero << 16u);
    } else {
        scales[to] = first.scale | (second.scale << 16u);
    }
    let is_infinite = (first.scale & 0x7fffu) == 0x7c00u || (second.scale & 0x7fffu) == 0x7c00u;
    return select(select(0u, OVERFLOW, is_infinite), NOT_FINITE, max(first.most, second.most) >= NOT_FINITE);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var greatest = 0u;
    for (var k = 0u; k < PER; k++) {
        let i = (flat_group(group, groups) * PER + k) * 64u + lane;
        let to = params.first + i;
        if i < params.units && to < params.limit {
            greatest = max(greatest, convert(i, to));
        }
    }
    if greatest >= NOT_FINITE {
        atomicMin(&status.not_finite, params.tensor);
    } else if greatest >= OVERFLOW {
        atomicMin(&status.overflow, params.tensor);
    }
}
