// Takes over what an assistant has drafted (see `draft`): the drafts become rows behind each slot's only one, and stand in its history.
//
// One invocation for each slot.
import package::shared::step::{Row, Step};

struct Params {
    vocab: u32,
    // 1 + D: places for rows of each slot
    each: u32,
    // places for tokens in each slot's history
    positions: u32,
    // turns that the assistant's ring holds, and slots in each of them
    ring: u32,
    slots: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> step: Step;
@group(0) @binding(2) var<storage, read_write> rows: array<Row>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
// see `draft`
@group(0) @binding(4) var<storage, read_write> computed: array<u32>;
// the assistant's; its turns are counted from 0
@group(0) @binding(5) var<storage, read> assistant: Step;
@group(0) @binding(6) var<storage, read> assistant_ring: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) slot: u32) {
    if slot >= step.slots {
        return;
    }
    computed[slot] = assistant.slot[slot].position;
    let state = step.slot[slot];
    let end = state.position + 1u;
    let sampled = min(min(assistant.slot[slot].sampled, params.each - 1u), params.ring);
    // what it sampled while it caught up is no draft
    if sampled == 0u || state.done != 0u || state.rows != 1u || assistant.slot[slot].position + 1u != end + sampled {
        return;
    }
    var drafts = 0u;
    for (; drafts < sampled; drafts++) {
        let token = assistant_ring[drafts * params.slots + slot];
        // its vocabulary may be padded further
        if token >= params.vocab {
            break;
        }
        rows[slot * params.each + 1u + drafts] = Row(token, slot);
        if end + drafts < params.positions {
            history[slot * params.positions + end + drafts] = token;
        }
    }
    step.slot[slot].rows = 1u + drafts;
    step.slot[slot].drafts = drafts;
    if slot + 1u == step.slots {
        // of the slots before it, all places
        step.rows = slot * params.each + 1u + drafts;
    }
}
