// Drafts the tokens of each slot's next step (prompt lookup: Saxena 2023): what followed the first place in the tokens so far where
// their end stands, too. The longest end counts, of max_matching_ngram_size tokens at most, as in transformers. Where there is none, or
// nothing was generated yet, nothing is drafted.
//
// One workgroup for each slot, after `verify`, by which slots have one row each.
import package::shared::sampling::Sampling;
import package::shared::step::{Row, Step};

struct Params {
    // 1 + D: places for rows of each slot
    each: u32,
    // places for tokens in each slot's history
    positions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> samplings: array<Sampling>;
@group(0) @binding(2) var<storage, read_write> step: Step;
@group(0) @binding(3) var<storage, read_write> rows: array<Row>;
// the tokens so far, [B, positions]: position + 1 of each slot's; drafts come behind them
@group(0) @binding(4) var<storage, read_write> history: array<u32>;

const LANES: u32 = 256u;
const NONE: u32 = 0xffffffffu;
// Bits of a place in the history.
const PLACE: u32 = 26u;

// The least of: how many tokens fewer than the most are the same, then the place behind them.
var<workgroup> best: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = group.x;
    if lane == 0u {
        atomicStore(&best, NONE);
    }
    workgroupBarrier();
    let state = step.slot[slot];
    let most = samplings[slot].max_matching_ngram_size;
    let left = state.limit - min(state.sampled + 1u, state.limit);
    var drafts = min(min(samplings[slot].prompt_lookup_num_tokens, params.each - 1u), left);
    if slot >= step.slots || state.done != 0u || state.rows != 1u {
        drafts = 0u;
    }
    let so_far = min(state.position + 1u, params.positions);
    let own = slot * params.positions;
    if drafts > 0u {
        for (var end = 1u + lane; end < so_far; end += LANES) {
            var same = 0u;
            while same < most && same < end && history[own + end - 1u - same] == history[own + so_far - 1u - same] {
                same += 1u;
            }
            if same > 0u {
                atomicMin(&best, ((most - same) << PLACE) | end);
            }
        }
    }
    workgroupBarrier();

    let found = atomicLoad(&best);
    let from_place = found & ((1u << PLACE) - 1u);
    drafts = select(min(drafts, so_far - from_place), 0u, found == NONE);
    if lane < drafts {
        let draft = history[own + from_place + lane];
        rows[slot * params.each + 1u + lane] = Row(draft, slot);
        if so_far + lane < params.positions {
            history[own + so_far + lane] = draft;
        }
    }
    if lane == 0u && drafts > 0u {
        step.slot[slot].rows = 1u + drafts;
        step.slot[slot].drafts = drafts;
        if slot + 1u == step.slots {
            // of the slots before it, all places
            step.rows = slot * params.each + 1u + drafts;
        }
    }
}
