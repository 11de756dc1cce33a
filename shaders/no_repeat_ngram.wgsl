// Forbids every token that would complete an n-gram which is already among the tokens so far (Paulus, Xiong & Socher 2017).
//
// logits: [B, V] f32, or where ALL_ROWS [T, V], as bits; one invocation per place in a slot's history.
import package::shared::group::flat_group;
import package::shared::history::EXCLUDED;
import package::shared::sampling::Sampling;
import package::shared::step::{Row, Step, drafts_before};

// Whether each row of the step has logits, with the drafts before it as if they were chosen; else each slot has a row of them.
override ALL_ROWS: bool = false;

struct Params {
    vocab: u32,
    // places for tokens in each slot's history, and those of them that may be taken
    positions: u32,
    live: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: array<Sampling>;
@group(0) @binding(2) var<storage, read> step: Step;
// [B, positions], the tokens so far: position + rows of each slot's, drafts included
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read> rows: array<Row>;
// atomic, since one token may be forbidden from several places
@group(0) @binding(5) var<storage, read_write> logits: array<atomic<u32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let groups_each = max((params.live + 255u) / 256u, 1u);
    let flat = flat_group(group, groups);
    let row = flat / groups_each;
    if row >= select(step.slots, step.rows, ALL_ROWS) {
        return;
    }
    var slot = row;
    var behind = 0u;
    if ALL_ROWS {
        slot = rows[row].slot;
        behind = drafts_before(step.slot[slot], row);
        if behind > step.slot[slot].drafts {
            return;
        }
    }
    let n = sampling[slot].no_repeat_ngram_size;
    let so_far = step.slot[slot].position + step.slot[slot].rows - step.slot[slot].drafts + behind;
    let first = (flat % groups_each) * 256u + lane;
    let own = slot * params.positions;
    if n == 0u || n > so_far || first > so_far - n {
        return;
    }
    for (var i = 0u; i + 1u < n; i++) {
        if history[own + first + i] != history[own + so_far + 1u - n + i] {
            return;
        }
    }
    let token = history[own + first + n - 1u];
    if token < params.vocab {
        atomicStore(&logits[row * ((params.vocab + 3u) / 4u * 4u) + token], EXCLUDED);
    }
}
