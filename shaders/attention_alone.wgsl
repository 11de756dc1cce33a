// As attention, on processors that play a GPU: an invocation takes up to 4 rows of one key head and one split of the cache by itself.
// Such adapters pay a barrier with some hundred multiplications, and read element by element for each invocation.
//   y[t, h, ..] = sum_s softmax_s(scale * q[t, h, ..] . k[s, h', ..]) v[s, h', ..],  h' = h / (H / K)
// q: [T, H, E]; caches: [blocks, 32, K, E]; y: [T, H, E], or where there are splits one unnormalised part per split, with its maximum and sum in
// `stats`, for attention_merge.
@if(x_f32) import package::shared::elem_f32::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(x_f16) import package::shared::elem_f16::{Elem4 as X4, unpack4 as unpack_x, pack4 as pack_x};
@if(c_f32) import package::shared::elem_f32::{Elem4 as C4, unpack4 as unpack_c};
@if(c_f16) import package::shared::elem_f16::{Elem4 as C4, unpack4 as unpack_c};
import package::shared::step::{Step, BLOCK};
import package::shared::group::flat_group;
import package::shared::tanh::tanh4;

const LANES: u32 = 8u;
// vec4s of keys in a block
const KEYS4: u32 = 8u;
// vec4s of the widest head
const MOST4: u32 = 64u;
// A score that no real one reaches: finite, since fast-math drivers drop infinities.
const MASKED: f32 = -1e30;

// Rows of an invocation: 1, 2 or 4
override ROWS: u32 = 4u;

struct Params {
    heads: u32,
    kv_heads: u32,
    // E in vec4s
    head4: u32,
    // splits of the cache, and keys in each (a multiple of 32)
    splits: u32,
    split_keys: u32,
    // where the page table begins
    pages: u32,
    // invocations that have rows at most
    count: u32,
    // 1 where a row sees no keys after its own, else 0: it sees those of all rows of its slot. No constant, and nor is whether there are
    // splits: this kernel takes a processor long to compile.
    causal: u32,
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
// of splits only; otherwise a stand-in that is not touched
@group(0) @binding(6) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>;

// What a row has made of the keys so far.
struct Sums {
    most: f32,
    sum: f32,
    // what the values so far are multiplied by, since the maximum has changed
    factor: f32,
}

fn dots(v: vec4<f32>, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(v, k0), dot(v, k1), dot(v, k2), dot(v, k3));
}

// Scores of four keys from `key` on, of a row at `position`.
fn scores4(products: vec4<f32>, key: u32, end: u32, position: u32) -> vec4<f32> {
    var s = products * params.scale;
    if params.softcap > 0.0 {
        s = params.softcap * tanh4(s / params.softcap);
    }
    let keys = vec4<u32>(key) + vec4<u32>(0u, 1u, 2u, 3u);
    var seen = (keys < vec4<u32>(end)) & (keys <= vec4<u32>(position));
    if params.window > 0u {
        seen &= (keys + params.window) > vec4<u32>(position);
    }
    return select(vec4<f32>(MASKED), s, seen);
}

// Scores of a block to weights.
fn weigh(scores: ptr<function, array<vec4<f32>, KEYS4>>, sums: ptr<function, Sums>) {
    var most4 = vec4<f32>((*sums).most);
    for (var i = 0u; i < KEYS4; i++) {
        most4 = max(most4, (*scores)[i]);
    }
    let most = max(max(most4.x, most4.y), max(most4.z, most4.w));
    // drivers differ on exp of what is far below zero: exp(-80) is nothing beside 1, and finite
    let factor = exp(max((*sums).most - most, -80.0));
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < KEYS4; i++) {
        let s = (*scores)[i];
        // a row that sees nothing yet has the maximum MASKED; its weights must still be zero
        let weight = select(vec4<f32>(0.0), exp(max(s - most, vec4<f32>(-80.0))), s > vec4<f32>(MASKED));
        (*scores)[i] = weight;
        sum += weight;
    }
    *sums = Sums(most, (*sums).sum * factor + sum.x + sum.y + sum.z + sum.w, factor);
}

