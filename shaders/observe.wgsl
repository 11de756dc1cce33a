// How much the last 32 rows of a prompt attend to each key before them (SnapKV: Li et al. 2024):
//   sums[h', s] = sum_t sum_h softmax_s(scale * q[t, h, ..] . k[s, h', ..]),  s < P - 32 <= t < P,  h the query heads of h'
// with scores bounded by `softcap` where there is one, of a prompt of P tokens whose last rows are those of slot step.observed. Full blocks
// are read as the cache keeps them (cold), so that it does not matter how the prompt was cut into steps.
// q: [T, H, E]; k_cache: see shared/cached; stats: [K, 32 H / K], maximum and sum of each row's softmax; sums: [K, stride].
//
// Two dispatches: the first makes `stats`, a workgroup taking 8 rows of a key head (a row is a token and one of the query heads that
// share the key head) and all keys; the second (SUMS) reads them, a workgroup taking 32 keys of a key head and all rows.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x};
import package::shared::cached::{Cached, tile_of, key4};
import package::shared::step::{Step, BLOCK};
import package::shared::observed::OBSERVED;
import package::shared::group::flat_group;
import package::shared::tanh::tanh4;

const QUERIES: u32 = 8u;
const LANES: u32 = 64u;
// A score that no real one reaches: finite, since fast-math drivers drop infinities.
const MASKED: f32 = -1e30;
@if(c_blocks) const QUANTIZED: bool = true;
@if(!c_blocks) const QUANTIZED: bool = false;

// E in vec4s: sizes the workgroup's copy of the queries
override HEAD4: u32 = 16u;
override SUMS: bool = false;
// Of a code: 4 or 8.
override BITS: u32 = 4u;

struct Params {
    heads: u32,
    kv_heads: u32,
    // where the page table begins; of a quantized cache, that of cold blocks and that of hot ones
    pages: u32,
    hot_pages: u32,
    // the word where cold blocks begin
    cold: u32,
    // keys in a row of sums
    stride: u32,
    scale: f32,
    // bounds scores: cap * tanh(score / cap); 0: off
    softcap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> q: array<X4>;
// 3: keys, see shared/cached
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;

var<workgroup> queries: array<vec4<f32>, QUERIES * HEAD4>;
var<workgroup> maxima: array<vec4<f32>, LANES>;
var<workgroup> totals: array<vec4<f32>, LANES>;

// P, the prompt's tokens: as many as the slot has with this step.
fn prompt() -> u32 {
    let slot = step.slot[step.observed];
    return slot.position + slot.rows;
}

fn load_queries(kv_head: u32, row0: u32, lane: u32) {
    let slot = step.slot[step.observed];
    let share = params.heads / params.kv_heads;
    let first = slot.first + slot.rows - OBSERVED;
    for (var i = lane; i < QUERIES * HEAD4; i += LANES) {
        let row = row0 + i / HEAD4;
        let head = (first + row / share) * params.heads + kv_head * share + row % share;
        queries[i] = unpack_x(q[head * HEAD4 + i % HEAD4]) * params.scale;
    }
}

// A key's scores with four of the queries, from `row` on.
fn scores4(kv_head: u32, key: u32, row: u32) -> vec4<f32> {
    let cached = Cached(params.kv_heads, HEAD4, BITS, params.cold);
    let hot = QUANTIZED && key / BLOCK >= prompt() / BLOCK;
    let pages = select(params.pages, params.hot_pages, hot) + step.observed * step.pages_each;
    let tile = tile_of(cached, step.pages[pages + key / BLOCK], hot);
    var s = vec4<f32>(0.0);
    for (var e = 0u; e < HEAD4; e++) {
        let k = key4(cached, tile, kv_head, key % BLOCK, e);
        s += vec4<f32>(
            dot(k, queries[row * HEAD4 + e]),
            dot(k, queries[(row + 1u) * HEAD4 + e]),
            dot(k, queries[(row + 2u) * HEAD4 + e]),
            dot(k, queries[(row + 3u) * HEAD4 + e]),
        );
    }
    if params.softcap > 0.0 {
        s = params.softcap * tanh4(s / params.softcap);
    }
    return s;
}

// What exp makes of a difference; drivers differ on what is far below zero: exp(-80) is nothing beside 1, and finite.
fn weight4(difference: vec4<f32>) -> vec4<f32> {
    return exp(max(difference, vec4<f32>(-80.0)));
}

// Maximum and sum of 8 rows' scores.
fn find_stats(kv_head: u32, row0: u32, lane: u32) {
    let share = params.heads / params.kv_heads;
    load_queries(kv_head, row0, lane);
    workgroupBarrier();
    let row = lane / BLOCK * 4u;
    // the last key that each of the four rows sees
    let last = vec4<u32>(prompt() - OBSERVED) + (vec4<u32>(row0 + row) + vec4<u32>(0u, 1u, 2u, 3u)) / share;
    var most = vec4<f32>(MASKED);
    var sum = vec4<f32>(0.0);
    for (var key = lane % BLOCK; key <= last.w; key += BLOCK) {
        let s = scores4(kv_head, key, row);
        let seen = vec4<u32>(key) <= last;
        let now = max(most, select(vec4<f32>(MASKED), s, seen));
        sum = sum * weight4(most - now) + select(vec4<f32>(0.0), weight4(s - now), seen);
        most = now;
    }
    maxima[lane] = most;
    totals[lane] = sum;
    workgroupBarrier();
    if lane % BLOCK == 0u {
        for (var i = 1u; i < BLOCK; i++) {
            let now = max(most, maxima[lane + i]);
            sum = sum * weight4(most - now) + totals[lane + i] * weight4(maxima[lane + i] - now);
            most = now;
        }
        let to = kv_head * OBSERVED * share + row0 + row;
        for (var r = 0u; r < 4u; r++) {
            stats[to + r] = vec2<f32>(most[r], sum[r]);
        }
    }
}

// The weights of 32 keys.
fn sum_weights(kv_head: u32, key0: u32, lane: u32) {
    let rows = OBSERVED * (params.heads / params.kv_heads);
    let key = key0 + lane % BLOCK;
    let row = lane / BLOCK * 4u;
    let is_real = key < prompt() - OBSERVED;
    var sum = vec4<f32>(0.0);
    for (var row0 = 0u; row0 < rows; row0 += QUERIES) {
        workgroupBarrier();
        load_queries(kv_head, row0, lane);
        workgroupBarrier();
        if is_real {
            let s = scores4(kv_head, key, row);
            for (var r = 0u; r < 4u; r++) {
                let stat = stats[kv_head * rows + row0 + row + r];
                sum[r] += exp(max(s[r] - stat.x, -80.0)) / stat.y;
            }
        }
    }
    totals[lane] = sum;
    workgroupBarrier();
    if lane < BLOCK && is_real {
        let both = totals[lane] + totals[lane + BLOCK];
        sums[kv_head * params.stride + key] = both.x + both.y + both.z + both.w;
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    let kv_head = flat % params.kv_heads;
    let part = flat / params.kv_heads;
    if SUMS {
        sum_weights(kv_head, part * BLOCK, lane);
    } else {
        find_stats(kv_head, part * QUERIES, lane);
    }
}
