// y[r, c] = x[r, c] * gain[c] / sqrt(mean(x[r, ..]^2) + eps)         Zhang & Sennrich 2019
// x: [T, D] f32 (the residual stream); gain: [D] f32; y: [T, D], or [1, D] from the last real row where LAST_ROW
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, pack4 as pack_y};
import package::shared::step::Step;
import package::shared::group::flat_group;
import package::shared::reduce::{workgroup_sum4, LANES};

// Take row `step.rows - 1` only: logits are wanted for the last token alone.
override LAST_ROW: bool = false;

struct Params {
    // D, and D in vec4s; what pads a row to whole vec4s is zero
    dim: u32,
    dim4: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Y4>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @if(sg_on) @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @if(sg_on) @builtin(subgroup_id) subgroup: u32,
    @if(sg_on) @builtin(num_subgroups) subgroups: u32,
) {
    let to = flat_group(group, groups);
    let row = select(to, step.rows - 1u, LAST_ROW);
    if row >= step.rows {
        return;
    }
    var squares = vec4<f32>(0.0);
    for (var i = lane; i < params.dim4; i += LANES) {
        let v = x[row * params.dim4 + i];
        squares += v * v;
    }
    @if(sg_on) let sum = workgroup_sum4(squares, subgroup_lane, subgroup, subgroups);
    @if(sg_off) let sum = workgroup_sum4(squares, lane);
    let mean = (sum.x + sum.y + sum.z + sum.w) / f32(params.dim);
    let norm = inverseSqrt(mean + params.eps);
    for (var i = lane; i < params.dim4; i += LANES) {
        y[to * params.dim4 + i] = pack_y(x[row * params.dim4 + i] * norm * gain[i]);
    }
}
