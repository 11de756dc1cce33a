// What products of many rows share: what they bind, what of x and w their tiles hold, and how a result is stored.
// A kernel's overrides are handed to these functions: those of an imported file would be renamed.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
@if(y_f32) import package::shared::elem_f32::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(y_f16) import package::shared::elem_f16::{Elem4 as Y4, unpack4 as unpack_y, pack4 as pack_y};
@if(w_f32) import package::shared::elem_f32::{Elem4 as W4, unpack4 as unpack_w};
@if(w_f16) import package::shared::elem_f16::{Elem4 as W4, unpack4 as unpack_w};
@if(w_blocks) import package::shared::dequantize::{
    code_word, other_word, scale_and_zero, scale_word, scaled4, values4,
};
import package::shared::finite::{is_beyond, report};
import package::shared::matmul::MatmulParams;

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
fn weight4(codes: u32, scaling: u32, group4: u32, n: u32, k: u32) -> vec4<f32> {
    let word = w[n * code_word(codes, params.w_stride4) + code_word(codes, k)];
    let group = k / group4;
    let at = n * params.scale_stride;
    let first = scales[at + scale_word(scaling, group4, group)];
    let other = scales[at + other_word(scaling, group4, group)];
    let scale = scale_and_zero(codes, scaling, group, first, other);
    return scaled4(scaling, values4(codes, word, k), scale);
}

@if(w_blocks)
fn x1(t: u32, i: u32) -> f32 {
    if i >= params.x_stride4 * 4u {
        return 0.0;
    }
    return unpack_x(x[t * params.x_stride4 + i / 4u])[i & 3u];
}

@if(w_blocks)
fn x4(ordered: bool, t: u32, k: u32) -> vec4<f32> {
    if ordered {
        let i = order[k];
        return vec4<f32>(x1(t, i.x), x1(t, i.y), x1(t, i.z), x1(t, i.w));
    }
    return unpack_x(x[t * params.x_stride4 + k]);
}

@if(!w_blocks)
fn weight4(codes: u32, scaling: u32, group4: u32, n: u32, k: u32) -> vec4<f32> {
    return unpack_w(w[n * params.w_stride4 + k]);
}

@if(!w_blocks)
fn x4(ordered: bool, t: u32, k: u32) -> vec4<f32> {
    return unpack_x(x[t * params.x_stride4 + k]);
}

// Stores four results of row t, from column n of this part on.
fn store(t: u32, n: u32, product: vec4<f32>, add_bias: bool, accumulate: bool, last_rows: bool, beyond: u32) {
    let column = (params.first + n) / 4u;
    let at = t * params.y_stride4 + column;
    var sum = product;
    if add_bias {
        sum += bias[column];
    }
    if accumulate {
        sum += unpack_y(y[at]);
    }
    if is_beyond(sum, beyond) {
        report(t, last_rows, params.site);
    }
    y[at] = pack_y(sum);
}
