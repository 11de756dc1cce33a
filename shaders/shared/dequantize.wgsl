// q4: blocks of 32 weights along the input, one f16 scale each, symmetric: weight = scale * (nibble - 8).
// `quants` holds four words to a block, nibble i of word j being weight 8 j + i; `scales` two blocks to a word,
// each row beginning a new word.
const Q4_BLOCK4: u32 = 8u; // vec4s in a block

// Four weights from the nibbles at bits `shift` .. `shift + 16` of a word.
fn q4_unpack4(word: u32, shift: u32, scale: f32) -> vec4<f32> {
    let n = (vec4<u32>(word) >> (vec4<u32>(0u, 4u, 8u, 12u) + shift)) & vec4<u32>(15u);
    return (vec4<f32>(n) - 8.0) * scale;
}

// The scale of block `block` of a row, from the word that holds it.
fn q4_scale(word: u32, block: u32) -> f32 {
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, (block & 1u) == 1u);
}
