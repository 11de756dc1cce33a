// y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]      for few rows T: each weight is read once for all ROWS rows of x.
// x: [T, K]; w: [N, K]; bias: [N]; y: [T, N]. A workgroup makes ROWS rows of 4 columns, or of 4 for each invocation (`few`).
// With an ACT y[t, n] is act of that; where it is GATED, w has the rows of the gate and then as many others, and y[t, n] = act(gate) * other.
// Where it is NORMED, x[t, ..] is x / sqrt(mean(x^2) + eps) * (offset + gain) (as in norm.wgsl) of what is bound: the division is left to
// the end, since each workgroup sees the whole row.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(w_f32) import package::shared::elem_f32::{Elem4 as W4, unpack4 as unpack_w};
@if(w_f16) import package::shared::elem_f16::{Elem4 as W4, unpack4 as unpack_w};
@if(w_blocks) import package::shared::dequantize::{
    code_word, fill_table, is_table, other_word, scale_and_zero, scale_word, scaled4, values4, vec4s_in_words,
};
import package::shared::act::{act, NO_ACT};
import package::shared::finite::{step, is_beyond, report};
import package::shared::matmul::MatmulParams;
import package::shared::group::flat_group;
import package::shared::few::{column4_of, first_part, first_row, sum4, LANES, STRIDE};

// Rows of x that one workgroup takes: 1 to 4.
override ROWS: u32 = 4u;
override BIAS: bool = false;
// Add to what y holds: the residual stream.
override ACCUMULATE: bool = false;
// What is done to the product, by the numbers of shared/act, and whether it gates another.
override ACT: u32 = 7u;
override GATED: bool = false;
// Rows of x are normalized on the way (in the order that they have).
override NORMED: bool = false;
// x has one row for each slot, not all rows of the step.
override LAST_ROWS: bool = false;
// The bits of the least magnitude that y does not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;
// Weights in few bits: what their codes and scales are, how many vec4s a scale is for, and whether rows have an order of their own.
@if(w_blocks) override CODES: u32 = 0u;
@if(w_blocks) override SCALES: u32 = 0u;
@if(w_blocks) override GROUP4: u32 = 8u;
@if(w_blocks) override ORDER: bool = false;

@group(0) @binding(0) var<uniform> params: MatmulParams;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read> x: array<X4>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Y4>;
@if(w_blocks) @group(0) @binding(6) var<storage, read> w: array<vec4<u32>>;
@if(!w_blocks) @group(0) @binding(6) var<storage, read> w: array<W4>;
@if(w_blocks) @group(0) @binding(7) var<storage, read> scales: array<u32>;
// ORDER: the input that each element of a row of w belongs to; NORMED: the bits of the gains
@if(w_blocks) @group(0) @binding(8) var<storage, read> inputs: array<vec4<u32>>;
@if(!w_blocks) @group(0) @binding(7) var<storage, read> inputs: array<vec4<u32>>;

@if(w_blocks)
fn x1(t: u32, i: u32) -> f32 {
    if i >= params.x_stride4 * 4u {
        return 0.0;
    }
    return unpack_x(x[t * params.x_stride4 + i / 4u])[i & 3u];
}

// What vec4 k of a row of w is multiplied by.
@if(w_blocks)
fn x4(t: u32, k: u32) -> vec4<f32> {
    if ORDER {
        let i = inputs[k];
        return vec4<f32>(x1(t, i.x), x1(t, i.y), x1(t, i.z), x1(t, i.w));
    }
    return unpack_x(x[t * params.x_stride4 + k]);
}

@if(!w_blocks)
fn x4(t: u32, k: u32) -> vec4<f32> {
    return unpack_x(x[t * params.x_stride4 + k]);
}

// What a normalized x4 is multiplied by, but for its row's root mean square.
fn gained(v: vec4<f32>, k: u32) -> vec4<f32> {
    if NORMED {
        return v * (params.offset + bitcast<vec4<f32>>(inputs[k]));
    }
    return v;
}

