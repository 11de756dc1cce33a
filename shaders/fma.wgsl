// y[i] = sum over 8 chains c of v, where v starts as (i % 16 + c) and becomes v * factor + addend `rounds` times
// Nothing but arithmetic, to measure how much of it the adapter does, in vec4s: f32, f16, or four 8-bit integers to a number (t_i8, where
// v is the sum of its four bytes, signed, before it is multiplied). No memory. y: [count, 4]
import package::shared::group::flat_group;

@if(t_f16) enable f16;

struct Params {
    count: u32,
    rounds: u32,
    factor: f32,
    addend: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@if(t_f32) alias V = vec4<f32>;
@if(t_f16) alias V = vec4<f16>;
@if(t_i8) alias V = vec4<i32>;

@if(t_f32) fn splat(value: f32) -> V { return V(value); }
@if(t_f16) fn splat(value: f32) -> V { return V(f16(value)); }
@if(t_i8) fn splat(value: f32) -> V { return V(i32(value)); }

@if(!t_i8)
fn advance(v: V, a: V, b: V) -> V {
    return fma(v, a, b);
}

// a: four times the same byte
@if(t_i8)
fn advance(v: V, a: V, b: V) -> V {
    let u = bitcast<vec4<u32>>(v);
    let w = bitcast<u32>(a.x);
    return V(dot4I8Packed(u.x, w), dot4I8Packed(u.y, w), dot4I8Packed(u.z, w), dot4I8Packed(u.w, w)) + b;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= params.count {
        return;
    }
    @if(!t_i8) let a = splat(params.factor);
    @if(t_i8) let a = (splat(params.factor) & V(0xff)) * V(0x01010101);
    let b = splat(params.addend);
    // eight chains that do not wait for one another
    let one = splat(1.0);
    var c0 = splat(f32(i % 16u));
    var c1 = c0 + one;
    var c2 = c1 + one;
    var c3 = c2 + one;
    var c4 = c3 + one;
    var c5 = c4 + one;
    var c6 = c5 + one;
    var c7 = c6 + one;
    for (var round = 0u; round < params.rounds; round++) {
        c0 = advance(c0, a, b);
        c1 = advance(c1, a, b);
        c2 = advance(c2, a, b);
        c3 = advance(c3, a, b);
        c4 = advance(c4, a, b);
        c5 = advance(c5, a, b);
        c6 = advance(c6, a, b);
        c7 = advance(c7, a, b);
    }
    y[i] = vec4<f32>(((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)));
}
