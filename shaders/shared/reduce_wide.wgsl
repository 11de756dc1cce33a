// Reductions over a workgroup of 256 invocations, the result in every one of them. Call in uniform control flow only.
const LANES: u32 = 256u;

var<workgroup> sums: array<f32, LANES>;
var<workgroup> best_value: array<f32, LANES>;
var<workgroup> best_index: array<u32, LANES>;

struct Best {
    value: f32,
    index: u32,
}

// No candidate: what a row of NaNs ends with, since NaN is greater than nothing.
const NONE: u32 = 0xffffffffu;

fn workgroup_sum(v: f32, lane: u32) -> f32 {
    workgroupBarrier();
    sums[lane] = v;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    workgroupBarrier();
    return sums[0];
}

// The better of two candidates: the greater value, among equals the lower index.
fn better(a: Best, b: Best) -> Best {
    let take_b = b.index != NONE && (a.index == NONE || b.value > a.value || (b.value == a.value && b.index < a.index));
    return Best(select(a.value, b.value, take_b), select(a.index, b.index, take_b));
}

fn workgroup_best(own: Best, lane: u32) -> Best {
    workgroupBarrier();
    best_value[lane] = own.value;
    best_index[lane] = own.index;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let of_both = better(
                Best(best_value[lane], best_index[lane]),
                Best(best_value[lane + half], best_index[lane + half]),
            );
            best_value[lane] = of_both.value;
            best_index[lane] = of_both.index;
        }
    }
    workgroupBarrier();
    return Best(best_value[0], best_index[0]);
}
