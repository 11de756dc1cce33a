// Takes each slot's next token from its row of logits, writes it where the next step's embedding reads it, and advances `step`. Or
// where `draws` takes the token after each of a slot's rows from its last token on, drafts, for `verify`, which advances.
//
// Greedy at temperature 0. Otherwise temperature, top-k, top-p, min-p, typical-p, epsilon, eta in transformers' order, then the
// Gumbel-max trick (Gumbel 1954): argmax of logit / temperature - ln(e), e exponential, is a draw from the softmax. The noise
// depends on seed, position and token only, so a draw repeats whatever else runs, and the host's sampler makes the same one.
//
// logits: [B, V] f32, or where `draws` [T, V]; one workgroup for each row. Cut-offs are found by bisecting the 32 bits of an order-preserving key, so that equal
// logits are kept or dropped together.
import package::shared::history::is_finite;
import package::shared::sampling::Sampling;
@if(draws) import package::shared::step::{Row, Step, drafts_before};
@if(!draws) import package::shared::step::{Row, Step, STOPPED, NOT_A_NUMBER, OVERFLOW};
import package::shared::reduce_wide::{workgroup_sum, workgroup_best, better, Best, LANES, NONE};

struct Params {
    vocab: u32,
    // turns that the ring holds, and places in each of them
    ring: u32,
    slots: u32,
    // places for tokens in each slot's history
    positions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> samplings: array<Sampling>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@if(draws) @group(0) @binding(3) var<storage, read> step: Step;
@if(draws) @group(0) @binding(4) var<storage, read> rows: array<Row>;
// the token after each row, NONE where there is no number to choose: [T]
@if(draws) @group(0) @binding(5) var<storage, read_write> drawn: array<u32>;
@if(!draws) @group(0) @binding(3) var<storage, read_write> step: Step;
@if(!draws) @group(0) @binding(4) var<storage, read_write> rows: array<Row>;
// what the host reads back, some steps behind: [ring, slots]
@if(!draws) @group(0) @binding(5) var<storage, read_write> ring: array<u32>;
// what the step's kernels found, see shared/finite
@if(!draws) @group(0) @binding(6) var<storage, read> overflow: u32;
// what `penalize` and `no_repeat_ngram` read: flags and counts [B, V], see shared/history, and the tokens so far, [B, positions]
@if(h_on) @group(0) @binding(7) var<storage, read_write> tokens: array<u32>;
@if(h_on) @group(0) @binding(8) var<storage, read_write> history: array<u32>;

// Jarzynski & Olano 2020, pcg3d
fn pcg3d(seed: vec3<u32>) -> vec3<u32> {
    var v = seed * 1664525u + 1013904223u;
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v ^= v >> vec3<u32>(16u);
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    return v;
}

// An exponential variate from 32 random bits; the series keeps the small ones, which win, exact.
fn exponential(bits: u32) -> f32 {
    let u = (f32(bits) + 0.5) * 2.3283064365386963e-10;
    return select(-log(max(1.0 - u, 2.9802322e-8)), u + 0.5 * u * u, u < 0.001);
}

// A key that orders as the finite floats do, and is 0 for the rest, which does not take part. By integers, since fast-math
// drivers may assume that there are no NaNs to compare.
fn key(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let order = select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
    return select(0u, order, is_finite(bits));
}

// Where a row of logits begins.
fn first_of(row: u32) -> u32 {
    return row * ((params.vocab + 3u) / 4u * 4u);
}

// The tokens that take part: keys from `least` on, and scores at most `band` (as bits) from `center`.
struct Kept {
    least: u32,
    center: f32,
    band: u32,
}

// A logit relative to the greatest one, over the temperature; bounded, so that its weight is a number.
fn score(slot: u32, v: f32, greatest: f32) -> f32 {
    return max((v - greatest) / samplings[slot].temperature, -80.0);
}

fn takes_part(slot: u32, v: f32, greatest: f32, kept: Kept) -> bool {
    return key(v) >= kept.least && bitcast<u32>(abs(score(slot, v, greatest) - kept.center)) <= kept.band;
}

// Over the tokens that take part: the sum of their weights, and the mean of their scores by weight. `row`: where the logits begin.
fn moments(slot: u32, row: u32, greatest: f32, kept: Kept, lane: u32) -> vec2<f32> {
    var mass = 0.0;
    var first = 0.0;
    for (var i = lane; i < params.vocab; i += LANES) {
        let v = logits[row + i];
        if takes_part(slot, v, greatest, kept) {
            let weight = exp(score(slot, v, greatest));
            mass += weight;
            first += weight * score(slot, v, greatest);
        }
    }
    mass = workgroup_sum(mass, lane);
    first = workgroup_sum(first, lane);
    return vec2<f32>(mass, first / max(mass, 1e-35));
}

// Drops what is less likely than `probability`, but never the most likely of what takes part.
fn at_least(slot: u32, row: u32, probability: f32, greatest: f32, kept: Kept, mass: f32, lane: u32) -> Kept {
    var own = Best(0.0, NONE);
    for (var i = lane; i < params.vocab; i += LANES) {
        let v = logits[row + i];
        if takes_part(slot, v, greatest, kept) {
            own = better(own, Best(v, i));
        }
    }
    let most = key(workgroup_best(own, lane).value);
    let bound = key(greatest + samplings[slot].temperature * log(max(probability * mass, 1e-37)));
    return Kept(max(kept.least, min(bound, most)), kept.center, kept.band);
}

// The most likely tokens whose surprise is nearest to the entropy, up to a mass of typical_p (Meister et al. 2022).
fn typical(slot: u32, row: u32, greatest: f32, kept: Kept, lane: u32) -> Kept {
    let all = moments(slot, row, greatest, kept, lane);
    // surprise less entropy is the mean score less the score
    let wanted = all.x * samplings[slot].typical_p;
    var band = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let candidate = band | (0x80000000u >> bit);
        var mass = 0.0;
        for (var i = lane; i < params.vocab; i += LANES) {
            let v = logits[row + i];
            if takes_part(slot, v, greatest, Kept(kept.least, all.y, candidate - 1u)) {
                mass += exp(score(slot, v, greatest));
            }
        }
        band = select(band, candidate, workgroup_sum(mass, lane) < wanted);
    }
    return Kept(kept.least, all.y, band);
}

