// The finite check: what a kernel is about to store is looked at while it is in registers. Where a value is no number, is infinite or
// is beyond what the activation's type holds, the kernel says so; the sampler then takes no token of the step, and the host has it made
// again. By integers, since fast-math drivers may assume that there is nothing to find.
import package::shared::step::Step;

@group(0) @binding(1) var<storage, read> step: Step;
// the least number of those who said so (see `Site`), all ones while nobody has
@group(0) @binding(2) var<storage, read_write> overflow: atomic<u32>;

// Whether a magnitude is from `bound` on, both as the bits of f32: those of infinities and of what is no number are above all others.
fn is_beyond(v: vec4<f32>, bound: u32) -> bool {
    return any((bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) >= vec4<u32>(bound));
}

// Takes down that `site` made such a value in row t, or where `of_slots` in slot t's, unless that row is nobody's: it was left by an
// earlier step then, and may hold anything.
fn report(t: u32, of_slots: bool, site: u32) {
    for (var s = 0u; s < step.slots; s++) {
        let is_its = select(t - step.slot[s].first < step.slot[s].rows, s == t, of_slots);
        if is_its && step.slot[s].done == 0u {
            atomicMin(&overflow, site);
            return;
        }
    }
}
