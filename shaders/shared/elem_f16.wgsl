// Four consecutive elements of a row, stored as f16. Needs no `shader-f16`: packing is part of core WGSL.
alias Elem4 = vec2<u32>;

const F16_MAX: f32 = 65504.0;

fn unpack4(v: Elem4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

// What f16 holds of it. Saturates: an overflow to infinity would be silent, and would spread.
// Rounds to nearest, ties to even: WGSL lets conversions, and `pack2x16float`, round either way.
fn rounded4(v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(clamp(v, vec4<f32>(-F16_MAX), vec4<f32>(F16_MAX)));
    let even = (bits >> vec4<u32>(13u)) & vec4<u32>(1u);
    return bitcast<vec4<f32>>((bits + 0xfffu + even) & vec4<u32>(0xffffe000u));
}

fn pack4(v: vec4<f32>) -> Elem4 {
    let c = rounded4(v);
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}
