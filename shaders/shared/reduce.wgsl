// Sums over a workgroup of 64 invocations, the result in every one of them. Call in uniform control flow only.
// Several reductions may follow one another: each begins with a barrier.
const LANES: u32 = 64u;

var<workgroup> partial: array<vec4<f32>, LANES>;

@if(sg_on)
fn workgroup_sum4(v: vec4<f32>, subgroup_lane: u32, subgroup: u32, subgroups: u32) -> vec4<f32> {
    let own = subgroupAdd(v);
    workgroupBarrier();
    if subgroup_lane == 0u {
        partial[subgroup] = own;
    }
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < subgroups; i++) {
        sum += partial[i];
    }
    return sum;
}

@if(sg_off)
fn workgroup_sum4(v: vec4<f32>, lane: u32) -> vec4<f32> {
    workgroupBarrier();
    partial[lane] = v;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial[lane] += partial[lane + half];
        }
    }
    workgroupBarrier();
    return partial[0];
}
