// The (cos, sin) of the sum of two angles, by the addition theorem.
fn turn_of_sum(low: vec2<f32>, high: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(low.x * high.x - low.y * high.y, low.y * high.x + low.x * high.y);
}

// Element i of a head and its other one are rotated together: `x[i] cos + sign x[other] sin`.
struct Paired {
    pair: u32,
    other: u32,
    sign: f32,
}

// `half`: R / 2, how far they are apart unless they are neighbours.
fn paired(i: u32, half: u32, interleaved: bool) -> Paired {
    let pair = select(i % half, i / 2u, interleaved);
    let is_second = select(i >= half, (i & 1u) == 1u, interleaved);
    let apart = select(half, 1u, interleaved);
    return Paired(pair, select(i + apart, i - apart, is_second), select(-1.0, 1.0, is_second));
}
