// Speculative decoding (Leviathan, Kalman & Matias 2023): of each slot's drafts those are accepted that the sampler has drawn itself, up to
// the first that it has not. The draws up to there are the slot's new tokens: since a draw depends on seed, position and logits alone, they
// are those of decoding one by one, whatever was drafted. Advances `step` as `sample` does.
//
// draws: [T], see `sample`. One invocation for each slot.
import package::shared::sampling::Sampling;
import package::shared::step::{Row, Step, STOPPED, NOT_A_NUMBER, OVERFLOW};

struct Params {
    vocab: u32,
    // turns that the ring holds, and slots in each of them
    ring: u32,
    slots: u32,
    // 1 + D: places for ids of each turn and slot, and for rows of each slot in the next step
    each: u32,
    // places for tokens in each slot's history
    positions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> samplings: array<Sampling>;
@group(0) @binding(2) var<storage, read> draws: array<u32>;
@group(0) @binding(3) var<storage, read_write> step: Step;
@group(0) @binding(4) var<storage, read_write> rows: array<Row>;
// what the host reads back: [ring, slots, each]
@group(0) @binding(5) var<storage, read_write> ring: array<u32>;
// what the step's kernels found, see shared/finite
@group(0) @binding(6) var<storage, read> overflow: u32;
// counts [B, V], see shared/history, and the tokens so far, [B, positions]
@group(0) @binding(7) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(8) var<storage, read_write> history: array<u32>;

// In the ring, behind a turn's ids: a draft that was not accepted, then nothing. No token has such an id.
const REJECTED: u32 = 0xfffffffeu;
const NONE: u32 = 0xffffffffu;

fn ends(slot: u32, token: u32) -> bool {
    for (var i = 0u; i < samplings[slot].eos_count; i++) {
        if samplings[slot].eos[i] == token {
            return true;
        }
    }
    return false;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) slot: u32) {
    let slots = step.slots;
    let state = step.slot[slot];
    // drafts beyond what there are places for are not looked at
    let drafts = min(state.drafts, params.each - 1u);
    // the last token that is no draft
    let last = state.first + state.rows - 1u - state.drafts;
    let runs = slot < slots && state.done == 0u && state.sampled < state.limit;
    var accepted = 0u;
    var done = state.done;
    var token = NONE;
    if runs && overflow != 0xffffffffu {
        done = OVERFLOW + overflow;
    } else if runs {
        let to = ((state.turn % params.ring) * params.slots + slot) * params.each;
        let next = state.position + state.rows - state.drafts;
        for (var i = 0u; i < params.each; i++) {
            ring[to + i] = select(NONE, REJECTED, i <= drafts);
        }
        for (var i = 0u; i <= drafts; i++) {
            let drawn = draws[last + i];
            if drawn == NONE {
                done = NOT_A_NUMBER;
                break;
            }
            token = drawn;
            ring[to + i] = token;
            tokens[slot * params.vocab + token] += 1u;
            if next + i < params.positions {
                history[slot * params.positions + next + i] = token;
            }
            accepted += 1u;
            if state.sampled + accepted == state.limit || ends(slot, token) {
                done = STOPPED;
                break;
            }
            if i < drafts && rows[last + 1u + i].id != token {
                break;
            }
        }
    }
    // the slots' places may change: all have been read before one is written
    storageBarrier();
    if slot == 0u {
        step.rows = (max(slots, 1u) - 1u) * params.each + 1u;
    }
    if slot >= slots {
        return;
    }
    step.slot[slot].turn = state.turn + 1u;
    if state.done != 0u {
        step.slot[slot].first = slot * params.each;
    }
    if !runs {
        return;
    }
    step.slot[slot].done = done;
    if done >= OVERFLOW {
        return;
    }
    if accepted > 0u {
        rows[slot * params.each] = Row(token, slot);
    }
    step.slot[slot].sampled = state.sampled + accepted;
    // where no number was to be chosen, the row stays whose logits were none
    step.slot[slot].position = state.position + state.rows - state.drafts - 1u + accepted;
    step.slot[slot].rows = 1u;
    step.slot[slot].drafts = 0u;
    step.slot[slot].first = slot * params.each;
}
