// y[t, f] = silu(gate[t, f]) * up[t, f],  silu(v) = v / (1 + exp(-v))         Shazeer 2020
// x: [T, 2 F], gate then up, each padded to whole vec4s; y: [T, F]
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
import package::shared::step::Step;
import package::shared::group::flat_group;

struct Params {
    // F in vec4s
    dim4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<X4>;
@group(0) @binding(3) var<storage, read_write> y: array<X4>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    let t = index / params.dim4;
    let i = index % params.dim4;
    if t >= step.rows {
        return;
    }
    let gate = unpack_x(x[t * 2u * params.dim4 + i]);
    let up = unpack_x(x[(t * 2u + 1u) * params.dim4 + i]);
    // exp(80) is finite in f32, and silu(-80) is zero in it: the clamp changes nothing and keeps infinities out
    let sigmoid = 1.0 / (1.0 + exp(min(-gate, vec4<f32>(80.0))));
    y[index] = pack_x(gate * sigmoid * up);
}
