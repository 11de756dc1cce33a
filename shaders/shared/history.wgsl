// What is known of each token, `tokens[V]`: flags that the host sets, and how often the sampler chose it.
const SEEN: u32 = 0x80000000u; // it stands in the prompt
const FORBIDDEN: u32 = 0x40000000u; // never chosen
const ENDS: u32 = 0x20000000u; // it ends a sequence
const TIMES: u32 = 0x1fffffffu; // how often it was generated

// A logit that takes no part: minus infinity. Written as an integer, since WGSL has no literal for it.
const EXCLUDED: u32 = 0xff800000u;

// Whether the f32 of these bits is neither infinite nor NaN.
fn is_finite(bits: u32) -> bool {
    return (bits & 0x7f800000u) != 0x7f800000u;
}