fn store(acc: ptr<function, array<vec4<f32>, MOST4>>, sums: Sums, head: u32, split: u32, head4: u32) {
    let inverse = select(0.0, 1.0 / sums.sum, sums.sum > 0.0);
    for (var e = 0u; e < head4; e++) {
        if params.splits > 1u {
            parts[(head * params.splits + split) * head4 + e] = (*acc)[e];
        } else {
            y[head * head4 + e] = pack_x((*acc)[e] * inverse);
        }
    }
    if params.splits > 1u {
        stats[head * params.splits + split] = vec2<f32>(sums.most, sums.sum);
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // neighbours are key heads of the same rows: their loops have the same length
    let index = flat_group(group, groups) * LANES + lane;
    if index >= params.count {
        return;
    }
    let kv_head = index % params.kv_heads;
    let split = index / params.kv_heads % params.splits;
    let share = params.heads / params.kv_heads;
    // the slots' rows follow each other, each slot's beginning with a block of its own
    var block = index / params.kv_heads / params.splits;
    var s = 0u;
    for (; s < step.slots; s++) {
        let blocks = (step.slot[s].rows * share + ROWS - 1u) / ROWS;
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
    let rows = slot.rows * share;
    let row0 = block * ROWS;
    // keys of this split that any of these rows sees: begin .. end
    let last_row = min(row0 + ROWS, rows) - 1u;
    let cached = slot.position - slot.dropped;
    let visible = cached + select(slot.rows, last_row / share + 1u, params.causal != 0u);
    let first_position = cached + row0 / share;
    let oldest = select(0u, first_position + 1u - min(params.window, first_position + 1u), params.window > 0u);
    let begin = max(split * params.split_keys, oldest / BLOCK * BLOCK);
    let end = min(visible, (split + 1u) * params.split_keys);
    // Always that of params: where only a uniform ends a loop, lavapipe may compile the kernel anew for every dispatch.
    let head4 = select(params.head4, 0u, rows == 0u);
    // from one position of a block to the next
    let pitch = params.kv_heads * head4;

    // rows past the last one repeat it, and are not stored
    let row1 = min(row0 + 1u, last_row);
    let row2 = min(row0 + 2u, last_row);
    let row3 = min(row0 + 3u, last_row);
    let head0 = (slot.first + row0 / share) * params.heads + kv_head * share + row0 % share;
    let head1 = (slot.first + row1 / share) * params.heads + kv_head * share + row1 % share;
    let head2 = (slot.first + row2 / share) * params.heads + kv_head * share + row2 % share;
    let head3 = (slot.first + row3 / share) * params.heads + kv_head * share + row3 % share;
    let position0 = select(visible - 1u, cached + row0 / share, params.causal != 0u);
    let position1 = select(visible - 1u, cached + row1 / share, params.causal != 0u);
    let position2 = select(visible - 1u, cached + row2 / share, params.causal != 0u);
    let position3 = select(visible - 1u, cached + row3 / share, params.causal != 0u);
    var weights0: array<vec4<f32>, KEYS4>;
    var weights1: array<vec4<f32>, KEYS4>;
    var weights2: array<vec4<f32>, KEYS4>;
    var weights3: array<vec4<f32>, KEYS4>;
    var acc0: array<vec4<f32>, MOST4>;
    var acc1: array<vec4<f32>, MOST4>;
    var acc2: array<vec4<f32>, MOST4>;
    var acc3: array<vec4<f32>, MOST4>;
    var sums0 = Sums(MASKED, 0.0, 0.0);
    var sums1 = sums0;
    var sums2 = sums0;
    var sums3 = sums0;

    for (var key0 = begin; key0 < end; key0 += BLOCK) {
        let tile = step.pages[pages + key0 / BLOCK] * BLOCK * pitch + kv_head * head4;
        let last = min(BLOCK, end - key0) - 1u;
        for (var i = 0u; i < KEYS4; i++) {
            // what is past the last key repeats it, and has no weight
            let at0 = tile + min(4u * i, last) * pitch;
            let at1 = tile + min(4u * i + 1u, last) * pitch;
            let at2 = tile + min(4u * i + 2u, last) * pitch;
            let at3 = tile + min(4u * i + 3u, last) * pitch;
            var s0 = vec4<f32>(0.0);
            var s1 = vec4<f32>(0.0);
            var s2 = vec4<f32>(0.0);
            var s3 = vec4<f32>(0.0);
            for (var e = select(head4, 0u, 4u * i <= last); e < head4; e++) {
                let k0 = unpack_c(k_cache[at0 + e]);
                let k1 = unpack_c(k_cache[at1 + e]);
                let k2 = unpack_c(k_cache[at2 + e]);
                let k3 = unpack_c(k_cache[at3 + e]);
                s0 += dots(unpack_x(q[head0 * head4 + e]), k0, k1, k2, k3);
                if ROWS > 1u {
                    s1 += dots(unpack_x(q[head1 * head4 + e]), k0, k1, k2, k3);
                }
                if ROWS > 2u {
                    s2 += dots(unpack_x(q[head2 * head4 + e]), k0, k1, k2, k3);
                    s3 += dots(unpack_x(q[head3 * head4 + e]), k0, k1, k2, k3);
                }
            }
            weights0[i] = scores4(s0, key0 + 4u * i, end, position0);
            if ROWS > 1u {
                weights1[i] = scores4(s1, key0 + 4u * i, end, position1);
            }
            if ROWS > 2u {
                weights2[i] = scores4(s2, key0 + 4u * i, end, position2);
                weights3[i] = scores4(s3, key0 + 4u * i, end, position3);
            }
        }
        weigh(&weights0, &sums0);
        if ROWS > 1u {
            weigh(&weights1, &sums1);
        }
        if ROWS > 2u {
            weigh(&weights2, &sums2);
            weigh(&weights3, &sums3);
        }
        for (var e = 0u; e < head4; e++) {
            var a0 = acc0[e] * sums0.factor;
            var a1 = vec4<f32>(0.0);
            var a2 = vec4<f32>(0.0);
            var a3 = vec4<f32>(0.0);
            if ROWS > 1u {
                a1 = acc1[e] * sums1.factor;
            }
            if ROWS > 2u {
                a2 = acc2[e] * sums2.factor;
                a3 = acc3[e] * sums3.factor;
            }
            for (var i = 0u; 4u * i <= last; i++) {
                let v0 = unpack_c(v_cache[tile + 4u * i * pitch + e]);
                let v1 = unpack_c(v_cache[tile + min(4u * i + 1u, last) * pitch + e]);
                let v2 = unpack_c(v_cache[tile + min(4u * i + 2u, last) * pitch + e]);
                let v3 = unpack_c(v_cache[tile + min(4u * i + 3u, last) * pitch + e]);
                let w0 = weights0[i];
                a0 += w0.x * v0 + w0.y * v1 + w0.z * v2 + w0.w * v3;
                if ROWS > 1u {
                    let w1 = weights1[i];
                    a1 += w1.x * v0 + w1.y * v1 + w1.z * v2 + w1.w * v3;
                }
                if ROWS > 2u {
                    let w2 = weights2[i];
                    a2 += w2.x * v0 + w2.y * v1 + w2.z * v2 + w2.w * v3;
                    let w3 = weights3[i];
                    a3 += w3.x * v0 + w3.y * v1 + w3.z * v2 + w3.w * v3;
                }
            }
            acc0[e] = a0;
            if ROWS > 1u {
                acc1[e] = a1;
            }
            if ROWS > 2u {
                acc2[e] = a2;
                acc3[e] = a3;
            }
        }
    }

    store(&acc0, sums0, head0, split, head4);
    if ROWS > 1u && row0 + 1u <= last_row {
        store(&acc1, sums1, head1, split, head4);
    }
    if ROWS > 2u && row0 + 2u <= last_row {
        store(&acc2, sums2, head2, split, head4);
    }
    if ROWS > 2u && row0 + 3u <= last_row {
        store(&acc3, sums3, head3, split, head4);
    }
}
