// Normalizes each query and key head by itself, in place (Dehghani et al. 2023; Qwen3):
//   x[t, h, c] = x[t, h, c] * gain[c] / sqrt(mean(x[t, h, ..]^2) + eps)     for the H query heads, then the K key heads
// x: [T, (H + 2 K) E], values untouched; gain: [2, E] f32, that of queries, then that of keys. E is padded with zeros.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
import package::shared::step::Step;
import package::shared::group::flat_group;
import package::shared::reduce::{workgroup_sum4, LANES};

struct Params {
    heads: u32,
    kv_heads: u32,
    // E, and E in vec4s, at most 64
    head_dim: u32,
    head4: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read_write> x: array<X4>;
@group(0) @binding(3) var<storage, read> gain: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @if(sg_on) @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @if(sg_on) @builtin(subgroup_id) subgroup: u32,
    @if(sg_on) @builtin(num_subgroups) subgroups: u32,
) {
    let flat = flat_group(group, groups);
    let normed = params.heads + params.kv_heads;
    let t = flat / normed;
    let h = flat % normed;
    if t >= step.rows {
        return;
    }
    let at = (t * (normed + params.kv_heads) + h) * params.head4 + lane;
    var v = vec4<f32>(0.0);
    if lane < params.head4 {
        v = unpack_x(x[at]);
    }
    @if(sg_on) let sum = workgroup_sum4(v * v, subgroup_lane, subgroup, subgroups);
    @if(sg_off) let sum = workgroup_sum4(v * v, lane);
    let mean = (sum.x + sum.y + sum.z + sum.w) / f32(params.head_dim);
    if lane < params.head4 {
        let of_keys = select(0u, params.head4, h >= params.heads);
        x[at] = pack_x(v * inverseSqrt(mean + params.eps) * gain[of_keys + lane]);
    }
}
