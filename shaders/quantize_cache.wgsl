// Quantizes the blocks of the cache that this step's rows complete, keys and values: from their hot pages, which hold f16, to
// their cold ones, see shared/cache.
//
// caches: hot blocks [blocks, 32, K, E] f16, then cold ones. An invocation takes 8 elements of all keys of a block, or 32 of two
// neighbouring values.
import package::shared::cache::{GROUP4, padded4, scales_at, scale_words, block_words, key_codes_at, value_codes_at, value_scale_at};
import package::shared::f16::{f16_magnitude4, f16_value4};
import package::shared::group::flat_group;
import package::shared::step::{Step, BLOCK};

// Of a code: 4 or 8.
override BITS: u32 = 4u;

struct Params {
    kv_heads: u32,
    // E, and E in vec4s
    head: u32,
    head4: u32,
    // where the page tables of cold and of hot blocks begin
    pages: u32,
    hot_pages: u32,
    // the word where cold blocks begin
    cold: u32,
    // workgroups for each block
    groups_each: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read_write> k_cache: array<u32>;
@group(0) @binding(3) var<storage, read_write> v_cache: array<u32>;

// Greater than any f16.
const ABOVE: vec4<f32> = vec4<f32>(1e5);

// How four ranges of values become codes.
struct Scale {
    // f16 bits
    bits: vec4<u32>,
    inverse: vec4<f32>,
    minimum: vec4<f32>,
}

fn scale_of(low: vec4<f32>, high: vec4<f32>) -> Scale {
    var width = high - low;
    var steps = 0.06666667; // 1 / 15
    var minimum = low;
    if BITS == 8u {
        width = max(abs(low), abs(high));
        steps = 0.007874016; // 1 / 127
        minimum = vec4<f32>(0.0);
    }
    let bits = f16_magnitude4(bitcast<vec4<u32>>(width * steps));
    let scale = bitcast<vec4<f32>>(f16_value4(bits));
    let is_some = scale > vec4<f32>(0.0);
    return Scale(bits, select(vec4<f32>(0.0), 1.0 / select(vec4<f32>(1.0), scale, is_some), is_some), minimum);
}

// Four codes, in the low 16 bits or in all.
fn encoded(v: vec4<f32>, scale: Scale) -> u32 {
    let code = floor((v - scale.minimum) * scale.inverse + 0.5);
    if BITS == 4u {
        let c = vec4<u32>(clamp(code, vec4<f32>(0.0), vec4<f32>(15.0)));
        return c.x | (c.y << 4u) | (c.z << 8u) | (c.w << 12u);
    }
    let c = vec4<u32>(vec4<i32>(clamp(code, vec4<f32>(-127.0), vec4<f32>(127.0)))) & vec4<u32>(255u);
    return c.x | (c.y << 8u) | (c.z << 16u) | (c.w << 24u);
}

// Two of 16 bits each.
fn halves(low: u32, high: u32) -> u32 {
    return low | (high << 16u);
}

// The word of a hot page where vec4 i4 of a position begins.
fn hot_at(page: u32, position: u32, i4: u32) -> u32 {
    let padded = padded4(params.head4);
    return (((page * BLOCK + position) * params.kv_heads + i4 / padded) * params.head4 + i4 % padded) * 2u;
}

// Whether a vec4 is stored in hot pages: the last of a head may be padding.
fn is_hot(i4: u32) -> bool {
    return i4 % padded4(params.head4) < params.head4;
}

fn hot_key4(page: u32, position: u32, i4: u32) -> vec4<f32> {
    if !is_hot(i4) {
        return vec4<f32>(0.0);
    }
    let at = hot_at(page, position, i4);
    return vec4<f32>(unpack2x16float(k_cache[at]), unpack2x16float(k_cache[at + 1u]));
}

fn hot_value4(page: u32, position: u32, i4: u32) -> vec4<f32> {
    if !is_hot(i4) {
        return vec4<f32>(0.0);
    }
    let at = hot_at(page, position, i4);
    return vec4<f32>(unpack2x16float(v_cache[at]), unpack2x16float(v_cache[at + 1u]));
}

// Elements 4 i4 to 4 i4 + 7 of every position.
fn quantize_keys(hot: u32, to: u32, row4: u32, i4: u32) {
    var low = array<vec4<f32>, 2>(ABOVE, ABOVE);
    var high = array<vec4<f32>, 2>(-ABOVE, -ABOVE);
    for (var position = 0u; position < BLOCK; position++) {
        for (var i = 0u; i < 2u; i++) {
            let v = hot_key4(hot, position, i4 + i);
            low[i] = min(low[i], v);
            high[i] = max(high[i], v);
        }
    }
    let scales = array<Scale, 2>(scale_of(low[0], high[0]), scale_of(low[1], high[1]));
    let scales_to = to + scales_at(row4, BITS) + i4 * 2u;
    for (var i = 0u; i < 2u; i++) {
        let bits = scales[i].bits;
        k_cache[scales_to + i * 2u] = halves(bits.x, bits.y);
        k_cache[scales_to + i * 2u + 1u] = halves(bits.z, bits.w);
        if BITS == 4u {
            let minima_to = scales_to + scale_words(row4) + i * 2u;
            k_cache[minima_to] = pack2x16float(low[i].xy);
            k_cache[minima_to + 1u] = pack2x16float(low[i].zw);
        }
    }
    for (var position = 0u; position < BLOCK; position++) {
        let a = encoded(hot_key4(hot, position, i4), scales[0]);
        let b = encoded(hot_key4(hot, position, i4 + 1u), scales[1]);
        let codes_to = to + key_codes_at(i4, position, BITS);
        if BITS == 4u {
            k_cache[codes_to] = halves(a, b);
        } else {
            k_cache[codes_to] = a;
            k_cache[codes_to + BLOCK] = b;
        }
    }
}

fn least(v: vec4<f32>) -> f32 {
    return min(min(v.x, v.y), min(v.z, v.w));
}

// vec4s first to end of one position; returns their scale, with the minimum of 4 bits in the high half. What pads heads does
// not count.
fn quantize_value(hot: u32, to: u32, row4: u32, first: u32, end: u32, position: u32) -> vec2<u32> {
    var low = ABOVE;
    var high = -ABOVE;
    for (var i4 = first; i4 < end; i4++) {
        let v = hot_value4(hot, position, i4);
        let element = vec4<u32>(i4 % padded4(params.head4) * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let is_real = element < vec4<u32>(params.head);
        low = min(low, select(ABOVE, v, is_real));
        high = max(high, select(-ABOVE, v, is_real));
    }
    let scale = scale_of(vec4<f32>(least(low)), vec4<f32>(-least(-high)));
    for (var i4 = first; i4 < end; i4 += 2u) {
        let a = encoded(hot_value4(hot, position, i4), scale);
        let b = encoded(hot_value4(hot, position, i4 + 1u), scale);
        let codes_to = to + value_codes_at(row4, i4, position, BITS);
        if BITS == 4u {
            v_cache[codes_to] = halves(a, b);
        } else {
            v_cache[codes_to] = a;
            v_cache[codes_to + 1u] = b;
        }
    }
    return vec2<u32>(scale.bits.x, pack2x16float(vec2<f32>(scale.minimum.x, 0.0)));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    // the slots' blocks that this step completes follow each other
    var block = flat / params.groups_each;
    var s = 0u;
    for (; s < step.slots; s++) {
        let slot = step.slot[s];
        let cached = slot.position - slot.dropped;
        let before = cached / BLOCK;
        let complete = select((cached + slot.rows) / BLOCK - before, 0u, slot.done != 0u);
        if block < complete {
            block += before;
            break;
        }
        block -= complete;
    }
    if s >= step.slots {
        return;
    }
    let row4 = params.kv_heads * padded4(params.head4);
    let table = s * step.pages_each + block;
    let hot = step.pages[params.hot_pages + table];
    let to = params.cold + step.pages[params.pages + table] * block_words(row4, BITS);

    let item = flat % params.groups_each * 64u + lane;
    if item < row4 / 2u {
        quantize_keys(hot, to, row4, item * 2u);
        return;
    }
    let pair = item - row4 / 2u;
    let first = pair / (BLOCK / 2u) * GROUP4;
    if first >= row4 {
        return;
    }
    let end = min(first + GROUP4, row4);
    let position = pair % (BLOCK / 2u) * 2u;
    let a = quantize_value(hot, to, row4, first, end, position);
    let b = quantize_value(hot, to, row4, first, end, position + 1u);
    let scale_to = to + scales_at(row4, BITS) + value_scale_at(first, position);
    v_cache[scale_to] = halves(a.x, b.x);
    if BITS == 4u {
        v_cache[scale_to + scale_words(row4)] = halves(a.y & 0xffffu, b.y & 0xffffu);
    }
}
