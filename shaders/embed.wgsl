// y[t, ..] = table[ids[t], ..] * scale, or where POSITIONS  y[t, ..] += table[position + t + offset, ..]: learned positions.
// Rows of the table outside this part, and t >= T, are left alone.
// table: [V, D] (this part: rows first .. first + count); ids: [T]; y: [T, D] f32
@if(w_f32) import package::shared::elem_f32::{Elem4 as W4, unpack4 as unpack_w};
@if(w_f16) import package::shared::elem_f16::{Elem4 as W4, unpack4 as unpack_w};
@if(w_q4) import package::shared::dequantize::{q4_unpack4, q4_scale, Q4_BLOCK4};
import package::shared::step::Step;
import package::shared::group::flat_group;

override POSITIONS: bool = false;

struct Params {
    // D in vec4s
    dim4: u32,
    // the part of the table that is bound: its first row and its number of rows
    first: u32,
    count: u32,
    // vec4s in a stored row of the table, and its scale words (q4)
    stride4: u32,
    scale_stride: u32,
    // multiplies every embedding (Gemma); 1 elsewhere
    scale: f32,
    // POSITIONS: the table's row for position 0
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@if(w_q4) @group(0) @binding(4) var<storage, read> table: array<u32>;
@if(!w_q4) @group(0) @binding(4) var<storage, read> table: array<W4>;
@if(w_q4) @group(0) @binding(5) var<storage, read> scales: array<u32>;

@if(w_q4)
fn table4(row: u32, i: u32) -> vec4<f32> {
    let block = i / Q4_BLOCK4;
    let word = table[(row * params.stride4 + i) / 2u];
    return q4_unpack4(word, (i & 1u) * 16u, q4_scale(scales[row * params.scale_stride + block / 2u], block));
}

@if(!w_q4)
fn table4(row: u32, i: u32) -> vec4<f32> {
    return unpack_w(table[row * params.stride4 + i]);
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
    var row = step.position + t + params.offset;
    if !POSITIONS {
        row = ids[t];
    }
    row -= params.first; // wraps below the part, and then fails the test
    if row >= params.count {
        return;
    }
    if POSITIONS {
        y[index] += table4(row, i);
    } else {
        y[index] = table4(row, i) * params.scale;
    }
}
