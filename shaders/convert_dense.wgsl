// As `convert`, of rows whose columns are stored without padding and are a multiple of 8 (q4: 64): source and weight are then one
// run of units each, and a unit is converted without a division, in vectors. Nearly all bytes of a checkpoint are such rows.
//
// A unit is 8 elements, q4: 64. Results are those of `convert`, bit by bit (but for tensors
// that are refused: what is not finite is not made 0).
import package::shared::f16::{f16_bits, f16_magnitude4, f16_subnormal4, f16_value, f16_value4};
import package::shared::group::flat_group;

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

struct Status {
    // least number of a tensor that holds a NaN or an infinity
    not_finite: atomic<u32>,
    // least number of a tensor with a value beyond f16
    overflow: atomic<u32>,
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
// The least magnitude that becomes infinity in f16; q4: whose scale does.
@if(d_f32)
const OVERFLOW: u32 = 0xffffffffu;
@if(d_f16)
const OVERFLOW: u32 = 0x477ff000u;
@if(d_blocks)
const OVERFLOW: u32 = 0x48fff000u;

// The greatest of eight.
fn greatest(even: vec4<u32>, odd: vec4<u32>) -> u32 {
    let both = max(even, odd);
    return max(max(both.x, both.y), max(both.z, both.w));
}

const MAGNITUDE: vec4<u32> = vec4<u32>(0x7fffffffu);

// Makes one unit; returns the bits of its greatest magnitude.
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

@if(d_blocks)
fn nibbles(v: vec4<u32>, inverse: f32) -> vec4<f32> {
    return floor(clamp(bitcast<vec4<f32>>(v) * inverse + 8.5, vec4<f32>(0.0), vec4<f32>(15.5)));
}

// Eight nibbles, put together as numbers, which are exact below 2^24: cheaper than shifts on adapters that are CPUs.
@if(d_blocks)
fn word(v: Eight, inverse: f32) -> u32 {
    let pairs = nibbles(v.even, inverse) + nibbles(v.odd, inverse) * 16.0;
    let low = (pairs.x + 8388608.0) + pairs.y * 256.0;
    let high = (pairs.z + 8388608.0) + pairs.w * 256.0;
    return (bitcast<u32>(low) & 0xffffu) | (bitcast<u32>(high) << 16u);
}

// One block of 32: the scale that takes its largest magnitude (of equals a negative one) to -8 or 8 exactly, in f16. Without loops:
// arrays that a variable indexes are memory, on adapters that are CPUs at half the speed.
@if(d_blocks)
fn encode(i: u32, at: u32) -> u32 {
    let a = eight(i);
    let b = eight(i + 1u);
    let c = eight(i + 2u);
    let d = eight(i + 3u);
    // bits order magnitudes: as signed numbers those of positive values, as unsigned ones those of negative values
    let evens = max(max(bitcast<vec4<i32>>(a.even), bitcast<vec4<i32>>(b.even)), max(bitcast<vec4<i32>>(c.even), bitcast<vec4<i32>>(d.even)));
    let odds = max(max(bitcast<vec4<i32>>(a.odd), bitcast<vec4<i32>>(b.odd)), max(bitcast<vec4<i32>>(c.odd), bitcast<vec4<i32>>(d.odd)));
    let positive = max(max(evens, odds), vec4<i32>(0));
    let negative = max(max(max(a.even, b.even), max(c.even, d.even)), max(max(a.odd, b.odd), max(c.odd, d.odd)));
    let above = u32(max(max(positive.x, positive.y), max(positive.z, positive.w)));
    let below = max(max(negative.x, negative.y), max(negative.z, negative.w));
    let is_below = below >= 0x80000000u && (below & 0x7fffffffu) >= above;
    let extreme = select(above, below, is_below);
    worst = max(worst, extreme & 0x7fffffffu);
    let scale_bits = f16_bits(bitcast<f32>(extreme) * -0.125);
    let scale = f16_value(scale_bits);
    let inverse = select(0.0, 1.0 / scale, scale != 0.0);
    weight[at] = vec4<u32>(word(a, inverse), word(b, inverse), word(c, inverse), word(d, inverse));
    return scale_bits;
}

@if(d_blocks)
var<private> worst: u32;

@if(d_blocks)
fn convert(i: u32, to: u32) -> u32 {
    let low = encode(i * 8u, to * 2u);
    let high = encode(i * 8u + 4u, to * 2u + 1u);
    scales[to] = low | (high << 16u);
    return worst;
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
