// Blocks of 32 weights to few bits; the twin is `src/quant/encode.rs`, which tells why every adapter comes to the same bits: from `Whole`
// on, numbers are whole and small enough to be exact in f32, in whatever order and with whatever fused.
//
// No loops, and no arrays that a variable indexes: those are memory on adapters that are CPUs.
import package::shared::dequantize::{F16_ZERO, INT8, NF4};
import package::shared::f16::f16_bits;

// 32 elements: of each 8 those at even places (a, c, e, g), and those at odd ones (b, d, f, h).
struct Block {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

struct Encoded {
    // codes of 4 bits; of 8 bits those of the first 16
    low: vec4<u32>,
    high: vec4<u32>,
    // as f16
    scale: u32,
    zero: u32,
    // bits of the largest magnitude
    most: u32,
}

// A block as whole numbers of 12 bits and a sign.
struct Whole {
    x: Block,
    // the least and the greatest of them and 0
    low: f32,
    high: f32,
    // the larger of their magnitudes: 2048 to 4096, where the block is not zero
    most: u32,
    // bits of the largest magnitude in the block, and whether it is a negative value's (of equals it is)
    extreme: u32,
    negative: bool,
}

// The biased exponent of 2^-24, the least number in f16: a block below it is zero.
const LEAST: u32 = 103u;

fn most4(v: vec4<u32>) -> u32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// Bits order magnitudes: as signed numbers those of positive values, as unsigned ones those of negative values. A NaN is the largest.
fn whole(v: Block) -> Whole {
    let ab = max(bitcast<vec4<i32>>(v.a), bitcast<vec4<i32>>(v.b));
    let cd = max(bitcast<vec4<i32>>(v.c), bitcast<vec4<i32>>(v.d));
    let ef = max(bitcast<vec4<i32>>(v.e), bitcast<vec4<i32>>(v.f));
    let gh = max(bitcast<vec4<i32>>(v.g), bitcast<vec4<i32>>(v.h));
    let positive = bitcast<vec4<u32>>(max(max(max(ab, cd), max(ef, gh)), vec4<i32>(0)));
    let uab = max(bitcast<vec4<u32>>(v.a), bitcast<vec4<u32>>(v.b));
    let ucd = max(bitcast<vec4<u32>>(v.c), bitcast<vec4<u32>>(v.d));
    let uef = max(bitcast<vec4<u32>>(v.e), bitcast<vec4<u32>>(v.f));
    let ugh = max(bitcast<vec4<u32>>(v.g), bitcast<vec4<u32>>(v.h));
    let above = most4(positive);
    let below = max(most4(max(max(uab, ucd), max(uef, ugh))), 0x80000000u) & 0x7fffffffu;
    let extreme = max(above, below);
    let exponent = extreme >> 23u;
    let factor = bitcast<f32>(select((265u - exponent) << 23u, 0u, exponent < LEAST));
    let low = floor(-bitcast<f32>(below) * factor + 0.5);
    let high = floor(bitcast<f32>(above) * factor + 0.5);
    let most = max(u32(max(high, -low)), 2048u);
    return Whole(floors(v, factor, 0.5), low, high, most, extreme, below >= above);
}

fn floors(v: Block, factor: f32, add: f32) -> Block {
    return Block(
        floor(v.a * factor + add), floor(v.b * factor + add), floor(v.c * factor + add), floor(v.d * factor + add),
        floor(v.e * factor + add), floor(v.f * factor + add), floor(v.g * factor + add), floor(v.h * factor + add),
    );
}

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn sum(v: Block) -> f32 {
    return sum4(((v.a + v.b) + (v.c + v.d)) + ((v.e + v.f) + (v.g + v.h)));
}

fn dot(u: Block, v: Block) -> f32 {
    return sum4(((u.a * v.a + u.b * v.b) + (u.c * v.c + u.d * v.d)) + ((u.e * v.e + u.f * v.f) + (u.g * v.g + u.h * v.h)));
}

// As f16 a number, in units of 2^-bits of a whole number.
fn scale_bits(w: Whole, number: f32, bits: u32) -> u32 {
    let exponent = w.extreme >> 23u;
    return select(f16_bits(number * bitcast<f32>((exponent - 11u - bits) << 23u)), 0u, exponent < LEAST);
}

// Two numbers below 2^16.
fn halves(v: vec2<f32>) -> u32 {
    let bits = bitcast<vec2<u32>>(v + 8388608.0);
    return (bits.x & 0xffffu) | (bits.y << 16u);
}

// Eight codes of 4 bits, put together as numbers: cheaper than shifts on adapters that are CPUs. `add` is added to each code.
fn word(even: vec4<f32>, odd: vec4<f32>, add: f32) -> u32 {
    let pairs = odd * 16.0 + even + add * 17.0;
    return halves(pairs.yw * 256.0 + pairs.xz);
}

fn words(q: Block, add: f32) -> vec4<u32> {
    return vec4<u32>(word(q.a, q.b, add), word(q.c, q.d, add), word(q.e, q.f, add), word(q.g, q.h, add));
}

// Eight codes of 8 bits with a sign.
fn bytes8(even: vec4<f32>, odd: vec4<f32>) -> vec2<u32> {
    let pairs = odd * 256.0 + even + 32896.0; // 128 to each
    return vec2<u32>(halves(pairs.xy), halves(pairs.zw)) ^ vec2<u32>(0x80808080u);
}

// Of the steps tried none takes anything below -8 (-8.25 is rounded to -8), and the larger nothing above 7.
fn at_most_7(q: Block) -> Block {
    let high = vec4<f32>(7.0);
    return Block(
        min(q.a, high), min(q.b, high), min(q.c, high), min(q.d, high),
        min(q.e, high), min(q.f, high), min(q.g, high), min(q.h, high),
    );
}

// A step that was tried, by its inverse.
struct Fit {
    score: f32,
    step: f32,
    inverse: f32,
}

fn better(a: Fit, b: Fit) -> Fit {
    let is_b = b.score > a.score;
    return Fit(select(a.score, b.score, is_b), select(a.step, b.step, is_b), select(a.inverse, b.inverse, is_b));
}

fn inverse_q4(w: Whole, sign: f32, eighths: u32) -> f32 {
    return sign * f32(((0x10000000u / w.most) * eighths) >> 11u) * 9.5367431640625e-7; // 2^-20
}

fn fit_q4(w: Whole, q: Block, inverse: f32) -> Fit {
    let a = abs(dot(q, w.x));
    let step = f32((u32(a) << 11u) / max(u32(dot(q, q)), 1u));
    return Fit(a * step, step, inverse);
}

fn q4(w: Whole) -> Encoded {
    let sign = select(-1.0, 1.0, w.negative);
    let i66 = inverse_q4(w, sign, 66u);
    let i58 = inverse_q4(w, sign, 58u);
    let a = fit_q4(w, at_most_7(floors(w.x, i66, 0.5)), i66);
    let b = fit_q4(w, floors(w.x, i58, 0.5), i58);
    let fit = better(a, b);
    let codes = words(at_most_7(floors(w.x, fit.inverse, 0.5)), 8.0);
    return Encoded(codes, vec4<u32>(0u), scale_bits(w, sign * fit.step, 11u), 0u, w.extreme);
}

// A way of rounding that was tried.
struct Regression {
    score: f32,
    step: u32,
    codes: i32,
    add: f32,
}

fn fit_q4a(u: Block, width: u32, sx: i32, inverse: f32, add: f32) -> Regression {
    let q = floors(u, inverse, add);
    let sq = i32(sum(q));
    let a = 32 * i32(dot(u, q)) - sx * sq;
    let n = 32 * i32(dot(q, q)) - sq * sq;
    let ua = u32(a);
    let un = select(1u, u32(n), n > 0);
    let fitted = ((ua / un) << 13u) + ((ua % un) << 13u) / un;
    // values that are nearly the same, far from zero, fit a step so small that f16 loses them: best are then codes that are the same
    let is_fit = a > 0 && n > 0 && fitted >= (width << 7u);
    let step = select((width << 13u) / 15u, fitted, is_fit);
    return Regression(select(select(-0.5, 0.0, n == 0), f32(ua >> 4u) * f32(fitted), is_fit), step, sq, add);
}

fn q4a(w: Whole) -> Encoded {
    let width = max(u32(w.high - w.low), 2048u);
    let inverse = f32((244u << 16u) / width) * 9.5367431640625e-7; // 2^-20
    let u = Block(w.x.a - w.low, w.x.b - w.low, w.x.c - w.low, w.x.d - w.low, w.x.e - w.low, w.x.f - w.low, w.x.g - w.low, w.x.h - w.low);
    let sx = i32(sum(u));
    let a = fit_q4a(u, width, sx, inverse, 0.5625);
    let b = fit_q4a(u, width, sx, inverse, 0.1875);
    let is_b = b.score > a.score;
    let step = select(a.step, b.step, is_b);
    // what zero is: (sum of codes - sum of values / step) / 32, in units of 2^-11
    let total = sx + 32 * i32(w.low);
    let t = u32(abs(total)) << 13u;
    let steps = i32(((t / step) << 8u) + ((t % step) << 8u) / step);
    let zero = (select(a.codes, b.codes, is_b) * 256 - select(steps, -steps, total < 0)) >> 2u;
    let codes = words(floors(u, inverse, select(a.add, b.add, is_b)), 0.0);
    return Encoded(codes, vec4<u32>(0u), scale_bits(w, f32(step), 13u), f16_bits(f32(zero) * 0.00048828125), w.extreme);
}

// Of NF4's codes 512 each, and their values (in units of 2^-7, from 0 on): what lies above a border adds its share of both.
fn nf4_codes4(y: vec4<f32>) -> vec4<f32> {
    let none = vec4<f32>(0.0);
    let low = select(none, vec4<f32>(551.0), y > vec4<f32>(-7114348.0)) + select(none, vec4<f32>(534.0), y > vec4<f32>(-5122360.0))
        + select(none, vec4<f32>(528.0), y > vec4<f32>(-3858720.0)) + select(none, vec4<f32>(527.0), y > vec4<f32>(-2849438.0))
        + select(none, vec4<f32>(524.0), y > vec4<f32>(-1968030.0)) + select(none, vec4<f32>(524.0), y > vec4<f32>(-1156888.0))
        + select(none, vec4<f32>(524.0), y > vec4<f32>(-381892.0));
    let high = select(none, vec4<f32>(522.0), y > vec4<f32>(333784.0)) + select(none, vec4<f32>(523.0), y > vec4<f32>(1008774.0))
        + select(none, vec4<f32>(523.0), y > vec4<f32>(1707260.0)) + select(none, vec4<f32>(523.0), y > vec4<f32>(2449589.0))
        + select(none, vec4<f32>(525.0), y > vec4<f32>(3265790.0)) + select(none, vec4<f32>(528.0), y > vec4<f32>(4208258.0))
        + select(none, vec4<f32>(533.0), y > vec4<f32>(5392088.0)) + select(none, vec4<f32>(547.0), y > vec4<f32>(7226605.0));
    return low + high;
}

struct Quantiles {
    // 512 for each code, and its value
    both: Block,
    score: f32,
    // with its sign
    step: f32,
}

fn fit_nf4(w: Whole, sign: f32, thirtyseconds: u32) -> Quantiles {
    let inverse = sign * f32(((0x10000000u / w.most) * thirtyseconds) >> 10u);
    let both = Block(
        nf4_codes4(w.x.a * inverse), nf4_codes4(w.x.b * inverse), nf4_codes4(w.x.c * inverse), nf4_codes4(w.x.d * inverse),
        nf4_codes4(w.x.e * inverse), nf4_codes4(w.x.f * inverse), nf4_codes4(w.x.g * inverse), nf4_codes4(w.x.h * inverse),
    );
    let codes = floors(both, 0.001953125, 0.0);
    let values = Block(
        both.a - codes.a * 512.0 - 128.0, both.b - codes.b * 512.0 - 128.0, both.c - codes.c * 512.0 - 128.0,
        both.d - codes.d * 512.0 - 128.0, both.e - codes.e * 512.0 - 128.0, both.f - codes.f * 512.0 - 128.0,
        both.g - codes.g * 512.0 - 128.0, both.h - codes.h * 512.0 - 128.0,
    );
    let a = max(sign * dot(values, w.x), 0.0);
    let n = max(u32(dot(values, values)), 1u);
    let first = (u32(a) % n) << 12u;
    let second = (first % n) << 5u;
    let step = f32(((((u32(a) / n) << 12u) + first / n) << 5u) + second / n);
    return Quantiles(both, a * step, sign * step);
}

fn nf4(w: Whole) -> Encoded {
    let sign = select(1.0, -1.0, w.negative);
    let a = fit_nf4(w, sign, 32u);
    let b = fit_nf4(w, -sign, 34u);
    let is_b = b.score > a.score;
    let both = Block(
        select(a.both.a, b.both.a, is_b), select(a.both.b, b.both.b, is_b), select(a.both.c, b.both.c, is_b), select(a.both.d, b.both.d, is_b),
        select(a.both.e, b.both.e, is_b), select(a.both.f, b.both.f, is_b), select(a.both.g, b.both.g, is_b), select(a.both.h, b.both.h, is_b),
    );
    let codes = words(floors(both, 0.001953125, 0.0), 0.0);
    return Encoded(codes, vec4<u32>(0u), scale_bits(w, select(a.step, b.step, is_b), 10u), 0u, w.extreme);
}

fn q8(w: Whole) -> Encoded {
    let q = floors(w.x, f32((127u << 17u) / w.most) * 7.62939453125e-6, 0.5); // 2^-17
    let scale = select(f16_bits(bitcast<f32>(w.extreme) * 0.007874016), 0u, (w.extreme >> 23u) < LEAST); // 1 / 127
    let low = vec4<u32>(bytes8(q.a, q.b), bytes8(q.c, q.d));
    let high = vec4<u32>(bytes8(q.e, q.f), bytes8(q.g, q.h));
    return Encoded(low, high, scale, 0u, w.extreme);
}

// By what `codes` and `scales` (numbers of `dequantize.wgsl`) say.
fn encode_block(v: Block, codes: u32, scales: u32) -> Encoded {
    let w = whole(v);
    if codes == INT8 {
        return q8(w);
    }
    if codes == NF4 {
        return nf4(w);
    }
    if scales == F16_ZERO {
        return q4a(w);
    }
    return q4(w);
}