// Takes down what was chosen, where something asks for it.
@if(h_on)
fn remember(slot: u32, token: u32) {
    tokens[slot * params.vocab + token] += 1u;
    let position = next_of(slot);
    if position < params.positions {
        history[slot * params.positions + position] = token;
    }
}

@if(h_off)
fn remember(slot: u32, token: u32) {}

// The position of the token after a slot's last one; its drafts come behind.
fn next_of(slot: u32) -> u32 {
    return step.slot[slot].position + step.slot[slot].rows - step.slot[slot].drafts;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_of(group.x);
    @if(!draws) let slot = group.x;
    @if(!draws) let position = next_of(slot);
    @if(draws) let slot = rows[group.x].slot;
    @if(draws) let behind = drafts_before(step.slot[slot], group.x);
    @if(draws) let position = next_of(slot) + behind;
    @if(draws) {
        if group.x >= step.rows || behind > step.slot[slot].drafts {
            return;
        }
    }
    var own = Best(0.0, NONE);
    for (var i = lane; i < params.vocab; i += LANES) {
        let v = logits[row + i];
        if key(v) > 0u {
            own = better(own, Best(v, i));
        }
    }
    let greatest = workgroup_best(own, lane);
    var choice = greatest;

    if samplings[slot].temperature > 0.0 {
        var cut = 0u;
        if samplings[slot].top_k > 0u && samplings[slot].top_k < params.vocab {
            for (var bit = 0u; bit < 32u; bit++) {
                let candidate = cut | (0x80000000u >> bit);
                var count = 0.0;
                for (var i = lane; i < params.vocab; i += LANES) {
                    count += select(0.0, 1.0, key(logits[row + i]) >= candidate);
                }
                count = workgroup_sum(count, lane);
                cut = select(cut, candidate, count >= f32(samplings[slot].top_k));
            }
        }
        if samplings[slot].top_p < 1.0 {
            let floor_key = max(cut, 1u);
            var mass = 0.0;
            for (var i = lane; i < params.vocab; i += LANES) {
                let weight = exp(max((logits[row + i] - greatest.value) / samplings[slot].temperature, -80.0));
                mass += select(0.0, weight, key(logits[row + i]) >= floor_key);
            }
            let wanted = workgroup_sum(mass, lane) * samplings[slot].top_p;
            var nucleus = 0u;
            for (var bit = 0u; bit < 32u; bit++) {
                let candidate = nucleus | (0x80000000u >> bit);
                mass = 0.0;
                for (var i = lane; i < params.vocab; i += LANES) {
                    let k = key(logits[row + i]);
                    let weight = exp(max((logits[row + i] - greatest.value) / samplings[slot].temperature, -80.0));
                    mass += select(0.0, weight, k >= candidate && k >= floor_key);
                }
                mass = workgroup_sum(mass, lane);
                nucleus = select(nucleus, candidate, mass >= wanted && mass > 0.0);
            }
            cut = max(cut, nucleus);
        }
        cut = max(cut, 1u);
        if samplings[slot].min_p > 0.0 {
            let bound = key(greatest.value + samplings[slot].temperature * log(samplings[slot].min_p));
            cut = max(cut, min(bound, key(greatest.value)));
        }
        var kept = Kept(cut, 0.0, 0xffffffffu);
        if samplings[slot].typical_p < 1.0 {
            kept = typical(slot, row, greatest.value, kept, lane);
        }
        if samplings[slot].epsilon_cutoff > 0.0 {
            let mass = moments(slot, row, greatest.value, kept, lane).x;
            kept = at_least(slot, row, samplings[slot].epsilon_cutoff, greatest.value, kept, mass, lane);
        }
        if samplings[slot].eta_cutoff > 0.0 {
            let all = moments(slot, row, greatest.value, kept, lane);
            // e to the power of minus the entropy (Hewitt, Manning & Liang 2022)
            let sharpness = exp(all.y) / max(all.x, 1e-35);
            let eta = min(samplings[slot].eta_cutoff, sqrt(samplings[slot].eta_cutoff) * sharpness);
            kept = at_least(slot, row, eta, greatest.value, kept, all.x, lane);
        }
        let stream = pcg3d(vec3<u32>(samplings[slot].seed_low, samplings[slot].seed_high, position));
        own = Best(0.0, NONE);
        for (var i = lane; i < params.vocab; i += LANES) {
            let v = logits[row + i];
            if takes_part(slot, v, greatest.value, kept) {
                let noise = exponential(pcg3d(vec3<u32>(stream.x ^ i, stream.y, stream.z)).x);
                own = better(own, Best((v - greatest.value) / samplings[slot].temperature - log(noise), i));
            }
        }
        choice = workgroup_best(own, lane);
    }

    @if(draws) {
        if lane == 0u {
            drawn[group.x] = choice.index;
        }
    }
    @if(!draws) {
        if lane == 0u {
            advance(slot, choice.index);
        }
    }
}

