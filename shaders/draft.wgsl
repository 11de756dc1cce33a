// Sets the step of a model that drafts (an assistant: Leviathan, Kalman & Matias 2023) by that of the one that verifies: of each slot the
// tokens that it has not computed yet, the last one among them, after which it samples up to num_assistant_tokens by itself. What it
// computed of drafts that were not accepted is written over.
//
// After `verify` or `sample`, by which slots have one row each. One invocation for each slot.
import package::shared::sampling::Sampling;
import package::shared::step::{Row, Step};

struct Params {
    // 1 + D: places for rows of each slot
    each: u32,
    // places for tokens in each slot's history
    positions: u32,
    // positions of a slot that the assistant has room for
    room: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> samplings: array<Sampling>;
@group(0) @binding(2) var<storage, read> step: Step;
// the tokens so far, [B, positions]: position + 1 of each slot's
@group(0) @binding(3) var<storage, read> history: array<u32>;
// of each slot: how many of its first tokens the assistant has computed, drafts that were not accepted included
@group(0) @binding(4) var<storage, read> computed: array<u32>;
// the assistant's
@group(0) @binding(5) var<storage, read_write> assistant: Step;
@group(0) @binding(6) var<storage, read_write> assistant_rows: array<Row>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) slot: u32) {
    if slot >= step.slots {
        return;
    }
    let state = step.slot[slot];
    let most = min(samplings[slot].num_assistant_tokens, params.each - 1u);
    let end = state.position + 1u;
    // one more comes of the step that verifies
    var drafts = min(most, state.limit - min(state.sampled + 1u, state.limit));
    drafts = min(drafts, params.room - min(end, params.room));
    let is_on = drafts > 0u && state.done == 0u && state.rows == 1u && state.sampled > 0u && end <= params.positions;
    // up to here it has computed tokens that stayed
    let begin = min(computed[slot], state.position);
    // where steps went by without it, it catches up first
    let rows = min(end - begin, params.each);
    let first = slot * params.each;
    for (var i = 0u; i < rows; i++) {
        if is_on {
            assistant_rows[first + i] = Row(history[slot * params.positions + begin + i], slot);
        }
    }
    assistant.slot[slot].position = begin;
    assistant.slot[slot].rows = select(0u, rows, is_on);
    assistant.slot[slot].done = select(1u, 0u, is_on);
    assistant.slot[slot].sampled = 0u;
    assistant.slot[slot].first = first;
    assistant.slot[slot].dropped = 0u;
    assistant.slot[slot].limit = select(1u, drafts, begin + rows == end);
    assistant.slot[slot].turn = 0u;
    assistant.slot[slot].drafts = 0u;
    if slot + 1u == step.slots {
        assistant.rows = first + select(1u, rows, is_on);
        assistant.slots = step.slots;
    }
}
