// y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]      for many rows: 64 x 64 tiles, 4 x 4 results per invocation.
// x: [T, K]; w: [N, K]; bias: [N]; y: [T, N]. Tiles hold 16 of K, in vec4s along K, so that a product is a dot.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(w_f32) import package::shared::elem_f32::{Elem4 as W4, unpack4 as unpack_w};
@if(w_f16) import package::shared::elem_f16::{Elem4 as W4, unpack4 as unpack_w};
@if(w_blocks) import package::shared::dequantize::{
    code_word, fill_table, is_table, other_word, scale_and_zero, scale_word, scaled4, values4,
};
import package::shared::finite::{step, is_beyond, report};
import package::shared::matmul::MatmulParams;
import package::shared::group::flat_group;

const TILE: u32 = 64u;
const TILE_K4: u32 = 4u;
// vec4s from one row of a tile to the next; odd, so that rows fall on different banks
const PITCH: u32 = 5u;

override BIAS: bool = false;
// Add to what y holds: the residual stream.
override ACCUMULATE: bool = false;
// As in `matmul_few`.
override LAST_ROWS: bool = false;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;
@if(w_blocks) override CODES: u32 = 0u;
@if(w_blocks) override SCALES: u32 = 0u;
@if(w_blocks) override GROUP4: u32 = 8u;
@if(w_blocks) override ORDER: bool = false;

@group(0) @binding(0) var<uniform> params: MatmulParams;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read> x: array<X4>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Y4>;
@if(w_blocks) @group(0) @binding(6) var<storage, read> w: array<u32>;
@if(!w_blocks) @group(0) @binding(6) var<storage, read> w: array<W4>;
@if(w_blocks) @group(0) @binding(7) var<storage, read> scales: array<u32>;
@if(w_blocks) @group(0) @binding(8) var<storage, read> order: array<vec4<u32>>;

var<workgroup> x_tile: array<vec4<f32>, 320>;
// column c of the tile stands in row (c % 4) * 16 + c / 4: an invocation's four columns are then 16 rows apart
var<workgroup> w_tile: array<vec4<f32>, 320>;

@if(w_blocks)
fn weight4(n: u32, k: u32) -> vec4<f32> {
    let word = w[n * code_word(CODES, params.w_stride4) + code_word(CODES, k)];
    let group = k / GROUP4;
    let at = n * params.scale_stride;
    let first = scales[at + scale_word(SCALES, GROUP4, group)];
    let other = scales[at + other_word(SCALES, GROUP4, group)];
    let scale = scale_and_zero(CODES, SCALES, group, first, other);
    return scaled4(SCALES, values4(CODES, word, k), scale);
}

@if(w_blocks)
fn x1(t: u32, i: u32) -> f32 {
    if i >= params.x_stride4 * 4u {
        return 0.0;
    }
    return unpack_x(x[t * params.x_stride4 + i / 4u])[i & 3u];
}

@if(w_blocks)
fn x4(t: u32, k: u32) -> vec4<f32> {
    if ORDER {
        let i = order[k];
        return vec4<f32>(x1(t, i.x), x1(t, i.y), x1(t, i.z), x1(t, i.w));
    }
    return unpack_x(x[t * params.x_stride4 + k]);
}

@if(!w_blocks)
fn weight4(n: u32, k: u32) -> vec4<f32> {
    return unpack_w(w[n * params.w_stride4 + k]);
}

@if(!w_blocks)
fn x4(t: u32, k: u32) -> vec4<f32> {
    return unpack_x(x[t * params.x_stride4 + k]);
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
    @if(w_blocks) {
        if is_table(CODES) {
            fill_table(CODES, lane);
            workgroupBarrier();
        }
    }
    let tx = lane % 16u;
    let ty = lane / 16u;
    // what this invocation brings into the tiles: one vec4 of one row of each
    let fill_row = lane / TILE_K4;
    let fill_k = lane % TILE_K4;
    let x_row = min(t0 + fill_row, rows - 1u);
    let w_row = min(n0 + fill_row, params.n - 1u);
    let w_slot = (fill_row % 4u) * 16u + fill_row / 4u;

    var acc: array<vec4<f32>, 4>; // acc[row].column
    for (var k0 = 0u; k0 < k4; k0 += TILE_K4) {
        let k = k0 + fill_k;
        var xv = vec4<f32>(0.0);
        var wv = vec4<f32>(0.0);
        if k < k4 {
            xv = x4(x_row, k);
            wv = weight4(w_row, k);
        }
        workgroupBarrier();
        x_tile[fill_row * PITCH + fill_k] = xv;
        w_tile[w_slot * PITCH + fill_k] = wv;
        workgroupBarrier();
        for (var i = 0u; i < TILE_K4; i++) {
            let w0 = w_tile[tx * PITCH + i];
            let w1 = w_tile[(tx + 16u) * PITCH + i];
            let w2 = w_tile[(tx + 32u) * PITCH + i];
            let w3 = w_tile[(tx + 48u) * PITCH + i];
            for (var r = 0u; r < 4u; r++) {
                let v = x_tile[(ty * 4u + r) * PITCH + i];
                acc[r] += vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
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
            var sum = acc[r];
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
