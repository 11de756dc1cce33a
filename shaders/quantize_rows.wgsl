// y[t, ..] = round(x[t, ..] / s), s = max(|x[t, ..]|, least) / 127: each row in 8 bits with a scale of its own (W8A8's dynamic activations,
// BitNet's).
// x: [T, K], its elements taken in an ORDER where the weights have one; y: for each row its codes, four to a word, the first lowest, filled with zeros to whole vec4s, then a vec4 whose first is s.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
import package::shared::step::Step;
import package::shared::group::flat_group;

const LANES: u32 = 64u;

// As in `matmul_few`.
override LAST_ROWS: bool = false;
override ORDER: bool = false;

struct Params {
    // K in vec4s, elements of a row that are written, in vec4s, and vec4s of a row of y
    k4: u32,
    len4: u32,
    y_stride4: u32,
    // the least magnitude that 127 stands for
    least: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<X4>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<u32>>;
// as in `matmul_few`
@group(0) @binding(4) var<storage, read> order: array<vec4<u32>>;

var<workgroup> greatest: array<f32, LANES>;

fn x1(t: u32, i: u32) -> f32 {
    if i >= params.k4 * 4u {
        return 0.0;
    }
    return unpack_x(x[t * params.k4 + i / 4u])[i & 3u];
}

fn x4(t: u32, k: u32) -> vec4<f32> {
    if ORDER {
        let i = order[k];
        return vec4<f32>(x1(t, i.x), x1(t, i.y), x1(t, i.z), x1(t, i.w));
    }
    return unpack_x(x[t * params.k4 + k]);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = flat_group(group, groups);
    if t >= select(step.rows, step.slots, LAST_ROWS) {
        return;
    }
    var own = vec4<f32>(0.0);
    for (var k = lane; k < params.k4; k += LANES) {
        own = max(own, abs(unpack_x(x[t * params.k4 + k])));
    }
    greatest[lane] = max(max(own.x, own.y), max(own.z, own.w));
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            greatest[lane] = max(greatest[lane], greatest[lane + half]);
        }
    }
    workgroupBarrier();
    let most = max(greatest[0], params.least);
    let scale = most / 127.0;
    let inverse = select(0.0, 127.0 / most, most > 0.0);
    let last = params.y_stride4 - 1u;
    for (var i = lane; i < last; i += LANES) {
        var words = vec4<u32>(0u);
        for (var j = 0u; j < 4u; j++) {
            let k = i * 4u + j;
            if k < params.len4 {
                let code = vec4<i32>(round(clamp(x4(t, k) * inverse, vec4<f32>(-127.0), vec4<f32>(127.0))));
                let bytes = bitcast<vec4<u32>>(code) & vec4<u32>(255u);
                words[j] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
            }
        }
        y[t * params.y_stride4 + i] = words;
    }
    if lane == 0u {
        y[t * params.y_stride4 + last] = vec4<u32>(bitcast<u32>(scale), 0u, 0u, 0u);
    }
}
