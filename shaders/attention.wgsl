// Attention with online softmax (Milakov & Gimelshein 2018; Dao et al. 2022): scores are never written out.
//   y[t, h, ..] = sum_s softmax_s(scale * q[t, h, ..] . k[s, h', ..]) v[s, h', ..],  h' = h / (H / K)
// for s <= position + t, or where not CAUSAL for all of the slot's,
// with scores bounded by `softcap` where there is one.
// q: [T, H, E]; caches: [blocks, 32, K, E], or where c_blocks hot blocks in f16, then cold ones, see shared/cache: a row reads its
// own block from the hot page, those before it from cold ones. y: [T, H, E], or where SPLIT one unnormalised part per split, with its
// maximum and sum in `stats`, for attention_merge.
//
// A workgroup takes QUERIES rows of one key head (a row is a token and one of the query heads that share the key head, so
// that each cache read serves them all) and one split of the cache, in tiles of 32 keys.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
import package::shared::cached::{Cached, Tile, tile_of, key4, value4};
import package::shared::step::{Step, BLOCK};
import package::shared::group::flat_group;
import package::shared::rope::{turn_of_sum, paired};
import package::shared::tanh::tanh4;

const QUERIES: u32 = 8u;
const LANES: u32 = 64u;
// A score that no real one reaches: finite, since fast-math drivers drop infinities.
const MASKED: f32 = -1e30;

// E in vec4s: sizes the workgroup's copy of the queries
override HEAD4: u32 = 16u;
override SPLIT: bool = false;
// Whether a row sees no keys after its own; else it sees those of all rows of its slot.
override CAUSAL: bool = true;
// Whether the cache has keys as they came: each is rotated as it is read, by where it is in the cache. The others say how, as those of
// rope_append do.
override RAW_KEYS: bool = false;
override EVERY: bool = false;
override INTERLEAVED: bool = false;
// Of a code: 4 or 8.
override BITS: u32 = 4u;
@if(c_blocks) const QUANTIZED: bool = true;
@if(!c_blocks) const QUANTIZED: bool = false;

struct Params {
    heads: u32,
    kv_heads: u32,
    // splits of the cache, and keys in each (a multiple of 32)
    splits: u32,
    split_keys: u32,
    // where the page table begins; of a quantized cache, that of cold blocks and that of hot ones
    pages: u32,
    hot_pages: u32,
    // the word where cold blocks begin
    cold: u32,
    // E, and R, the width that is rotated
    head: u32,
    rotary: u32,
    // keys that a query sees, itself included; 0: all (sliding window)
    window: u32,
    scale: f32,
    // bounds scores: cap * tanh(score / cap); 0: off (Gemma 2, 2024)
    softcap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> q: array<X4>;
// 3 and 4: keys and values, see shared/cached
@group(0) @binding(5) var<storage, read_write> y: array<X4>;
// SPLIT only; otherwise a stand-in that is not touched
@group(0) @binding(6) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>;
// RAW_KEYS only: (cos, sin), see rope_append
@group(0) @binding(8) var<storage, read> turns: array<vec2<f32>>;

var<workgroup> queries: array<vec4<f32>, QUERIES * HEAD4>;
var<workgroup> scores: array<f32, QUERIES * BLOCK>;
// 8 lanes share a row's maximum and sum
var<workgroup> partial: array<f32, LANES>;
var<workgroup> row_sum: array<f32, QUERIES>;
var<workgroup> row_max: array<f32, QUERIES>;
var<workgroup> rescale: array<f32, QUERIES>;

fn cache() -> Cached {
    return Cached(params.kv_heads, HEAD4, BITS, params.cold);
}

// vec4 e of a key, rotated for position p.
fn rotated4(tile: Tile, kv_head: u32, key: u32, e: u32, p: u32) -> vec4<f32> {
    let own = key4(cache(), tile, kv_head, key, e);
    var v = own;
    // the vec4 that has the others of the pairs: mostly one for all four
    var others = own;
    var others_at = e;
    let half = params.rotary / 2u;
    for (var j = 0u; j < 4u && e * 4u + j < params.rotary; j++) {
        let at = paired(e * 4u + j, half, INTERLEAVED);
        if at.other / 4u != others_at {
            others_at = at.other / 4u;
            others = key4(cache(), tile, kv_head, key, others_at);
        }
        var turn: vec2<f32>;
        if EVERY {
            turn = turns[p * half + at.pair];
        } else {
            turn = turn_of_sum(turns[(p % 256u) * half + at.pair], turns[(256u + p / 256u) * half + at.pair]);
        }
        v[j] = own[j] * turn.x + at.sign * others[at.other % 4u] * turn.y;
    }
    return v;
}

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
    let hot_pages = params.hot_pages + s * step.pages_each;
    let first = slot.first * share;
    let rows = slot.rows * share;
    let row0 = block * QUERIES;
    // keys of this split that any of these rows sees: begin .. end
    let last_row = min(row0 + QUERIES, rows) - 1u;
    let cached = slot.position - slot.dropped;
    let visible = cached + select(slot.rows, last_row / share + 1u, CAUSAL);
    let first_position = cached + row0 / share;
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
    // the block of the first row; where the last one's is another, later rows read it once more, from its cold page
    let own_block = first_position / BLOCK * BLOCK;
    let is_twice = QUANTIZED && own_block != (visible - 1u) / BLOCK * BLOCK && own_block >= begin && own_block < end;
    let stop = select(end, end + BLOCK, is_twice);
    for (var next = begin; next < stop; next += BLOCK) {
        let is_again = is_twice && next + BLOCK >= stop;
        let key0 = select(next, own_block, is_again);
        let is_hot = QUANTIZED && key0 >= own_block && !is_again;
        let page = step.pages[select(pages, hot_pages, is_hot) + key0 / BLOCK];
        let tile = tile_of(cache(), page, is_hot);

        // scores: a lane takes one key for four of the rows, so that a key is read by two lanes only
        let key = lane % BLOCK;
        let row_half = (lane / BLOCK) * 4u;
        var s = vec4<f32>(0.0);
        if key0 + key < end {
            for (var e = 0u; e < HEAD4; e++) {
                var kv: vec4<f32>;
                if RAW_KEYS {
                    kv = rotated4(tile, kv_head, key, e, key0 + key);
                } else {
                    kv = key4(cache(), tile, kv_head, key, e);
                }
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
            let position = select(visible - 1u, cached + (row0 + row_half + r) / share, CAUSAL);
            let seen = key0 + key <= position && key0 + key < end
                && (!QUANTIZED || is_hot == (key0 == position / BLOCK * BLOCK))
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
                for (var i = 0u; i < keys; i++) {
                    sum4 += scores[row * BLOCK + i] * value4(cache(), tile, kv_head, i, e);
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
            if QUANTIZED {
                // codes that count from a minimum make no zeros of what pads a head
                let element = vec4<u32>(e * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                acc[j] = select(vec4<f32>(0.0), acc[j], element < vec4<u32>(params.head));
            }
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
