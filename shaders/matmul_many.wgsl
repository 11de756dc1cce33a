// y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]      for many rows: tiles that a workgroup shares.
// x: [T, K]; w: [N, K]; bias: [N]; y: [T, N]. Of the tiles (rows of x by rows of w), in vec4s along K, so that a product is a dot:
//   tiles_64   64 x 64, 4 x 4 results per invocation, in f32
//   tiles_128  128 x 64, 8 x 4 results, in f32: a quarter fewer reads of the tiles, and each weight is read half as often
//   tiles_f16  the same in f16, half the bytes, for x in f16 and weights in f16 or few bits, which become what f16 holds of them
// Products and sums are of f32, whatever the tiles are.
import package::shared::finite::step;
import package::shared::group::flat_group;
import package::shared::many::{params, store, weight4, x4};
@if(w_blocks) import package::shared::dequantize::{fill_table, is_table};
@if(tiles_f16) import package::shared::elem_f16::rounded4;

@if(tiles_f16) enable f16;

@if(tiles_64) const TILE_T: u32 = 64u;
@if(!tiles_64) const TILE_T: u32 = 128u;
const TILE_N: u32 = 64u;
// vec4s of K that a tile holds, and from one of its rows to the next: odd, so that rows fall on different banks
@if(!tiles_f16) const TILE_K4: u32 = 4u;
@if(!tiles_f16) const PITCH: u32 = 5u;
@if(tiles_f16) const TILE_K4: u32 = 8u;
@if(tiles_f16) const PITCH: u32 = 9u;

override BIAS: bool = false;
// Add to what y holds: the residual stream.
override ACCUMULATE: bool = false;
// As in `matmul_few`.
override LAST_ROWS: bool = false;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;
override CODES: u32 = 0u;
override SCALES: u32 = 0u;
override GROUP4: u32 = 8u;
override ORDER: bool = false;

@if(!tiles_f16) alias Tile4 = vec4<f32>;
@if(tiles_f16) alias Tile4 = vec4<f16>;

@if(!tiles_f16)
fn tiled(v: vec4<f32>) -> Tile4 {
    return v;
}

@if(tiles_f16)
fn tiled(v: vec4<f32>) -> Tile4 {
    return Tile4(rounded4(v));
}

// Rows of x that an invocation makes results of, and vec4s that it brings into the tile of x, and into that of w.
const ROWS: u32 = TILE_T / 16u;
const FILL_X: u32 = TILE_T / FILL_ROWS;
const FILL_W: u32 = TILE_N / FILL_ROWS;
// rows of a tile that the workgroup fills at once
const FILL_ROWS: u32 = 256u / TILE_K4;

var<workgroup> x_tile: array<Tile4, TILE_T * PITCH>;
// column c of the tile stands in row (c % 4) * 16 + c / 4: an invocation's four columns are then 16 rows apart
var<workgroup> w_tile: array<Tile4, TILE_N * PITCH>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    let n_tiles = (params.n + TILE_N - 1u) / TILE_N;
    let n0 = (flat % n_tiles) * TILE_N;
    let t0 = (flat / n_tiles) * TILE_T;
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
    let fill_row = lane / TILE_K4;
    let fill_k = lane % TILE_K4;

    var acc: array<vec4<f32>, ROWS>; // acc[row].column
    for (var k0 = 0u; k0 < k4; k0 += TILE_K4) {
        let k = k0 + fill_k;
        // Each is given its value here, also past K: Firefox leaves a variable without one as the last turn of the loop left it.
        var xv: array<Tile4, FILL_X>;
        var wv: array<Tile4, FILL_W>;
        for (var i = 0u; i < FILL_X; i++) {
            xv[i] = Tile4();
            if k < k4 {
                xv[i] = Tile4(x4(ORDER, min(t0 + fill_row + i * FILL_ROWS, rows - 1u), k));
            }
        }
        for (var i = 0u; i < FILL_W; i++) {
            wv[i] = Tile4();
            if k < k4 {
                wv[i] = tiled(weight4(CODES, SCALES, GROUP4, min(n0 + fill_row + i * FILL_ROWS, params.n - 1u), k));
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < FILL_X; i++) {
            x_tile[(fill_row + i * FILL_ROWS) * PITCH + fill_k] = xv[i];
        }
        for (var i = 0u; i < FILL_W; i++) {
            let c = fill_row + i * FILL_ROWS;
            w_tile[((c % 4u) * 16u + c / 4u) * PITCH + fill_k] = wv[i];
        }
        workgroupBarrier();
        for (var i = 0u; i < TILE_K4; i++) {
            let w0 = vec4<f32>(w_tile[tx * PITCH + i]);
            let w1 = vec4<f32>(w_tile[(tx + 16u) * PITCH + i]);
            let w2 = vec4<f32>(w_tile[(tx + 32u) * PITCH + i]);
            let w3 = vec4<f32>(w_tile[(tx + 48u) * PITCH + i]);
            for (var r = 0u; r < ROWS; r++) {
                let v = vec4<f32>(x_tile[(ty * ROWS + r) * PITCH + i]);
                acc[r] += vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
            }
        }
    }

    let n = n0 + tx * 4u;
    if n >= params.n {
        return;
    }
    for (var r = 0u; r < ROWS; r++) {
        let t = t0 + ty * ROWS + r;
        if t < rows {
            store(t, n, acc[r], BIAS, ACCUMULATE, LAST_ROWS, BEYOND);
        }
    }
}
