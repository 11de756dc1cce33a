// What changes from one step to the next. Lives on the GPU; the sampling kernel advances it, so that several steps fit one submit.
struct Step {
    // tokens in the cache before this step: the position of row 0
    position: u32,
    // T, the rows of this step that are real; a recorded program may have more
    rows: u32,
    // 1 once an end-of-sequence token was sampled: later steps change nothing
    done: u32,
    // tokens sampled since the generation began; the next one goes to ring[sampled % ring length]
    sampled: u32,
    // physical block of each block of 32 cache positions
    pages: array<u32>,
}

// Positions in one cache block.
const BLOCK: u32 = 32u;
