// What the settings and the tokens so far make of each logit, in place and in transformers' order: bias (of tokens, and of
// sequences that the token would complete), repetition penalty (Keskar et al. 2019), presence and frequency penalty (as
// OpenAI's API defines them: of generated tokens only), forbidden tokens, end tokens before the least length.
//
// logits: [B, V] f32, or where ALL_ROWS [T, V], as bits; one invocation per 8 tokens of a row.
import package::shared::group::flat_group;
import package::shared::history::{SEEN, FORBIDDEN, ENDS, TIMES, EXCLUDED, is_finite};
import package::shared::sampling::Sampling;
import package::shared::step::{Row, Step, drafts_before};

// Whether each row of the step has logits, with the drafts before it as if they were chosen; else each slot has a row of them.
override ALL_ROWS: bool = false;

struct Params {
    vocab: u32,
    // places for tokens in each slot's history
    positions: u32,
    // words of each slot's sequences
    sequence_words: u32,
}

// A sequence in the header of `sequences`: where its ids begin, how many there are (2 or more), its bias as bits.
const HEADER: u32 = 3u;
const MAX_SEQUENCES: u32 = 512u;
// Tokens of one invocation: what a workgroup looks up first is for many of them.
const TOKENS_EACH: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: array<Sampling>;
@group(0) @binding(2) var<storage, read> step: Step;
// [B, V], see shared/history
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
// [B, V]
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// of each slot how many, their headers, their ids
@group(0) @binding(5) var<storage, read> sequences: array<u32>;
// [B, positions], the tokens so far: position + rows of each slot's, drafts included
@group(0) @binding(6) var<storage, read> history: array<u32>;
@group(0) @binding(7) var<storage, read> rows: array<Row>;
@group(0) @binding(8) var<storage, read_write> logits: array<u32>;

// The sequences that lack only their last token.
var<workgroup> open: array<u32, MAX_SEQUENCES>;
var<workgroup> open_count: atomic<u32>;

// Where the tokens of a slot end, drafts aside.
fn end_of(slot: u32) -> u32 {
    return step.slot[slot].position + step.slot[slot].rows - step.slot[slot].drafts;
}

// Whether a slot's first tokens end with all but the last of a sequence's ids.
fn lacks_its_last(slot: u32, so_far: u32, sequence: u32) -> bool {
    let own = slot * params.sequence_words;
    let begin = own + sequences[own + 1u + HEADER * sequence];
    let known = sequences[own + 2u + HEADER * sequence] - 1u;
    if known > so_far {
        return false;
    }
    for (var i = 0u; i < known; i++) {
        if sequences[begin + i] != history[slot * params.positions + so_far - known + i] {
            return false;
        }
    }
    return true;
}

fn penalize(row: u32, slot: u32, behind: u32, token: u32, open_now: u32) {
    let at = row * ((params.vocab + 3u) / 4u * 4u) + token;
    if token >= params.vocab || !is_finite(logits[at]) {
        return;
    }
    let own = slot * params.sequence_words;
    let state = tokens[slot * params.vocab + token];
    var times = state & TIMES;
    for (var i = 0u; i < behind; i++) {
        times += select(0u, 1u, history[slot * params.positions + end_of(slot) + i] == token);
    }
    let is_early = step.slot[slot].sampled + behind < sampling[slot].min_new_tokens;
    var forbidden = (state & FORBIDDEN) != 0u || ((state & ENDS) != 0u && is_early);
    var v = bitcast<f32>(logits[at]) + bias[slot * params.vocab + token];
    for (var i = 0u; i < open_now; i++) {
        let header = own + 1u + HEADER * open[i];
        if sequences[own + sequences[header] + sequences[header + 1u] - 1u] == token {
            if is_finite(sequences[header + 2u]) {
                v += bitcast<f32>(sequences[header + 2u]);
            } else {
                forbidden = true;
            }
        }
    }
    if (state & SEEN) != 0u || times > 0u {
        v = select(v / sampling[slot].repetition_penalty, v * sampling[slot].repetition_penalty, v < 0.0);
    }
    if times > 0u {
        v -= sampling[slot].presence_penalty + sampling[slot].frequency_penalty * f32(times);
    }
    logits[at] = select(bitcast<u32>(v), EXCLUDED, forbidden);
}

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let groups_each = (params.vocab + TOKENS_EACH * 256u - 1u) / (TOKENS_EACH * 256u);
    let row = flat_group(group, groups) / groups_each;
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
    if lane == 0u {
        atomicStore(&open_count, 0u);
    }
    workgroupBarrier();
    for (var s = lane; s < min(sequences[slot * params.sequence_words], MAX_SEQUENCES); s += 256u) {
        if lacks_its_last(slot, end_of(slot) + behind, s) {
            open[atomicAdd(&open_count, 1u)] = s;
        }
    }
    workgroupBarrier();

    let open_now = atomicLoad(&open_count);
    let first = (flat_group(group, groups) % groups_each) * TOKENS_EACH * 256u + lane;
    for (var i = 0u; i < TOKENS_EACH; i++) {
        penalize(row, slot, behind, first + i * 256u, open_now);
    }
}
