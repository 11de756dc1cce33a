// y[t, f] = act(x[t, f]), or where GATED act(gate[t, f]) * up[t, f] (Shazeer 2020)
// x: [T, F], or [T, 2 F], gate then up, each padded to whole vec4s; y: [T, F]. Every act(0) is 0, so padding stays zero.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
import package::shared::finite::{step, is_beyond, report};
import package::shared::group::flat_group;
import package::shared::tanh::tanh4;

// Which act, by the numbers below.
override ACT: u32 = 0u;
override GATED: bool = true;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;

const SILU: u32 = 0u;
const GELU_TANH: u32 = 1u;
const GELU: u32 = 2u;
const QUICK_GELU: u32 = 3u;
const RELU: u32 = 4u;
const RELU2: u32 = 5u;
const TANH: u32 = 6u;

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

// exp(80) is finite in f32, and v * sigmoid(-80) is zero in it: the clamp changes nothing and keeps infinities out.
fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

// erfc to 1.2e-7 of its value: a Chebyshev fit of ln(erfc(z) exp(z^2)) in 1 / (1 + z / 2) (Press et al., Numerical Recipes).
fn erfc(v: vec4<f32>) -> vec4<f32> {
    let z = min(abs(v), vec4<f32>(9.0));
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = vec4<f32>(0.17087277);
    p = p * t - 0.82215223;
    p = p * t + 1.48851587;
    p = p * t - 1.13520398;
    p = p * t + 0.27886807;
    p = p * t - 0.18628806;
    p = p * t + 0.09678418;
    p = p * t + 0.37409196;
    p = p * t + 1.00002368;
    p = p * t - 1.26551223;
    let tail = t * exp(p - z * z);
    return select(tail, 2.0 - tail, v < vec4<f32>(0.0));
}

fn act(v: vec4<f32>) -> vec4<f32> {
    switch ACT {
        case GELU_TANH: {
            // 1 + tanh(u) = 2 sigmoid(2 u), which does not cancel where u is far below zero
            return v * sigmoid(1.5957691216 * (v + 0.044715 * v * v * v));
        }
        case GELU: {
            return 0.5 * v * erfc(v * -0.7071067812);
        }
        case QUICK_GELU: {
            return v * sigmoid(1.702 * v);
        }
        case RELU: {
            return max(v, vec4<f32>(0.0));
        }
        case RELU2: {
            let positive = max(v, vec4<f32>(0.0));
            return positive * positive;
        }
        case TANH: {
            return tanh4(v);
        }
        default: {
            return v * sigmoid(v);
        }
    }
}

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
        v = act(unpack_x(x[t * 2u * params.dim4 + i])) * unpack_x(x[(t * 2u + 1u) * params.dim4 + i]);
    } else {
        v = act(unpack_x(x[index]));
    }
    if is_beyond(v, BEYOND) {
        report(t, false, params.site);
    }
    y[index] = pack_x(v);
}
