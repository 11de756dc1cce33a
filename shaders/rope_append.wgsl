// Rotates queries and keys (Su et al. 2021) and appends keys and values to the cache:   (a, b) -> (a cos - b sin, b cos + a sin)
// for a = x[i], b = x[i + R/2], R the rotary width (the half-split layout of Hugging Face checkpoints), or for neighbours (the paper's
// layout, which llama.cpp keeps).
// qkv: [T, (H + 2 K) E]; q: [T, H E]; cache: [blocks, 32, K E]. E is padded to whole vec4s, the padding being zero.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(c_f32) import package::shared::elem_f32::{Elem4 as C4, pack4 as pack_c};
@if(c_f16) import package::shared::elem_f16::{Elem4 as C4, pack4 as pack_c};
import package::shared::finite::{step, is_beyond, report};
import package::shared::step::{Row, BLOCK};
import package::shared::group::flat_group;
import package::shared::rope::{turn_of_sum, paired};

// Whether anything is rotated, and whether what a vec4's elements are paired with is a vec4, too: a processor that plays a GPU runs both sides of a
// branch.
override ROTATED: bool = true;
override IN_VEC4S: bool = false;
// Whether the table has every position for itself (frequencies that change along the sequence).
override EVERY: bool = false;
// Whether the elements of a pair are neighbours.
override INTERLEAVED: bool = false;
// Whether keys are cached as they are, and positions are those in the cache: attention rotates keys as it reads them, so that keys
// before them may be dropped (Xiao et al. 2023).
override RAW_KEYS: bool = false;
// The bits of the least magnitudes that q and the cache do not hold: see shared/finite.
override BEYOND: u32 = 0xffffffffu;
override BEYOND_CACHE: u32 = 0xffffffffu;

struct Params {
    heads: u32,
    kv_heads: u32,
    // E in vec4s
    head4: u32,
    // R, the width that is rotated (even)
    rotary: u32,
    // where the page table begins
    pages: u32,
    // of queries, and of the cache: see shared/finite
    site: u32,
    cache_site: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1 and 2: the step, and what is found, see shared/finite
@group(0) @binding(3) var<storage, read> qkv: array<X4>;
@group(0) @binding(4) var<storage, read_write> q: array<X4>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<C4>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<C4>;
// EVERY: (cos, sin) of pair i at position p, [positions, R/2]. Else of angle(i) * p: for p = 0 .. 255, then for p = 0, 256,
// 512, ...; their product by the addition theorem is exact to f32 at any position, with a table that stays small.
@group(0) @binding(7) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read> rows: array<Row>;

fn element(head: u32, i: u32) -> f32 {
    return unpack_x(qkv[head + i / 4u])[i % 4u];
}

// Cosine and sine of a pair at position p.
fn turn(pair: u32, half: u32, p: u32) -> vec2<f32> {
    if EVERY {
        return table[p * half + pair];
    }
    return turn_of_sum(table[(p % 256u) * half + pair], table[(256u + p / 256u) * half + pair]);
}

// Element i of the head that begins at vec4 `head`, rotated for position p.
fn rotated(head: u32, i: u32, p: u32) -> f32 {
    let half = params.rotary / 2u;
    if i >= params.rotary {
        return element(head, i);
    }
    let at = paired(i, half, INTERLEAVED);
    let by = turn(at.pair, half, p);
    return element(head, i) * by.x + at.sign * element(head, at.other) * by.y;
}

// Elements i to i + 3, i being a multiple of 4.
fn rotated4(head: u32, i: u32, p: u32) -> vec4<f32> {
    let half = params.rotary / 2u;
    if IN_VEC4S {
        let at = paired(i, half, false);
        let t0 = turn(at.pair, half, p);
        let t1 = turn(at.pair + 1u, half, p);
        let t2 = turn(at.pair + 2u, half, p);
        let t3 = turn(at.pair + 3u, half, p);
        let other = unpack_x(qkv[head + at.other / 4u]) * at.sign;
        return unpack_x(qkv[head + i / 4u]) * vec4<f32>(t0.x, t1.x, t2.x, t3.x) + other * vec4<f32>(t0.y, t1.y, t2.y, t3.y);
    }
    return vec4<f32>(rotated(head, i, p), rotated(head, i + 1u, p), rotated(head, i + 2u, p), rotated(head, i + 3u, p));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    let all = params.heads + 2u * params.kv_heads;
    let i4 = index % params.head4;
    let h = (index / params.head4) % all;
    let t = index / params.head4 / all;
    if t >= step.rows {
        return;
    }
    let s = rows[t].slot;
    let slot = step.slot[s];
    // a row that its slot does not claim was left by an earlier step, and is nobody's
    if slot.done != 0u || t - slot.first >= slot.rows {
        return;
    }
    let head = (t * all + h) * params.head4;
    let at = slot.position - slot.dropped + t - slot.first;
    let p = select(slot.position + t - slot.first, at, RAW_KEYS);
    let cached = step.pages[params.pages + s * step.pages_each + at / BLOCK] * BLOCK + at % BLOCK;
    let i = i4 * 4u;
    // values, and keys that are rotated later, are kept as they came
    var v = unpack_x(qkv[head + i4]);
    if ROTATED && i < params.rotary && h < select(params.heads + params.kv_heads, params.heads, RAW_KEYS) {
        v = rotated4(head, i, p);
    }
    let is_query = h < params.heads;
    if is_beyond(v, select(BEYOND_CACHE, BEYOND, is_query)) {
        report(t, false, select(params.cache_site, params.site, is_query));
    }
    if is_query {
        q[(t * params.heads + h) * params.head4 + i4] = pack_x(v);
        return;
    }
    let to = cached * params.kv_heads * params.head4 + i4;
    if h < params.heads + params.kv_heads {
        k_cache[to + (h - params.heads) * params.head4] = pack_c(v);
    } else {
        v_cache[to + (h - params.heads - params.kv_heads) * params.head4] = pack_c(v);
    }
}
