// Keys and values of the positions that are kept of a prompt, as rows that rope_append puts into other blocks:
//   y[t, ..] = (k[s, ..], v[s, ..]),  s the one of number i = position of slot 0 + t: chosen[h', i], or P - kept + i for the last 32
// Slot 0 is where they go; the blocks of slot 1, of P tokens, are where they are. Full blocks are read as the cache keeps them (cold).
// caches: see shared/cached; chosen: [K, kept - 32], from word `first` on; y: [T, 2 K E]
@if(c_f32) import package::shared::elem_f32::{Elem4 as Y4, pack4 as pack_y};
@if(!c_f32) import package::shared::elem_f16::{Elem4 as Y4, pack4 as pack_y};
import package::shared::cached::{Cached, tile_of, key4, value4};
import package::shared::step::{Step, BLOCK};
import package::shared::observed::OBSERVED;
import package::shared::group::flat_group;

@if(c_blocks) const QUANTIZED: bool = true;
@if(!c_blocks) const QUANTIZED: bool = false;

// Of a code: 4 or 8.
override BITS: u32 = 4u;

struct Params {
    kv_heads: u32,
    // E, and E in vec4s
    head: u32,
    head4: u32,
    // where the page table begins; of a quantized cache, that of cold blocks and that of hot ones
    pages: u32,
    hot_pages: u32,
    // the word where cold blocks begin
    cold: u32,
    // positions that are kept, the last ones included
    kept: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
// 3 and 4: keys and values, see shared/cached
@group(0) @binding(5) var<storage, read_write> y: array<Y4>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    let e = index % params.head4;
    let h = index / params.head4 % (2u * params.kv_heads);
    let t = index / params.head4 / (2u * params.kv_heads);
    if t >= step.slot[0].rows {
        return;
    }
    let kv_head = h % params.kv_heads;
    let i = step.slot[0].position + t;
    let tokens = step.slot[1].position;
    var position = tokens - params.kept + i;
    if i < params.kept - OBSERVED {
        position = chosen[params.first + kv_head * (params.kept - OBSERVED) + i];
    }
    let hot = QUANTIZED && position / BLOCK >= tokens / BLOCK;
    let page = step.pages[select(params.pages, params.hot_pages, hot) + step.pages_each + position / BLOCK];
    let cached = Cached(params.kv_heads, params.head4, BITS, params.cold);
    let tile = tile_of(cached, page, hot);
    var v: vec4<f32>;
    if h < params.kv_heads {
        v = key4(cached, tile, kv_head, position % BLOCK, e);
    } else {
        v = value4(cached, tile, kv_head, position % BLOCK, e);
    }
    // codes that count from a minimum make no zeros of what pads a head
    let element = vec4<u32>(e * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    y[index] = pack_y(select(vec4<f32>(0.0), v, element < vec4<u32>(params.head)));
}
