// How products of few rows are shared out: the invocations of a workgroup make 4 columns together, each a part of K, whose sums are
// added up; or (`alone`) each makes 4 columns by itself. The latter is for processors that play a GPU, without subgroups: a barrier
// takes them as long as some hundred multiplications.
@if(!alone) import package::shared::reduce::{workgroup_sum4, LANES as SUM_LANES};

// Invocations of a workgroup.
@if(alone) const LANES: u32 = 16u;
@if(!alone) const LANES: u32 = SUM_LANES;
// From one of an invocation's parts of K to its next.
@if(alone) const STRIDE: u32 = 1u;
@if(!alone) const STRIDE: u32 = LANES;

// The first row of workgroup `flat`, where workgroups make `rows` rows each. It does not depend on the invocation, so control flow may
// be uniform behind it.
fn first_row(flat: u32, columns4: u32, rows: u32) -> u32 {
    @if(alone) let across = (columns4 + LANES - 1u) / LANES;
    @if(!alone) let across = columns4;
    return flat / across * rows;
}

// An invocation makes the columns 4 c to 4 c + 3. Where it is alone, there may be no such columns.
fn column4_of(flat: u32, lane: u32, columns4: u32) -> u32 {
    @if(alone) {
        return flat % ((columns4 + LANES - 1u) / LANES) * LANES + lane;
    }
    @if(!alone) {
        return flat % columns4;
    }
}

// The first of an invocation's parts of K. Whoever has part 0 writes the result.
fn first_part(lane: u32) -> u32 {
    @if(alone) {
        return 0u;
    }
    @if(!alone) {
        return lane;
    }
}

// The sum of what the invocations have, which share columns. Call in uniform control flow only.
@if(alone) fn sum4(v: vec4<f32>) -> vec4<f32> {
    return v;
}
@if(sg_off) fn sum4(v: vec4<f32>, lane: u32) -> vec4<f32> {
    return workgroup_sum4(v, lane);
}
@if(sg_on) fn sum4(v: vec4<f32>, subgroup_lane: u32, subgroup: u32, subgroups: u32) -> vec4<f32> {
    return workgroup_sum4(v, subgroup_lane, subgroup, subgroups);
}
