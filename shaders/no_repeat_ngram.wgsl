// Forbids every token that would complete an n-gram which is already among the tokens so far (Paulus, Xiong & Socher 2017).
//
// logits: [1, V] f32, as bits; one invocation per place in the history.
import package::shared::group::flat_group;
import package::shared::history::EXCLUDED;
import package::shared::sampling::Sampling;
import package::shared::step::Step;

struct Params {
    vocab: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: Sampling;
@group(0) @binding(2) var<storage, read> step: Step;
// the tokens so far: step.position + step.rows of them
@group(0) @binding(3) var<storage, read> history: array<u32>;
// atomic, since one token may be forbidden from several places
@group(0) @binding(4) var<storage, read_write> logits: array<atomic<u32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let n = sampling.no_repeat_ngram_size;
    let so_far = step.position + step.rows;
    let first = flat_group(group, groups) * 256u + lane;
    if n == 0u || n > so_far || first > so_far - n {
        return;
    }
    for (var i = 0u; i + 1u < n; i++) {
        if history[first + i] != history[so_far + 1u - n + i] {
            return;
        }
    }
    let token = history[first + n - 1u];
    if token < params.vocab {
        atomicStore(&logits[token], EXCLUDED);
    }
}
