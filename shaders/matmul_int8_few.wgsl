// As `matmul_few`, of inputs that `quantize_rows` made and weights in 8 or 2 bits without zero points: products of integers, exact
// within a group.   y[t, n] = x_scale[t] * sum_g w_scale[n, g] * sum_{k in g} x[t, k] * w[n, k] + bias[n]
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
import package::shared::dequantize::{INT2, scale_and_zero, scale_word};
import package::shared::dot::{dot16, ternary16};
import package::shared::finite::{step, is_beyond, report};
import package::shared::matmul::MatmulParams;
import package::shared::group::flat_group;
import package::shared::few::{column4_of, first_part, first_row, sum4, LANES, STRIDE};

// As in `matmul_few`.
override ROWS: u32 = 4u;
override BIAS: bool = false;
override ACCUMULATE: bool = false;
override LAST_ROWS: bool = false;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;
override CODES: u32 = 1u;
override SCALES: u32 = 0u;
override GROUP4: u32 = 8u;

@group(0) @binding(0) var<uniform> params: MatmulParams;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Y4>;
@group(0) @binding(6) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> scales: array<u32>;

fn scale_of(n: u32, group: u32) -> f32 {
    return scale_and_zero(CODES, SCALES, group, scales[n * params.scale_stride + scale_word(SCALES, GROUP4, group)], 0u).x;
}

// Elements 16 u to 16 u + 15 of row n of w, a byte each.
fn weights16(n: u32, u: u32) -> vec4<u32> {
    let at = n * (params.w_stride4 / 4u) + u;
    if CODES == INT2 {
        return ternary16(w[at / 4u][at & 3u]);
    }
    return w[at];
}

@compute @workgroup_size(LANES)
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
    let column4 = column4_of(flat, lane, columns4);
    let part = first_part(lane);
    let t0 = first_row(flat, columns4, ROWS);
    let rows = select(step.rows, step.slots, LAST_ROWS);
    if t0 >= rows {
        return;
    }
    // Always that of params: where only a uniform ends a loop, lavapipe may compile the kernel anew for every dispatch.
    let k4 = select(params.k4, 0u, rows == 0u);
    // Rows past the last real one repeat it: nothing out of bounds is read, and nothing of them is stored.
    let last = rows - 1u;
    var acc: array<vec4<f32>, 4>;
    @if(alone) {
        if column4 >= columns4 {
            return;
        }
    }
    // 16 elements at a time
    let units = (k4 + 3u) / 4u;
    for (var u = part; u < units; u += STRIDE) {
        let n = column4 * 4u;
        let group_of = u * 4u / GROUP4;
        let scale = vec4<f32>(
            scale_of(n, group_of), scale_of(n + 1u, group_of), scale_of(n + 2u, group_of), scale_of(n + 3u, group_of),
        );
        let w0 = weights16(n, u);
        let w1 = weights16(n + 1u, u);
        let w2 = weights16(n + 2u, u);
        let w3 = weights16(n + 3u, u);
        for (var r = 0u; r < ROWS; r++) {
            let v = x[min(t0 + r, last) * params.x_stride4 + u];
            acc[r] += vec4<f32>(vec4<i32>(dot16(v, w0), dot16(v, w1), dot16(v, w2), dot16(v, w3))) * scale;
        }
    }

    for (var r = 0u; r < ROWS; r++) {
        @if(sg_on) var sum = sum4(acc[r], subgroup_lane, subgroup, subgroups);
        @if(sg_off) var sum = sum4(acc[r], lane);
        @if(alone) var sum = sum4(acc[r]);
        let t = t0 + r;
        if part == 0u && t < rows {
            sum *= bitcast<f32>(x[(t + 1u) * params.x_stride4 - 1u].x);
            let column = params.first / 4u + column4;
            let at = t * params.y_stride4 + column;
            if BIAS {
                sum += bias[column];
            }
            if ACCUMULATE {
                sum += unpack_y(y[at]);
            }
            if is_beyond(sum, BEYOND) {
                report(t, LAST_ROWS, params.site);
            }
            y[at] = pack_y(sum);
        }
    }
}
