// One sequence's place in a step.
struct Slot {
    // tokens before this step: the position of its first row
    position: u32,
    // T, its rows of this step
    rows: u32,
    // above 0 once nothing more is to come (see `sample`): later steps change nothing
    done: u32,
    // tokens sampled since the generation began
    sampled: u32,
    // its first row among those of the step
    first: u32,
    // leading tokens whose keys the cache has dropped: those of position p are at p - dropped
    dropped: u32,
    // tokens that are sampled at most: none, where this is a chunk of a prompt that is not its last
    limit: u32,
    // steps that sampled since the host began to count; what this one samples goes to ring[turn % ring length]
    turn: u32,
    // of its rows the last ones, which are drafts: tokens that were guessed to follow (speculative decoding)
    drafts: u32,
}

// What changes from one step to the next. Lives on the GPU; the sampling kernel advances it, so that several steps fit one submit.
struct Step {
    // the rows of this step that are real, of all slots; a recorded program may have more
    rows: u32,
    // B, the slots in use
    slots: u32,
    // blocks that a slot's page table has room for
    pages_each: u32,
    // the slot whose prompt ends with this step, where keys are selected then (see `observe`)
    observed: u32,
    slot: array<Slot, 64>,
    // page tables, each of one u32 for every slot and block: the physical block of each block of 32 cache positions
    pages: array<u32>,
}

// One row of a step.
struct Row {
    id: u32,
    slot: u32,
}

// `done` of a slot: an end-of-sequence token, or the limit; no number to choose; from OVERFLOW on, the site that has made what its type
// does not hold: nothing that the step made is to be used
const STOPPED: u32 = 1u;
const NOT_A_NUMBER: u32 = 2u;
const OVERFLOW: u32 = 3u;

// How many of a slot's drafts come before the token after a row: 0 after its last token. More than it has, where nothing is to follow.
fn drafts_before(slot: Slot, row: u32) -> u32 {
    return select(row - (slot.first + slot.rows - 1u - slot.drafts), 0xffffffffu, slot.done != 0u);
}

// Positions in one cache block.
const BLOCK: u32 = 32u;
