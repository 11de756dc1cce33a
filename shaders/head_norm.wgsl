// Normalizes each query and key head by itself, in place, as `norm` does a row: the H query heads, then the K key heads
// (root mean square: Dehghani et al. 2023, Qwen3, Gemma 3; with CENTER and BIAS layer norm: Phi).
// x: [T, (H + 2 K) E], values untouched; gain, bias: [2, E] f32, that of queries, then that of keys. What pads E is zero.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
import package::shared::finite::{step, is_beyond, report};
import package::shared::group::flat_group;
@if(!alone) import package::shared::reduce::{workgroup_sum4, LANES as SUM_LANES};

// As in `norm`.
@if(alone) const LANES: u32 = 8u;
@if(!alone) const LANES: u32 = SUM_LANES;
@if(alone) const STRIDE: u32 = 1u;
@if(!alone) const STRIDE: u32 = LANES;

override CENTER: bool = false;
override BIAS: bool = false;
// The bits of the least magnitude that x does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;

struct Params {
    heads: u32,
    kv_heads: u32,
    // E, and E in vec4s, at most 64
    head_dim: u32,
    head4: u32,
    eps: f32,
    // 1 where the checkpoint holds gains less one (Gemma), else 0
    offset: f32,
    // see shared/finite
    site: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read_write> x: array<X4>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
// BIAS only; otherwise a stand-in that is not read
@group(0) @binding(5) var<storage, read> bias: array<vec4<f32>>;

// vec4 i of a head less its mean; zero where it pads.
fn centered(v: vec4<f32>, mean: f32, i: u32) -> vec4<f32> {
    let column = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(0.0), v - mean, column < vec4<u32>(params.head_dim));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @if(sg_on) @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @if(sg_on) @builtin(subgroup_id) subgroup: u32,
    @if(sg_on) @builtin(num_subgroups) subgroups: u32,
) {
    @if(alone) let flat = flat_group(group, groups) * LANES + lane;
    @if(alone) let first = 0u;
    @if(!alone) let flat = flat_group(group, groups);
    @if(!alone) let first = lane;
    let normed = params.heads + params.kv_heads;
    let t = flat / normed;
    let h = flat % normed;
    if t >= step.rows {
        return;
    }
    let at = (t * (normed + params.kv_heads) + h) * params.head4;
    var mean = 0.0;
    if CENTER {
        var own = vec4<f32>(0.0);
        for (var i = first; i < params.head4; i += STRIDE) {
            own += unpack_x(x[at + i]);
        }
        @if(sg_on) let sum = workgroup_sum4(own, subgroup_lane, subgroup, subgroups);
        @if(sg_off) let sum = workgroup_sum4(own, lane);
        @if(alone) let sum = own;
        mean = (sum.x + sum.y + sum.z + sum.w) / f32(params.head_dim);
    }
    var squares = vec4<f32>(0.0);
    for (var i = first; i < params.head4; i += STRIDE) {
        let v = centered(unpack_x(x[at + i]), mean, i);
        squares += v * v;
    }
    @if(sg_on) let sum = workgroup_sum4(squares, subgroup_lane, subgroup, subgroups);
    @if(sg_off) let sum = workgroup_sum4(squares, lane);
    @if(alone) let sum = squares;
    let norm = inverseSqrt((sum.x + sum.y + sum.z + sum.w) / f32(params.head_dim) + params.eps);
    for (var i = first; i < params.head4; i += STRIDE) {
        let own = select(0u, params.head4, h >= params.heads) + i;
        var v = centered(unpack_x(x[at + i]), mean, i) * norm * (params.offset + gain[own]);
        if BIAS {
            v += bias[own];
        }
        if is_beyond(v, BEYOND) {
            report(t, false, params.site);
        }
        x[at + i] = pack_x(v);
    }
}
