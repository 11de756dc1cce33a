// y[r, c] = (x[r, c] - m) * (offset + gain[c]) / sqrt(mean((x[r, ..] - m)^2) + eps) + bias[c]
// m is 0 (root mean square: Zhang & Sennrich 2019), or where CENTER the row's mean (layer norm: Ba et al. 2016).
// x: [T, D] f32; gain, bias: [D] f32; y: [T, D], or [1, D] from the last real row where LAST_ROW. What pads D is zero, and without CENTER
// so may be elements within a row (the ends of heads), which do not count for the mean.
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
import package::shared::finite::{step, is_beyond, report};
import package::shared::group::flat_group;
@if(!alone) import package::shared::reduce::{workgroup_sum4, LANES as SUM_LANES};

// Invocations of a workgroup: they share a row, or each has one by itself, which on a processor that plays a GPU takes a fraction of the time
// that barriers do.
@if(alone) const LANES: u32 = 8u;
@if(!alone) const LANES: u32 = SUM_LANES;
// From one of an invocation's vec4s to its next.
@if(alone) const STRIDE: u32 = 1u;
@if(!alone) const STRIDE: u32 = LANES;

// Take the last row of each slot only, drafts aside: logits are wanted for it alone.
override LAST_ROWS: bool = false;
override CENTER: bool = false;
override BIAS: bool = false;
// Add to what y holds: the residual stream.
override ACCUMULATE: bool = false;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;

struct Params {
    // D, and D in vec4s
    dim: u32,
    dim4: u32,
    // elements that a mean is of: D, less what pads heads
    count: u32,
    eps: f32,
    // 1 where the checkpoint holds gains less one (Gemma), else 0
    offset: f32,
    // see shared/finite
    site: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
// BIAS only; otherwise a stand-in that is not read
@group(0) @binding(5) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<Y4>;

// vec4 i of a row less its mean; zero where it pads.
fn centered(v: vec4<f32>, mean: f32, i: u32) -> vec4<f32> {
    let column = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(0.0), v - mean, column < vec4<u32>(params.dim));
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
    @if(alone) let to = flat_group(group, groups) * LANES + lane;
    @if(alone) let first = 0u;
    @if(!alone) let to = flat_group(group, groups);
    @if(!alone) let first = lane;
    if to >= select(step.rows, step.slots, LAST_ROWS) {
        return;
    }
    var row = to;
    if LAST_ROWS {
        row = step.slot[to].first + max(step.slot[to].rows, 1u) - 1u - step.slot[to].drafts;
    }
    var mean = 0.0;
    if CENTER {
        var own = vec4<f32>(0.0);
        for (var i = first; i < params.dim4; i += STRIDE) {
            own += x[row * params.dim4 + i];
        }
        @if(sg_on) let sum = workgroup_sum4(own, subgroup_lane, subgroup, subgroups);
        @if(sg_off) let sum = workgroup_sum4(own, lane);
        @if(alone) let sum = own;
        mean = (sum.x + sum.y + sum.z + sum.w) / f32(params.dim);
    }
    var squares = vec4<f32>(0.0);
    for (var i = first; i < params.dim4; i += STRIDE) {
        let v = centered(x[row * params.dim4 + i], mean, i);
        squares += v * v;
    }
    @if(sg_on) let sum = workgroup_sum4(squares, subgroup_lane, subgroup, subgroups);
    @if(sg_off) let sum = workgroup_sum4(squares, lane);
    @if(alone) let sum = squares;
    let variance = (sum.x + sum.y + sum.z + sum.w) / f32(params.count);
    let norm = inverseSqrt(variance + params.eps);
    for (var i = first; i < params.dim4; i += STRIDE) {
        let at = to * params.dim4 + i;
        var v = centered(x[row * params.dim4 + i], mean, i) * norm * (params.offset + gain[i]);
        if BIAS {
            v += bias[i];
        }
        if ACCUMULATE {
            v += unpack_y(y[at]);
        }
        if is_beyond(v, BEYOND) {
            report(to, LAST_ROWS, params.site);
        }
        y[at] = pack_y(v);
    }
}
