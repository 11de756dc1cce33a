// y[t, f] = act(x[t, f]), or where GATED act(gate[t, f]) * up[t, f] (Shazeer 2020)
// x: [T, F], or [T, 2 F], gate then up, each padded to whole vec4s; y: [T, F]. Every act(0) is 0, so padding stays zero.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
import package::shared::finite::{step, is_beyond, report};
import package::shared::group::flat_group;
import package::shared::act::act;

// Which act, by the numbers of shared/act.
override ACT: u32 = 0u;
override GATED: bool = true;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;

struct Params {
    // F in vec4s
    dim4: u32,
    // see shared/finite
    site: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read> x: array<X4>;
@group(0) @binding(4) var<storage, read_write> y: array<X4>;

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
    var v: vec4<f32>;
    if GATED {
        v = act(ACT, unpack_x(x[t * 2u * params.dim4 + i])) * unpack_x(x[(t * 2u + 1u) * params.dim4 + i]);
    } else {
        v = act(ACT, unpack_x(x[index]));
    }
    if is_beyond(v, BEYOND) {
        report(t, false, params.site);
    }
    y[index] = pack_x(v);
}
