// Keys and values of one layer as kernels read them that bind keys at 3 and values at 4: [blocks, 32, K, E], or where c_blocks hot
// blocks in f16, then cold ones, see shared/cache.
@if(c_f32) import package::shared::elem_f32::{Elem4 as C4, unpack4 as unpack_c};
@if(c_f16) import package::shared::elem_f16::{Elem4 as C4, unpack4 as unpack_c};
@if(c_blocks) import package::shared::cache::{padded4, scales_at, scale_words, block_words, key_codes_at, value_codes_at, value_scale_at, codes4};
import package::shared::step::BLOCK;

@if(c_blocks) alias C4 = u32;

@group(0) @binding(3) var<storage, read> k_cache: array<C4>;
@group(0) @binding(4) var<storage, read> v_cache: array<C4>;

struct Cached {
    kv_heads: u32,
    // E in vec4s
    head4: u32,
    // of a code: 4 or 8
    bits: u32,
    // the word where cold blocks begin
    cold: u32,
}

// A block of the cache, as rows see it.
struct Tile {
    // where it begins
    at: u32,
    hot: bool,
}

@if(!c_blocks)
fn tile_of(cached: Cached, page: u32, hot: bool) -> Tile {
    return Tile(page * BLOCK * cached.kv_heads * cached.head4, hot);
}

@if(!c_blocks)
fn key4(cached: Cached, tile: Tile, kv_head: u32, key: u32, e: u32) -> vec4<f32> {
    return unpack_c(k_cache[tile.at + (key * cached.kv_heads + kv_head) * cached.head4 + e]);
}

@if(!c_blocks)
fn value4(cached: Cached, tile: Tile, kv_head: u32, key: u32, e: u32) -> vec4<f32> {
    return unpack_c(v_cache[tile.at + (key * cached.kv_heads + kv_head) * cached.head4 + e]);
}

@if(c_blocks)
fn tile_of(cached: Cached, page: u32, hot: bool) -> Tile {
    if hot {
        return Tile(page * BLOCK * cached.kv_heads * cached.head4 * 2u, true);
    }
    return Tile(cached.cold + page * block_words(cached.kv_heads * padded4(cached.head4), cached.bits), false);
}

@if(c_blocks)
fn unpack4(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}

@if(c_blocks)
fn key4(cached: Cached, tile: Tile, kv_head: u32, key: u32, e: u32) -> vec4<f32> {
    if tile.hot {
        let at = tile.at + ((key * cached.kv_heads + kv_head) * cached.head4 + e) * 2u;
        return unpack4(k_cache[at], k_cache[at + 1u]);
    }
    let row4 = cached.kv_heads * padded4(cached.head4);
    let i4 = kv_head * padded4(cached.head4) + e;
    let codes = codes4(k_cache[tile.at + key_codes_at(i4, key, cached.bits)], i4, cached.bits);
    let at = tile.at + scales_at(row4, cached.bits) + i4 * 2u;
    let scaled = codes * unpack4(k_cache[at], k_cache[at + 1u]);
    if cached.bits == 8u {
        return scaled;
    }
    let minimum = at + scale_words(row4);
    return scaled + unpack4(k_cache[minimum], k_cache[minimum + 1u]);
}

@if(c_blocks)
fn value4(cached: Cached, tile: Tile, kv_head: u32, key: u32, e: u32) -> vec4<f32> {
    if tile.hot {
        let at = tile.at + ((key * cached.kv_heads + kv_head) * cached.head4 + e) * 2u;
        return unpack4(v_cache[at], v_cache[at + 1u]);
    }
    let row4 = cached.kv_heads * padded4(cached.head4);
    let i4 = kv_head * padded4(cached.head4) + e;
    let codes = codes4(v_cache[tile.at + value_codes_at(row4, i4, key, cached.bits)], i4, cached.bits);
    let at = tile.at + scales_at(row4, cached.bits) + value_scale_at(i4, key);
    let scaled = codes * unpack2x16float(v_cache[at])[key % 2u];
    if cached.bits == 8u {
        return scaled;
    }
    return scaled + unpack2x16float(v_cache[at + scale_words(row4)])[key % 2u];
}
