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
