// y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]      for few rows T: each weight is read once for all ROWS rows of x.
// x: [T, K]; w: [N, K]; bias: [N]; y: [T, N]. A workgroup makes 4 columns of ROWS rows, its invocations sharing K.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(w_f32) import package::shared::elem_f32::{Elem4 as W4, unpack4 as unpack_w};
@if(w_f16) import package::shared::elem_f16::{Elem4 as W4, unpack4 as unpack_w};
@if(w_q4) import package::shared::dequantize::{q4_unpack4, q4_scale, Q4_BLOCK4};
import package::shared::step::Step;
import package::shared::matmul::MatmulParams;
import package::shared::group::flat_group;
import package::shared::reduce::{workgroup_sum4, LANES};

// Rows of x that one workgroup takes: 1 to 4.
override ROWS: u32 = 4u;
override BIAS: bool = false;
// Add to what y holds: the residual stream.
override ACCUMULATE: bool = false;
// One row only: rows of `step` beyond it do not count.
override ONE_ROW: bool = false;

@group(0) @binding(0) var<uniform> params: MatmulParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<X4>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Y4>;
@if(w_q4) @group(0) @binding(5) var<storage, read> w: array<vec4<u32>>;
@if(!w_q4) @group(0) @binding(5) var<storage, read> w: array<W4>;
@if(w_q4) @group(0) @binding(6) var<storage, read> scales: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @if(sg_on) @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @if(sg_on) @builtin(subgroup_id) subgroup: u32,
    @if(sg_on) @builtin(num_subgroups) subgroups: u32,
) {
    let flat = flat_group(group, groups);
    let columns4 = params.n / 4u;
    let column4 = flat % columns4;
    let t0 = (flat / columns4) * ROWS;
    let rows = select(step.rows, 1u, ONE_ROW);
    if t0 >= rows {
        return;
    }
    // Rows past the last real one repeat it: nothing out of bounds is read, and nothing of them is stored.
    let last = rows - 1u;
    var acc: array<vec4<f32>, 4>;

    @if(w_q4) {
        let blocks = (params.k4 + Q4_BLOCK4 - 1u) / Q4_BLOCK4;
        for (var b = lane; b < blocks; b += LANES) {
            var words: array<vec4<u32>, 4>;
            var scale: array<f32, 4>;
            for (var j = 0u; j < 4u; j++) {
                let n = column4 * 4u + j;
                words[j] = w[n * (params.w_stride4 / Q4_BLOCK4) + b];
                scale[j] = q4_scale(scales[n * params.scale_stride + b / 2u], b);
            }
            for (var i = 0u; i < Q4_BLOCK4; i++) {
                let k = b * Q4_BLOCK4 + i;
                if k < params.k4 {
                    let shift = (i & 1u) * 16u;
                    let w0 = q4_unpack4(words[0][i / 2u], shift, scale[0]);
                    let w1 = q4_unpack4(words[1][i / 2u], shift, scale[1]);
                    let w2 = q4_unpack4(words[2][i / 2u], shift, scale[2]);
                    let w3 = q4_unpack4(words[3][i / 2u], shift, scale[3]);
                    for (var r = 0u; r < ROWS; r++) {
                        let v = unpack_x(x[min(t0 + r, last) * params.k4 + k]);
                        acc[r] += vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
                    }
                }
            }
        }
    }
    @if(!w_q4) {
        let row = column4 * 4u * params.w_stride4;
        for (var k = lane; k < params.k4; k += LANES) {
            let w0 = unpack_w(w[row + k]);
            let w1 = unpack_w(w[row + params.w_stride4 + k]);
            let w2 = unpack_w(w[row + 2u * params.w_stride4 + k]);
            let w3 = unpack_w(w[row + 3u * params.w_stride4 + k]);
            for (var r = 0u; r < ROWS; r++) {
                let v = unpack_x(x[min(t0 + r, last) * params.k4 + k]);
                acc[r] += vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
            }
        }
    }

    for (var r = 0u; r < ROWS; r++) {
        @if(sg_on) var sum = workgroup_sum4(acc[r], subgroup_lane, subgroup, subgroups);
        @if(sg_off) var sum = workgroup_sum4(acc[r], lane);
        let t = t0 + r;
        if lane == 0u && t < rows {
            let column = params.first / 4u + column4;
            let at = t * params.y_stride4 + column;
            if BIAS {
                sum += bias[column];
            }
            if ACCUMULATE {
                sum += unpack_y(y[at]);
            }
            y[at] = pack_y(sum);
        }
    }
}
