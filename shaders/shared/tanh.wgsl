// tanh to a few units in the last place at any argument: drivers' own are coarser, and some overflow (NaN for 100).
fn tanh4(v: vec4<f32>) -> vec4<f32> {
    let clamped = clamp(v, vec4<f32>(-15.0), vec4<f32>(15.0)); // +-1 in f32 long before
    let square = v * v;
    // near zero, where the other form cancels: the series
    let near = v * (1.0 + square * (-0.33333333 + square * (0.13333333 + square * -0.05396825)));
    let far = 1.0 - 2.0 / (exp(2.0 * clamped) + 1.0);
    return select(far, near, abs(v) < vec4<f32>(0.15));
}
