// Merges the parts that attention made over the splits of the cache.
// parts: [T, H, splits, E] unnormalised; stats: [T, H, splits] (maximum, sum); y: [T, H, E]
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, pack4 as pack_y};
import package::shared::step::Step;
import package::shared::group::flat_group;

struct Params {
    heads: u32,
    // E in vec4s
    head4: u32,
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Y4>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    let head = index / params.head4; // t * H + h
    let e = index % params.head4;
    if head >= step.rows * params.heads {
        return;
    }
    var most = -1e30;
    for (var i = 0u; i < params.splits; i++) {
        most = max(most, stats[head * params.splits + i].x);
    }
    var sum = 0.0;
    var acc = vec4<f32>(0.0);
    for (var i = 0u; i < params.splits; i++) {
        let part = stats[head * params.splits + i];
        let factor = exp(max(part.x - most, -80.0));
        sum += part.y * factor;
        acc += parts[(head * params.splits + i) * params.head4 + e] * factor;
    }
    y[index] = pack_y(acc * select(0.0, 1.0 / sum, sum > 0.0));
}
