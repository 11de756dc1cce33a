// The positions of a prompt's keys that are kept (SnapKV: Li et al. 2024): for each key head those before the last 32 whose sums of
// weights (see observe), averaged over 5 neighbours, are the greatest; of equal ones the first.
// sums, pooled: [K, stride]; chosen: [K, kept - 32], ascending, from word `first` on. The last 32 are kept in any case, and not told.
//
// A workgroup takes a key head, each lane as many neighbouring keys as any other.
import package::shared::step::Step;
import package::shared::observed::OBSERVED;

const LANES: u32 = 256u;
// Neighbours on either side that a key is averaged with.
const BESIDE: u32 = 2u;

struct Params {
    stride: u32,
    // positions that are kept, the last ones included
    kept: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read_write> pooled: array<f32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;

// Of each bit of the least value that is kept: how many values have at least what it would be with that bit.
var<workgroup> reach: array<atomic<u32>, 32>;
// Of each lane: values above it, and equal to it.
var<workgroup> above: array<u32, LANES>;
var<workgroup> equal: array<u32, LANES>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = step.slot[step.observed];
    let keys = slot.position + slot.rows - OBSERVED;
    let wanted = params.kept - OBSERVED;
    let row = group.x * params.stride;
    let each = (keys + LANES - 1u) / LANES;
    let begin = min(lane * each, keys);
    let end = min(begin + each, keys);
    if lane < 32u {
        atomicStore(&reach[lane], 0u);
    }
    // what is beyond the ends counts as 0, so that sums order as averages do
    for (var key = begin; key < end; key++) {
        var sum = 0.0;
        for (var i = key - min(key, BESIDE); i < min(key + BESIDE + 1u, keys); i++) {
            sum += sums[row + i];
        }
        pooled[row + key] = sum;
    }
    workgroupBarrier();
    // the greatest value that as many reach as are wanted, bit by bit: bits of floats that are not negative order as they do
    var least = 0u;
    for (var i = 0u; i < 31u; i++) {
        let candidate = least | (1u << (30u - i));
        var count = 0u;
        for (var key = begin; key < end; key++) {
            count += u32(bitcast<u32>(pooled[row + key]) >= candidate);
        }
        atomicAdd(&reach[i], count);
        workgroupBarrier();
        least = select(least, candidate, atomicLoad(&reach[i]) >= wanted);
    }
    var more = 0u;
    var same = 0u;
    for (var key = begin; key < end; key++) {
        let value = bitcast<u32>(pooled[row + key]);
        more += u32(value > least);
        same += u32(value == least);
    }
    above[lane] = more;
    equal[lane] = same;
    workgroupBarrier();
    var all = 0u;
    var before = 0u;
    var ties = 0u;
    for (var i = 0u; i < LANES; i++) {
        all += above[i];
        if i < lane {
            before += above[i];
            ties += equal[i];
        }
    }
    let tied = wanted - min(all, wanted);
    var to = params.first + group.x * wanted + before + min(ties, tied);
    for (var key = begin; key < end; key++) {
        let value = bitcast<u32>(pooled[row + key]);
        if value > least || (value == least && ties < tied) {
            chosen[to] = key;
            to++;
        }
        ties += u32(value == least);
    }
}
