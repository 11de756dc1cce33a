// Causal attention with online softmax (Milakov & Gimelshein 2018; Dao et al. 2022): scores are never written out.
//   y[t, h, ..] = sum_s softmax_s(scale * q[t, h, ..] . k[s, h', ..]) v[s, h', ..],  s <= position + t,  h' = h / (H / K)
// with scores bounded by `softcap` where there is one.
// q: [T, H, E]; caches: [blocks, 32, K, E]; y: [T, H, E], or where SPLIT one unnormalised part per split, with its
// maximum and sum in `stats`, for attention_merge.
//
// A workgroup takes QUERIES rows of one key head (a row is a token and one of the query heads that share the key head, so
// that each cache read serves them all) and one split of the cache, in tiles of 32 keys.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(c_f32) import package::shared::elem_f32::{Elem4 as C4, unpack4 as unpack_c};
@if(c_f16) import package::shared::elem_f16::{Elem4 as C4, unpack4 as unpack_c};
import package::shared::step::{Step, BLOCK};
import package::shared::group::flat_group;
import package::shared::tanh::tanh4;

const QUERIES: u32 = 8u;
const LANES: u32 = 64u;
// A score that no real one reaches: finite, since fast-math drivers drop infinities.
const MASKED: f32 = -1e30;

// E in vec4s: sizes the workgroup's copy of the queries
override HEAD4: u32 = 16u;
override SPLIT: bool = false;

struct Params {
    heads: u32,
    kv_heads: u32,
    // splits of the cache, and keys in each (a multiple of 32)
    splits: u32,
    split_keys: u32,
    // where the page table begins
    pages: u32,
    // keys that a query sees, itself included; 0: all (sliding window)
    window: u32,
    scale: f32,
    // bounds scores: cap * tanh(score / cap); 0: off (Gemma 2, 2024)
    softcap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> q: array<X4>;
@group(0) @binding(3) var<storage, read> k_cache: array<C4>;
@group(0) @binding(4) var<storage, read> v_cache: array<C4>;
@group(0) @binding(5) var<storage, read_write> y: array<X4>;
// SPLIT only; otherwise a stand-in that is not touched
@group(0) @binding(6) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>;

var<workgroup> queries: array<vec4<f32>, QUERIES * HEAD4>;
var<workgroup> scores: array<f32, QUERIES * BLOCK>;
// 8 lanes share a row's maximum and sum
var<workgroup> partial: array<f32, LANES>;
var<workgroup> row_sum: array<f32, QUERIES>;
var<workgroup> row_max: array<f32, QUERIES>;
var<workgroup> rescale: array<f32, QUERIES>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    let split = flat % params.splits;
    let kv_head = (flat / params.splits) % params.kv_heads;
    let share = params.heads / params.kv_heads;
    // the slots' rows follow each other, each slot's beginning with a block of its own
    var block = flat / params.splits / params.kv_heads;
    var s = 0u;
    for (; s < step.slots; s++) {
        let blocks = (step.slot[s].rows * share + QUERIES - 1u) / QUERIES;
        if block < blocks {
            break;
        }
        block -= blocks;
    }
    if s >= step.slots {
        return;
    }
    let slot = step.slot[s];
    let pages = params.pages + s * step.pages_each;
    let first = slot.first * share;
    let rows = slot.rows * share;
    let row0 = block * QUERIES;
    // keys of this split that any of these rows sees: begin .. end
    let last_row = min(row0 + QUERIES, rows) - 1u;
    let visible = slot.cached + last_row / share + 1u;
    let first_position = slot.cached + row0 / share;
    let oldest = select(0u, first_position + 1u - min(params.window, first_position + 1u), params.window > 0u);
    let begin = max(split * params.split_keys, oldest / BLOCK * BLOCK);
    let end = min(visible, (split + 1u) * params.split_keys);

    for (var i = lane; i < QUERIES * HEAD4; i += LANES) {
        let row = first + min(row0 + i / HEAD4, rows - 1u);
        let head = (row / share) * params.heads + kv_head * share + row % share;
        queries[i] = unpack_x(q[head * HEAD4 + i % HEAD4]) * params.scale;
    }
    if lane < QUERIES {
        row_max[lane] = MASKED;
        row_sum[lane] = 0.0;
    }
    // results of this invocation: vec4 number (lane + 64 j) of the tile, columns outermost
    var acc: array<vec4<f32>, 8>;
    workgroupBarrier();

