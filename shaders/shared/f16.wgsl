// f16 <-> f32 by integer arithmetic: the same bits on every driver, where `pack2x16float` may round either way.

// Nearest f16, ties to even; subnormals kept; beyond the range infinity.
fn f16_bits(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude >= 0x47800000u { // 65536 and above
        return sign | 0x7c00u;
    }
    if magnitude >= 0x38800000u { // normal: drop 13 bits; a carry into the exponent is right
        let rounded = magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13u) & 1u);
        return sign | (rounded >> 13u);
    }
    if magnitude < 0x33000000u { // below half of the smallest subnormal
        return sign;
    }
    let shift = 126u - (magnitude >> 23u); // 14 .. 24
    let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    let kept = mantissa >> shift;
    let rest = mantissa & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = rest > half || (rest == half && (kept & 1u) == 1u);
    return sign | (kept + select(0u, 1u, up));
}

// Exact.
fn f16_value(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let exponent = (bits >> 10u) & 0x1fu;
    let mantissa = bits & 0x3ffu;
    if exponent == 0u {
        let v = f32(mantissa) * 5.9604645e-8; // 2^-24
        return select(v, -v, sign != 0u);
    }
    return bitcast<f32>(sign | ((exponent + 112u) << 23u) | (mantissa << 13u));
}

// As `f16_bits`, of four magnitudes below 65520 (beyond, no number), given as bits, without a branch: adapters that are CPUs run
// both sides of one. Subnormals are rounded by an addition, whose last place is 2^-24 there; where an adapter does not round that to
// the nearest even, their last bit differs.
fn f16_magnitude4(bits: vec4<u32>) -> vec4<u32> {
    let odd = (bits >> vec4<u32>(13u)) & vec4<u32>(1u);
    let normal = (bits - vec4<u32>(0x38000000u - 0x0fffu) + odd) >> vec4<u32>(13u);
    return select(normal, f16_subnormal4(bits), bits < vec4<u32>(0x38800000u));
}

fn f16_subnormal4(bits: vec4<u32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(bitcast<vec4<f32>>(bits) + vec4<f32>(0.5)) - vec4<u32>(0x3f000000u);
}

// As `f16_value`, of four, as bits.
fn f16_value4(bits: vec4<u32>) -> vec4<u32> {
    let sign = (bits & vec4<u32>(0x8000u)) << vec4<u32>(16u);
    let magnitude = bits & vec4<u32>(0x7fffu);
    let small = bitcast<vec4<u32>>(vec4<f32>(magnitude) * 5.9604645e-8); // 2^-24
    let large = (magnitude << vec4<u32>(13u)) + vec4<u32>(0x38000000u);
    return sign | select(large, small, magnitude < vec4<u32>(0x400u));
}
