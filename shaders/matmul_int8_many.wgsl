// As `matmul_many`, of inputs that `quantize_rows` made and weights in 8 or 2 bits without zero points (see `matmul_int8_few`): 64 x 64 tiles,
// 4 x 4 results per invocation, 32 of K at a time in two vec4s of words.
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
import package::shared::dequantize::{INT2, scale_and_zero, scale_word};
import package::shared::dot::{dot16, ternary16};
import package::shared::finite::{step, is_beyond, report};
import package::shared::matmul::MatmulParams;
import package::shared::group::flat_group;

const TILE: u32 = 64u;
// vec4s from one row of a tile to the next; odd, so that rows fall on different banks
const PITCH: u32 = 3u;

override BIAS: bool = false;
override ACCUMULATE: bool = false;
// As in `matmul_few`.
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

var<workgroup> x_tile: array<vec4<u32>, 192>;
var<workgroup> w_tile: array<vec4<u32>, 192>;
// of each column, for either half of the 32
var<workgroup> scale_tile: array<f32, 128>;

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

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    let n_tiles = (params.n + TILE - 1u) / TILE;
    let n0 = (flat % n_tiles) * TILE;
    let t0 = (flat / n_tiles) * TILE;
    let rows = select(step.rows, step.slots, LAST_ROWS);
    if t0 >= rows {
        return;
    }
    // Always that of params: where only a uniform ends a loop, lavapipe may compile the kernel anew for every dispatch.
    let k4 = select(params.k4, 0u, rows == 0u);
    let tx = lane % 16u;
    let ty = lane / 16u;
    // the first half of the invocations brings in x, the other w: one vec4 of one row each
    let fill = lane % 128u;
    let fill_row = fill / 2u;
    let fill_k = fill % 2u;
    let x_row = min(t0 + fill_row, rows - 1u);
    let w_row = min(n0 + fill_row, params.n - 1u);
    let units = (k4 + 3u) / 4u;

    var acc: array<vec4<f32>, 4>; // acc[row].column
    for (var u0 = 0u; u0 < units; u0 += 2u) {
        let u = u0 + fill_k;
        var v = vec4<u32>(0u);
        var scale = 0.0;
        if u < units {
            if lane < 128u {
                v = x[x_row * params.x_stride4 + u];
            } else {
                v = weights16(w_row, u);
                scale = scale_of(w_row, u * 4u / GROUP4);
            }
        }
        workgroupBarrier();
        if lane < 128u {
            x_tile[fill_row * PITCH + fill_k] = v;
        } else {
            w_tile[fill_row * PITCH + fill_k] = v;
            scale_tile[fill_k * TILE + fill_row] = scale;
        }
        workgroupBarrier();
        for (var i = 0u; i < 2u; i++) {
            let c = tx * 4u;
            let w0 = w_tile[c * PITCH + i];
            let w1 = w_tile[(c + 1u) * PITCH + i];
            let w2 = w_tile[(c + 2u) * PITCH + i];
            let w3 = w_tile[(c + 3u) * PITCH + i];
            let s = i * TILE + c;
            let scale4 = vec4<f32>(scale_tile[s], scale_tile[s + 1u], scale_tile[s + 2u], scale_tile[s + 3u]);
            for (var r = 0u; r < 4u; r++) {
                let xv = x_tile[(ty * 4u + r) * PITCH + i];
                acc[r] += vec4<f32>(vec4<i32>(dot16(xv, w0), dot16(xv, w1), dot16(xv, w2), dot16(xv, w3))) * scale4;
            }
        }
    }

    let n = n0 + tx * 4u;
    if n >= params.n {
        return;
    }
    let column = (params.first + n) / 4u;
    for (var r = 0u; r < 4u; r++) {
        let t = t0 + ty * 4u + r;
        if t < rows {
            let at = t * params.y_stride4 + column;
            var sum = acc[r] * bitcast<f32>(x[(t + 1u) * params.x_stride4 - 1u].x);
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
