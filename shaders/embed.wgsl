// y[t, ..] = table[id of row t, ..] * scale, or where ADD  y[t, ..] += table[id of row t, ..], as token types are, or where POSITIONS
// y[t, ..] += table[its position + offset, ..]: learned positions.
// Rows of the table outside this part, and t >= T, are left alone.
// table: [V, D] (this part: rows first .. first + count); rows: [T]; y: [T, D] f32
@if(w_f32) import package::shared::elem_f32::{Elem4 as W4, unpack4 as unpack_w};
@if(w_f16) import package::shared::elem_f16::{Elem4 as W4, unpack4 as unpack_w};
@if(w_blocks) import package::shared::dequantize::{
    code_word, fill_table, is_table, other_word, scale_and_zero, scale_word, scaled4, values4,
};
import package::shared::step::{Row, Step};
import package::shared::group::flat_group;

override ADD: bool = false;
override POSITIONS: bool = false;
// As in `matmul_few`.
@if(w_blocks) override CODES: u32 = 0u;
@if(w_blocks) override SCALES: u32 = 0u;
@if(w_blocks) override GROUP4: u32 = 8u;

struct Params {
    // D, and D in vec4s
    dim: u32,
    dim4: u32,
    // the part of the table that is bound: its first row and its number of rows
    first: u32,
    count: u32,
    // vec4s in a stored row of the table, and its scale words (blocks)
    stride4: u32,
    scale_stride: u32,
    // multiplies every embedding (Gemma); 1 elsewhere
    scale: f32,
    // POSITIONS: the table's row for position 0
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@if(w_blocks) @group(0) @binding(4) var<storage, read> table: array<u32>;
@if(!w_blocks) @group(0) @binding(4) var<storage, read> table: array<W4>;
@if(w_blocks) @group(0) @binding(5) var<storage, read> scales: array<u32>;

@if(w_blocks)
fn table4(row: u32, i: u32) -> vec4<f32> {
    let group = i / GROUP4;
    let at = row * params.scale_stride;
    let first = scales[at + scale_word(SCALES, GROUP4, group)];
    let other = scales[at + other_word(SCALES, GROUP4, group)];
    let scale = scale_and_zero(CODES, SCALES, group, first, other);
    let word = table[row * code_word(CODES, params.stride4) + code_word(CODES, i)];
    let v = scaled4(SCALES, values4(CODES, word, i), scale);
    // what pads a row may be any code
    return select(vec4<f32>(0.0), v, vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.dim));
}

@if(!w_blocks)
fn table4(row: u32, i: u32) -> vec4<f32> {
    return unpack_w(table[row * params.stride4 + i]);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    @if(w_blocks) {
        if is_table(CODES) {
            fill_table(CODES, lane);
            workgroupBarrier();
        }
    }
    let index = flat_group(group, groups) * 64u + lane;
    let t = index / params.dim4;
    let i = index % params.dim4;
    if t >= step.rows {
        return;
    }
    var row = rows[t].id;
    if POSITIONS {
        let slot = rows[t].slot;
        row = step.slot[slot].position + t - step.slot[slot].first + params.offset;
    }
    row -= params.first; // wraps below the part, and then fails the test
    if row >= params.count {
        return;
    }
    if ADD || POSITIONS {
        y[index] += table4(row, i);
    } else {
        y[index] = table4(row, i) * params.scale;
    }
}
