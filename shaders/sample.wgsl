// Takes the next token from one row of logits, writes it where the next step's embedding reads it, and advances `step`.
//
// Greedy at temperature 0. Otherwise temperature, top-k, top-p in Hugging Face's order, then the Gumbel-max trick
// (Gumbel 1954): argmax of logit / temperature - ln(e), e exponential, is a draw from the softmax. The noise depends on seed,
// position and token only, so a draw repeats whatever else runs, and the host's sampler makes the same one.
//
// logits: [1, V] f32; one workgroup. Cut-offs are found by bisecting the 32 bits of an order-preserving key, so that equal
// logits are kept or dropped together.
import package::shared::step::Step;
import package::shared::reduce_wide::{workgroup_sum, workgroup_best, better, Best, LANES, NONE};

struct Sampling {
    // 0: greedy
    temperature: f32,
    // 0: off
    top_k: u32,
    // 1: off
    top_p: f32,
    seed_low: u32,
    seed_high: u32,
    // end-of-sequence ids in use
    eos_count: u32,
    eos: array<u32>,
}

struct Params {
    vocab: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: Sampling;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: Step;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
// what the host reads back, some steps behind: ring[sampled % length]
@group(0) @binding(5) var<storage, read_write> ring: array<u32>;

// `step.done`
const STOPPED: u32 = 1u;
const NOT_A_NUMBER: u32 = 2u;

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
    return select(order, 0u, (bits & 0x7f800000u) == 0x7f800000u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var own = Best(0.0, NONE);
    for (var i = lane; i < params.vocab; i += LANES) {
        let v = logits[i];
        if key(v) > 0u {
            own = better(own, Best(v, i));
        }
    }
    let greatest = workgroup_best(own, lane);
    var choice = greatest;

    if sampling.temperature > 0.0 {
        var cut = 0u;
        if sampling.top_k > 0u && sampling.top_k < params.vocab {
            for (var bit = 0u; bit < 32u; bit++) {
                let candidate = cut | (0x80000000u >> bit);
                var count = 0.0;
                for (var i = lane; i < params.vocab; i += LANES) {
                    count += select(0.0, 1.0, key(logits[i]) >= candidate);
                }
                count = workgroup_sum(count, lane);
                cut = select(cut, candidate, count >= f32(sampling.top_k));
            }
        }
        if sampling.top_p < 1.0 {
            let floor_key = max(cut, 1u);
            var mass = 0.0;
            for (var i = lane; i < params.vocab; i += LANES) {
                let weight = exp(max((logits[i] - greatest.value) / sampling.temperature, -80.0));
                mass += select(0.0, weight, key(logits[i]) >= floor_key);
            }
            let wanted = workgroup_sum(mass, lane) * sampling.top_p;
            var nucleus = 0u;
            for (var bit = 0u; bit < 32u; bit++) {
                let candidate = nucleus | (0x80000000u >> bit);
                mass = 0.0;
                for (var i = lane; i < params.vocab; i += LANES) {
                    let k = key(logits[i]);
                    let weight = exp(max((logits[i] - greatest.value) / sampling.temperature, -80.0));
                    mass += select(0.0, weight, k >= candidate && k >= floor_key);
                }
                mass = workgroup_sum(mass, lane);
                nucleus = select(nucleus, candidate, mass >= wanted && mass > 0.0);
            }
            cut = max(cut, nucleus);
        }
        cut = max(cut, 1u);
        let stream = pcg3d(vec3<u32>(sampling.seed_low, sampling.seed_high, step.position + step.rows));
        own = Best(0.0, NONE);
        for (var i = lane; i < params.vocab; i += LANES) {
            let v = logits[i];
            if key(v) >= cut {
                let noise = exponential(pcg3d(vec3<u32>(stream.x ^ i, stream.y, stream.z)).x);
                own = better(own, Best((v - greatest.value) / sampling.temperature - log(noise), i));
            }
        }
        choice = workgroup_best(own, lane);
    }

    if lane != 0u || step.done != 0u {
        return;
    }
    if choice.index == NONE {
        step.done = NOT_A_NUMBER;
        return;
    }
    ring[step.sampled % arrayLength(&ring)] = choice.index;
    ids[0] = choice.index;
    step.sampled += 1u;
    step.position += step.rows;
    step.rows = 1u;
    for (var i = 0u; i < sampling.eos_count; i++) {
        if sampling.eos[i] == choice.index {
            step.done = STOPPED;
        }
    }
}
