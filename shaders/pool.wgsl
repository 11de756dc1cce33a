// One row for each slot: y[s, ..] = the mean of its rows of x, or where FIRST the first of them; where NORMALIZE divided by its length
// (Reimers & Gurevych 2019).                                                      x: [T, D]; y: [B, D] f32
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
import package::shared::step::Step;
import package::shared::group::flat_group;
import package::shared::reduce::{workgroup_sum4, LANES};

override FIRST: bool = false;
override NORMALIZE: bool = false;

struct Params {
    // D in vec4s
    dim4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<X4>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @if(sg_on) @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @if(sg_on) @builtin(subgroup_id) subgroup: u32,
    @if(sg_on) @builtin(num_subgroups) subgroups: u32,
) {
    let s = flat_group(group, groups);
    if s >= step.slots {
        return;
    }
    let slot = step.slot[s];
    let rows = select(slot.rows, 1u, FIRST);
    var squares = vec4<f32>(0.0);
    for (var i = lane; i < params.dim4; i += LANES) {
        var sum = vec4<f32>(0.0);
        for (var t = 0u; t < rows; t++) {
            sum += unpack_x(x[(slot.first + t) * params.dim4 + i]);
        }
        let mean = sum / f32(max(rows, 1u));
        squares += mean * mean;
        y[s * params.dim4 + i] = mean;
    }
    if NORMALIZE {
        @if(sg_on) let sum = workgroup_sum4(squares, subgroup_lane, subgroup, subgroups);
        @if(sg_off) let sum = workgroup_sum4(squares, lane);
        // torch's normalize has the same bound
        let length = max(sqrt(sum.x + sum.y + sum.z + sum.w), 1e-12);
        for (var i = lane; i < params.dim4; i += LANES) {
            y[s * params.dim4 + i] /= length;
        }
    }
}