    let own_row = lane / 8u;
    let own_part = lane % 8u;
    for (var key0 = begin; key0 < end; key0 += BLOCK) {
        let page = step.pages[pages + key0 / BLOCK] * BLOCK;

        // scores: a lane takes one key for four of the rows, so that a key is read by two lanes only
        let key = lane % BLOCK;
        let row_half = (lane / BLOCK) * 4u;
        var s = vec4<f32>(0.0);
        if key0 + key < end {
            let at = ((page + key) * params.kv_heads + kv_head) * HEAD4;
            for (var e = 0u; e < HEAD4; e++) {
                let kv = unpack_c(k_cache[at + e]);
                s += vec4<f32>(
                    dot(kv, queries[row_half * HEAD4 + e]),
                    dot(kv, queries[(row_half + 1u) * HEAD4 + e]),
                    dot(kv, queries[(row_half + 2u) * HEAD4 + e]),
                    dot(kv, queries[(row_half + 3u) * HEAD4 + e]),
                );
            }
        }
        if params.softcap > 0.0 {
            s = params.softcap * tanh4(s / params.softcap);
        }
        for (var r = 0u; r < 4u; r++) {
            let position = slot.cached + (row0 + row_half + r) / share;
            let seen = key0 + key <= position && key0 + key < end
                && (params.window == 0u || key0 + key + params.window > position);
            scores[(row_half + r) * BLOCK + key] = select(MASKED, s[r], seen);
        }
        workgroupBarrier();

        // online softmax: 8 lanes to a row, 4 keys to a lane
        var most = MASKED;
        for (var i = 0u; i < 4u; i++) {
            most = max(most, scores[own_row * BLOCK + own_part * 4u + i]);
        }
        partial[lane] = most;
        workgroupBarrier();
        let before = row_max[own_row];
        most = before;
        for (var i = 0u; i < 8u; i++) {
            most = max(most, partial[own_row * 8u + i]);
        }
        var sum = 0.0;
        for (var i = 0u; i < 4u; i++) {
            let at = own_row * BLOCK + own_part * 4u + i;
            let score = scores[at];
            // drivers differ on exp of what is far below zero: exp(-80) is nothing beside 1, and finite
            // a row that sees nothing yet has the maximum MASKED; its weights must still be zero
            let weight = select(0.0, exp(max(score - most, -80.0)), score > MASKED);
            scores[at] = weight;
            sum += weight;
        }
        workgroupBarrier();
        partial[lane] = sum;
        workgroupBarrier();
        if own_part == 0u {
            let factor = exp(max(before - most, -80.0));
            var total = row_sum[own_row] * factor;
            for (var i = 0u; i < 8u; i++) {
                total += partial[own_row * 8u + i];
            }
            row_sum[own_row] = total;
            row_max[own_row] = most;
            rescale[own_row] = factor;
        }
        workgroupBarrier();

        // values
        let keys = min(BLOCK, end - key0);
        for (var j = 0u; j < 8u; j++) {
            let item = lane + j * LANES;
            let row = item % QUERIES;
            let e = item / QUERIES;
            if e < HEAD4 {
                var sum4 = acc[j] * rescale[row];
                var at = (page * params.kv_heads + kv_head) * HEAD4 + e;
                for (var i = 0u; i < keys; i++) {
                    sum4 += scores[row * BLOCK + i] * unpack_c(v_cache[at]);
                    at += params.kv_heads * HEAD4;
                }
                acc[j] = sum4;
            }
        }
        workgroupBarrier();
    }

    for (var j = 0u; j < 8u; j++) {
        let item = lane + j * LANES;
        let row = row0 + item % QUERIES;
        let e = item / QUERIES;
        if e < HEAD4 && row < rows {
            let head = (slot.first + row / share) * params.heads + kv_head * share + row % share;
            if SPLIT {
                parts[(head * params.splits + split) * HEAD4 + e] = acc[j];
                if e == 0u {
                    stats[head * params.splits + split] = vec2<f32>(row_max[item % QUERIES], row_sum[item % QUERIES]);
                }
            } else {
                let sum = row_sum[item % QUERIES];
                y[head * HEAD4 + e] = pack_x(acc[j] * select(0.0, 1.0 / sum, sum > 0.0));
            }
        }
    }
}
