// y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]      for many rows, on processors that play a GPU: an invocation makes 8 rows of 8 columns
// by itself. Such adapters read element by element for each invocation, so that what counts is how often a value is used once it is
// read; a barrier takes them as long as some hundred multiplications, and so does an index into an array of one's own, which is why
// all is written out here.
// x: [T, K]; w: [N, K]; bias: [N]; y: [T, N].
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

const LANES: u32 = 16u;
const ROWS: u32 = 8u;

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

fn dots(v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

// Columns 4 c to 4 c + 3 of row t, if there is such a row and there are such columns.
fn store(t: u32, rows: u32, c: u32, made: vec4<f32>) {
    if t >= rows || c >= params.n / 4u {
        return;
    }
    let column = params.first / 4u + c;
    let at = t * params.y_stride4 + column;
    var sum = made;
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

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    let across = (params.n / 4u + 2u * LANES - 1u) / (2u * LANES);
    let t = flat / across * ROWS;
    let rows = select(step.rows, step.slots, LAST_ROWS);
    if t >= rows {
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
    let c = (flat % across * LANES + lane) * 2u;
    if c * 4u >= params.n {
        return;
    }
    // What is past the last row or column repeats it: nothing out of bounds is read, and nothing of that is stored.
    let last = rows - 1u;
    let t1 = min(t + 1u, last);
    let t2 = min(t + 2u, last);
    let t3 = min(t + 3u, last);
    let t4 = min(t + 4u, last);
    let t5 = min(t + 5u, last);
    let t6 = min(t + 6u, last);
    let t7 = min(t + 7u, last);
    let n = c * 4u;
    let n4 = min(n + 4u, params.n - 4u);
    // of columns c and c + 1, row by row
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var a4 = vec4<f32>(0.0);
    var a5 = vec4<f32>(0.0);
    var a6 = vec4<f32>(0.0);
    var a7 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0);
    var b1 = vec4<f32>(0.0);
    var b2 = vec4<f32>(0.0);
    var b3 = vec4<f32>(0.0);
    var b4 = vec4<f32>(0.0);
    var b5 = vec4<f32>(0.0);
    var b6 = vec4<f32>(0.0);
    var b7 = vec4<f32>(0.0);
    for (var k = 0u; k < k4; k++) {
        let w0 = weight4(n, k);
        let w1 = weight4(n + 1u, k);
        let w2 = weight4(n + 2u, k);
        let w3 = weight4(n + 3u, k);
        let w4 = weight4(n4, k);
        let w5 = weight4(n4 + 1u, k);
        let w6 = weight4(n4 + 2u, k);
        let w7 = weight4(n4 + 3u, k);
        let v0 = x4(t, k);
        a0 += dots(v0, w0, w1, w2, w3);
        b0 += dots(v0, w4, w5, w6, w7);
        let v1 = x4(t1, k);
        a1 += dots(v1, w0, w1, w2, w3);
        b1 += dots(v1, w4, w5, w6, w7);
        let v2 = x4(t2, k);
        a2 += dots(v2, w0, w1, w2, w3);
        b2 += dots(v2, w4, w5, w6, w7);
        let v3 = x4(t3, k);
        a3 += dots(v3, w0, w1, w2, w3);
        b3 += dots(v3, w4, w5, w6, w7);
        let v4 = x4(t4, k);
        a4 += dots(v4, w0, w1, w2, w3);
        b4 += dots(v4, w4, w5, w6, w7);
        let v5 = x4(t5, k);
        a5 += dots(v5, w0, w1, w2, w3);
        b5 += dots(v5, w4, w5, w6, w7);
        let v6 = x4(t6, k);
        a6 += dots(v6, w0, w1, w2, w3);
        b6 += dots(v6, w4, w5, w6, w7);
        let v7 = x4(t7, k);
        a7 += dots(v7, w0, w1, w2, w3);
        b7 += dots(v7, w4, w5, w6, w7);
    }
    store(t, rows, c, a0);
    store(t + 1u, rows, c, a1);
    store(t + 2u, rows, c, a2);
    store(t + 3u, rows, c, a3);
    store(t + 4u, rows, c, a4);
    store(t + 5u, rows, c, a5);
    store(t + 6u, rows, c, a6);
    store(t + 7u, rows, c, a7);
    store(t, rows, c + 1u, b0);
    store(t + 1u, rows, c + 1u, b1);
    store(t + 2u, rows, c + 1u, b2);
    store(t + 3u, rows, c + 1u, b3);
    store(t + 4u, rows, c + 1u, b4);
    store(t + 5u, rows, c + 1u, b5);
    store(t + 6u, rows, c + 1u, b6);
    store(t + 7u, rows, c + 1u, b7);
}
