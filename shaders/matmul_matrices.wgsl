// y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]      for many rows, by matrices that a subgroup multiplies together (wgpu, native only).
// x: [T, K] in f16; w: [N, K] in f16 or few bits, which become what f16 holds of them; bias: [N]; y: [T, N]. Sums are f32.
// A workgroup makes 64 x 64 results. Of those each quarter, 32 x 32, is one subgroup's, which makes two where there are few subgroups; where
// there are fewer still the tiles are gone through anew. How many there are is not known before the kernel runs.
import package::shared::finite::step;
import package::shared::group::flat_group;
import package::shared::many::{params, store, weight4, x4};
@if(w_blocks) import package::shared::dequantize::{fill_table, is_table};
import package::shared::elem_f16::rounded4;

enable f16;
enable wgpu_cooperative_matrix;

const LANES: u32 = 128u;
const TILE: u32 = 64u;
// the side of a matrix, and of a subgroup's share
@if(matrices_8) const SIDE: u32 = 8u;
@if(matrices_16) const SIDE: u32 = 16u;
const UNIT: u32 = 32u;
const UNITS: u32 = 4u;
const EACH: u32 = 2u;
// matrices along the side of a unit, and in it
const ACROSS: u32 = UNIT / SIDE;
const MATRICES: u32 = ACROSS * ACROSS;
// Results pass through memory a strip of each unit at a time: 256 of them, as many matrices as these are.
const STRIP: u32 = 256u / (SIDE * SIDE);
const STRIP_WIDTH: u32 = 256u / SIDE;
// Of K in a tile, and f16s from one of its rows to the next: rows begin at multiples of 16 bytes, as loads want it, and on different banks.
const TILE_K4: u32 = 8u;
const TILE_K: u32 = 32u;
const PITCH: u32 = 40u;

@if(matrices_8) alias MatrixX = coop_mat8x8<f16, A>;
@if(matrices_8) alias MatrixW = coop_mat8x8<f16, B>;
@if(matrices_8) alias MatrixY = coop_mat8x8<f32, C>;
@if(matrices_16) alias MatrixX = coop_mat16x16<f16, A>;
@if(matrices_16) alias MatrixW = coop_mat16x16<f16, B>;
@if(matrices_16) alias MatrixY = coop_mat16x16<f32, C>;

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

// scalars: Metal's matrices are loaded from nothing else
var<workgroup> x_tile: array<f16, TILE * PITCH>;
var<workgroup> w_tile: array<f16, TILE * PITCH>;
var<workgroup> strips: array<f32, 1024>;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let flat = flat_group(group, groups);
    let n_tiles = (params.n + TILE - 1u) / TILE;
    let n0 = (flat % n_tiles) * TILE;
    let t0 = (flat / n_tiles) * TILE;
    let rows = select(step.rows, step.slots, LAST_ROWS);
    // nothing of x where there are no rows; naga takes no cooperative operation behind a `return`
    let k4 = select(params.k4, 0u, t0 >= rows);
    @if(w_blocks) {
        if is_table(CODES) {
            fill_table(CODES, lane);
            workgroupBarrier();
        }
    }
    let fill_k = lane % TILE_K4;

    var acc: array<MatrixY, EACH * MATRICES>;
    var of_x: array<MatrixX, ACROSS>;
    for (var first = 0u; first < UNITS; first += EACH * subgroups) {
        workgroupBarrier();
        for (var i = lane; i < 256u; i += LANES) {
            strips[i] = 0.0;
        }
        workgroupBarrier();
        for (var m = 0u; m < EACH * MATRICES; m++) {
            acc[m] = coopLoadT<MatrixY>(&strips[0], SIDE);
        }
        for (var k0 = 0u; k0 < k4; k0 += TILE_K4) {
            let k = k0 + fill_k;
            workgroupBarrier();
            for (var row = lane / TILE_K4; row < TILE; row += LANES / TILE_K4) {
                var xv = vec4<f16>();
                var wv = vec4<f16>();
                if k < k4 {
                    xv = vec4<f16>(x4(ORDER, min(t0 + row, rows - 1u), k));
                    wv = vec4<f16>(rounded4(weight4(CODES, SCALES, GROUP4, min(n0 + row, params.n - 1u), k)));
                }
                let at = row * PITCH + fill_k * 4u;
                for (var i = 0u; i < 4u; i++) {
                    x_tile[at + i] = xv[i];
                    w_tile[at + i] = wv[i];
                }
            }
            workgroupBarrier();
            for (var e = 0u; e < EACH; e++) {
                let unit = first + e * subgroups + subgroup;
                // a loop of one turn: naga takes no `if` here, though all of a subgroup go one way
                loop {
                    if unit >= UNITS {
                        break;
                    }
                    for (var i = 0u; i < TILE_K; i += SIDE) {
                        for (var r = 0u; r < ACROSS; r++) {
                            of_x[r] = coopLoadT<MatrixX>(&x_tile[(unit / 2u * UNIT + r * SIDE) * PITCH + i], PITCH);
                        }
                        for (var c = 0u; c < ACROSS; c++) {
                            let of_w = coopLoad<MatrixW>(&w_tile[(unit % 2u * UNIT + c * SIDE) * PITCH + i], PITCH);
                            for (var r = 0u; r < ACROSS; r++) {
                                let m = e * MATRICES + r * ACROSS + c;
                                acc[m] = coopMultiplyAdd(of_x[r], of_w, acc[m]);
                            }
                        }
                    }
                    break;
                }
            }
        }
        for (var e = 0u; e < EACH; e++) {
            let begin = first + e * subgroups;
            for (var m = 0u; m < MATRICES; m += STRIP) {
                workgroupBarrier();
                loop {
                    if begin + subgroup >= UNITS {
                        break;
                    }
                    for (var i = 0u; i < STRIP; i++) {
                        let strip = acc[e * MATRICES + m + i];
                        coopStoreT(strip, &strips[(begin + subgroup) * 256u + i * SIDE], STRIP_WIDTH);
                    }
                    break;
                }
                workgroupBarrier();
                for (var i = lane * 4u; i < 1024u; i += LANES * 4u) {
                    let unit = i / 256u;
                    let t = t0 + unit / 2u * UNIT + m / ACROSS * SIDE + i % 256u / STRIP_WIDTH;
                    let n = n0 + unit % 2u * UNIT + m % ACROSS * SIDE + i % STRIP_WIDTH;
                    // of the units that were made just now
                    if unit - begin < subgroups && t < rows && n < params.n {
                        let sum = vec4<f32>(strips[i], strips[i + 1u], strips[i + 2u], strips[i + 3u]);
                        store(t, n, sum, BIAS, ACCUMULATE, LAST_ROWS, BEYOND);
                    }
                }
            }
        }
    }
}
