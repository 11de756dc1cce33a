// Sixteen codes of 2 bits, less one each, as bytes: elements 4 j to 4 j + 3, the byte j of the word, become word j.
fn ternary16(word: u32) -> vec4<u32> {
    let four = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
    let pairs = (four | (four << vec4<u32>(12u))) & vec4<u32>(0x000f000fu);
    let bytes = (pairs | (pairs << vec4<u32>(6u))) & vec4<u32>(0x03030303u);
    // bit 7 keeps what is taken away from reaching into the next byte
    return ((bytes | vec4<u32>(0x80808080u)) - vec4<u32>(0x01010101u)) ^ vec4<u32>(0x80808080u);
}

// The sum of the products of sixteen 8-bit integers with a sign, four to a word: exact.
@if(dp_on)
fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

// Where the language has no such product. Partial sums are below 2^24, and exact as numbers.
@if(dp_off)
fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return i32(products(a.x, b.x) + products(a.y, b.y) + products(a.z, b.z) + products(a.w, b.w));
}

@if(dp_off)
fn products(a: u32, b: u32) -> f32 {
    return dot(bytes4(a), bytes4(b));
}

@if(dp_off)
fn bytes4(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
