// Nonlinearities, by number: see `Act` of src/ops/activation.rs.
import package::shared::tanh::tanh4;

const SILU: u32 = 0u;
const GELU_TANH: u32 = 1u;
const GELU: u32 = 2u;
const QUICK_GELU: u32 = 3u;
const RELU: u32 = 4u;
const RELU2: u32 = 5u;
const TANH: u32 = 6u;
// Where there is none.
const NO_ACT: u32 = 7u;

// exp(80) is finite in f32, and v * sigmoid(-80) is zero in it: the clamp changes nothing and keeps infinities out.
fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(min(-v, vec4<f32>(80.0))));
}

// erfc to 1.2e-7 of its value: a Chebyshev fit of ln(erfc(z) exp(z^2)) in 1 / (1 + z / 2) (Press et al., Numerical Recipes).
fn erfc(v: vec4<f32>) -> vec4<f32> {
    let z = min(abs(v), vec4<f32>(9.0));
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = vec4<f32>(0.17087277);
    p = p * t - 0.82215223;
    p = p * t + 1.48851587;
    p = p * t - 1.13520398;
    p = p * t + 0.27886807;
    p = p * t - 0.18628806;
    p = p * t + 0.09678418;
    p = p * t + 0.37409196;
    p = p * t + 1.00002368;
    p = p * t - 1.26551223;
    let tail = t * exp(p - z * z);
    return select(tail, 2.0 - tail, v < vec4<f32>(0.0));
}

// The nonlinearity of this number; every act(0) is 0.
fn act(number: u32, v: vec4<f32>) -> vec4<f32> {
    switch number {
        case GELU_TANH: {
            // 1 + tanh(u) = 2 sigmoid(2 u), which does not cancel where u is far below zero
            return v * sigmoid(1.5957691216 * (v + 0.044715 * v * v * v));
        }
        case GELU: {
            return 0.5 * v * erfc(v * -0.7071067812);
        }
        case QUICK_GELU: {
            return v * sigmoid(1.702 * v);
        }
        case RELU: {
            return max(v, vec4<f32>(0.0));
        }
        case RELU2: {
            let positive = max(v, vec4<f32>(0.0));
            return positive * positive;
        }
        case TANH: {
            return tanh4(v);
        }
        default: {
            return v * sigmoid(v);
        }
    }
}