fn dots(v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

@if(w_blocks)
fn scale_of(n: u32, group: u32) -> vec2<f32> {
    let at = n * params.scale_stride;
    let first = scales[at + scale_word(SCALES, GROUP4, group)];
    let other = scales[at + other_word(SCALES, GROUP4, group)];
    return scale_and_zero(CODES, SCALES, group, first, other);
}

// Of ROWS rows: an invocation's share of 4 columns of each, and of the squares of x where it is NORMED.
struct Sums {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
    squares: vec4<f32>,
}

fn of_row(sums: Sums, r: u32) -> vec4<f32> {
    if r == 1u {
        return sums.r1;
    } else if r == 2u {
        return sums.r2;
    } else if r == 3u {
        return sums.r3;
    }
    return sums.r0;
}

// The part of K from `part` on of the products of rows t with the rows 4 column4 to 4 column4 + 3 of w.
fn products(column4: u32, part: u32, k4: u32, t: vec4<u32>) -> Sums {
    // One for each row, by name: an index into an array of an invocation's own costs a processor that plays a GPU more than the sums do.
    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);

    @if(w_blocks) {
        // an invocation takes 16 bytes of each column's codes at a time
        let per = vec4s_in_words(CODES);
        let units = (k4 + per - 1u) / per;
        for (var u = part; u < units; u += STRIDE) {
            let n = column4 * 4u;
            let words0 = w[n * (params.w_stride4 / per) + u];
            let words1 = w[(n + 1u) * (params.w_stride4 / per) + u];
            let words2 = w[(n + 2u) * (params.w_stride4 / per) + u];
            let words3 = w[(n + 3u) * (params.w_stride4 / per) + u];
            var scale0 = scale_of(n, u * per / GROUP4);
            var scale1 = scale_of(n + 1u, u * per / GROUP4);
            var scale2 = scale_of(n + 2u, u * per / GROUP4);
            var scale3 = scale_of(n + 3u, u * per / GROUP4);
            for (var i = 0u; i < per; i++) {
                let k = u * per + i;
                if k < k4 {
                    // groups that do not end with the 16 bytes
                    if GROUP4 % per != 0u && k % GROUP4 == 0u {
                        scale0 = scale_of(n, k / GROUP4);
                        scale1 = scale_of(n + 1u, k / GROUP4);
                        scale2 = scale_of(n + 2u, k / GROUP4);
                        scale3 = scale_of(n + 3u, k / GROUP4);
                    }
                    let word = code_word(CODES, i);
                    let w0 = scaled4(SCALES, values4(CODES, words0[word], i), scale0);
                    let w1 = scaled4(SCALES, values4(CODES, words1[word], i), scale1);
                    let w2 = scaled4(SCALES, values4(CODES, words2[word], i), scale2);
                    let w3 = scaled4(SCALES, values4(CODES, words3[word], i), scale3);
                    let v0 = x4(t.x, k);
                    acc0 += dots(gained(v0, k), w0, w1, w2, w3);
                    squares.x += dot(v0, v0);
                    if ROWS > 1u {
                        let v1 = x4(t.y, k);
                        acc1 += dots(gained(v1, k), w0, w1, w2, w3);
                        squares.y += dot(v1, v1);
                    }
                    if ROWS > 2u {
                        let v2 = x4(t.z, k);
                        acc2 += dots(gained(v2, k), w0, w1, w2, w3);
                        squares.z += dot(v2, v2);
                    }
                    if ROWS > 3u {
                        let v3 = x4(t.w, k);
                        acc3 += dots(gained(v3, k), w0, w1, w2, w3);
                        squares.w += dot(v3, v3);
                    }
                }
            }
        }
    }
    @if(!w_blocks) {
        let row = column4 * 4u * params.w_stride4;
        for (var k = part; k < k4; k += STRIDE) {
            let w0 = unpack_w(w[row + k]);
            let w1 = unpack_w(w[row + params.w_stride4 + k]);
            let w2 = unpack_w(w[row + 2u * params.w_stride4 + k]);
            let w3 = unpack_w(w[row + 3u * params.w_stride4 + k]);
            let v0 = x4(t.x, k);
            acc0 += dots(gained(v0, k), w0, w1, w2, w3);
            squares.x += dot(v0, v0);
            if ROWS > 1u {
                let v1 = x4(t.y, k);
                acc1 += dots(gained(v1, k), w0, w1, w2, w3);
                squares.y += dot(v1, v1);
            }
            if ROWS > 2u {
                let v2 = x4(t.z, k);
                acc2 += dots(gained(v2, k), w0, w1, w2, w3);
                squares.z += dot(v2, v2);
            }
            if ROWS > 3u {
                let v3 = x4(t.w, k);
                acc3 += dots(gained(v3, k), w0, w1, w2, w3);
                squares.w += dot(v3, v3);
            }
        }
    }
    return Sums(acc0, acc1, acc2, acc3, squares);
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
    // those of y
    let columns4 = select(params.n, params.n / 2u, GATED) / 4u;
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
    let these = min(t0 + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(rows - 1u));
    @if(w_blocks) {
        if is_table(CODES) {
            fill_table(CODES, lane);
            workgroupBarrier();
        }
    }
    @if(alone) {
        if column4 >= columns4 {
            return;
        }
    }
    let sums = products(column4, part, k4, these);
    var gated = sums;
    if GATED {
        gated = products(columns4 + column4, part, k4, these);
    }

    var factor = vec4<f32>(1.0);
    if NORMED {
        @if(sg_on) let squares = sum4(sums.squares, subgroup_lane, subgroup, subgroups);
        @if(sg_off) let squares = sum4(sums.squares, lane);
        @if(alone) let squares = sum4(sums.squares);
        factor = inverseSqrt(squares / f32(params.count) + params.eps);
    }

    for (var r = 0u; r < ROWS; r++) {
        @if(sg_on) var sum = sum4(of_row(sums, r), subgroup_lane, subgroup, subgroups);
        @if(sg_off) var sum = sum4(of_row(sums, r), lane);
        @if(alone) var sum = sum4(of_row(sums, r));
        var other = vec4<f32>(1.0);
        if GATED {
            @if(sg_on) other = sum4(of_row(gated, r), subgroup_lane, subgroup, subgroups);
            @if(sg_off) other = sum4(of_row(gated, r), lane);
            @if(alone) other = sum4(of_row(gated, r));
        }
        if NORMED {
            sum *= factor[r];
            other *= factor[r];
        }
        let t = t0 + r;
        if part == 0u && t < rows {
            let column = params.first / 4u + column4;
            let at = t * params.y_stride4 + column;
            if BIAS {
                sum += bias[column];
            }
            if GATED && BIAS {
                other += bias[columns4 + column];
            }
            if ACT != NO_ACT {
                sum = act(ACT, sum) * other;
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
