// x[t, v] = cap * tanh(x[t, v] / cap), in place (Gemma 2, 2024).          x: [T, V] f32
import package::shared::group::flat_group;
import package::shared::tanh::tanh4;

struct Params {
    // vec4s in all of x
    count: u32,
    cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i < params.count {
        x[i] = params.cap * tanh4(x[i] / params.cap);
    }
}