// Takes down a slot's next token, or that there is none.
@if(!draws)
fn advance(slot: u32, token: u32) {
    // from the next step on each slot has one row; one that has stopped still does
    if slot == 0u {
        step.rows = step.slots;
    }
    let state = step.slot[slot];
    if slot >= step.slots {
        return;
    }
    step.slot[slot].turn = state.turn + 1u;
    if state.done != 0u {
        step.slot[slot].first = slot;
        return;
    }
    if state.sampled >= state.limit {
        return;
    }
    if overflow != 0xffffffffu {
        step.slot[slot].done = OVERFLOW + overflow;
        return;
    }
    var done = select(0u, STOPPED, state.sampled + 1u == state.limit);
    var taken = state.rows - state.drafts;
    if token == NONE {
        done = NOT_A_NUMBER;
        // the row whose logits were none stays
        taken -= 1u;
    } else {
        remember(slot, token);
        ring[(state.turn % params.ring) * params.slots + slot] = token;
        rows[slot] = Row(token, slot);
        step.slot[slot].sampled += 1u;
        for (var i = 0u; i < samplings[slot].eos_count; i++) {
            if samplings[slot].eos[i] == token {
                done = STOPPED;
            }
        }
    }
    step.slot[slot].position += taken;
    step.slot[slot].rows = 1u;
    step.slot[slot].drafts = 0u;
    step.slot[slot].first = slot;
    step.slot[slot].done = done;
}
