//! `shaders/penalize.wgsl`

use crate::shaders::Sampling;

/// What is known of the tokens so far, as `step::History` holds it on the GPU.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// The tokens, prompt included.
    pub ids: &'a [u32],
    /// How many of them were generated.
    pub generated: u32,
    /// `[V]`: bit 31 in the prompt, 30 forbidden, 29 ends a sequence; below, how often it was generated.
    pub tokens: &'a [u32],
    /// `[V]`
    pub bias: &'a [f32],
    /// How many sequences have a bias; for each where its ids begin, their number, the bias as bits; the ids.
    pub sequences: &'a [u32],
}

/// What the settings and the tokens so far make of each logit `[V]`, in transformers' order: bias, repetition penalty (Keskar
/// et al. 2019), presence and frequency penalty (as OpenAI's API defines them: of generated tokens only), forbidden tokens, end
/// tokens before the least length. A logit that is not finite stays.
pub fn penalize(logits: &mut [f32], params: &Sampling, past: &Past<'_>) {
    let mut bias: Vec<f64> = past.bias.iter().copied().map(f64::from).collect();
    let count = past.sequences.first().map_or(0, |&count| count as usize);
    for header in past.sequences.get(1..).unwrap_or_default().chunks_exact(3).take(count) {
        let [begin, len] = [header[0] as usize, header[1] as usize];
        let (last, before) = past.sequences[begin..begin + len].split_last().expect("a sequence has two ids or more");
        if past.ids.ends_with(before) {
            bias[*last as usize] += f64::from(f32::from_bits(header[2]));
        }
    }
    for ((logit, &state), bias) in logits.iter_mut().zip(past.tokens).zip(bias).filter(|((v, _), _)| v.is_finite()) {
        let ends = state & 1 << 29 != 0 && past.generated < params.min_new_tokens;
        if state & 1 << 30 != 0 || ends || !bias.is_finite() {
            *logit = f32::NEG_INFINITY;
            continue;
        }
        let times = state & ((1 << 29) - 1);
        let mut v = f64::from(*logit) + bias;
        if times > 0 || state & 1 << 31 != 0 {
            let penalty = f64::from(params.repetition_penalty);
            v = if v < 0.0 { v * penalty } else { v / penalty };
        }
        if times > 0 {
            v -= f64::from(params.presence_penalty) + f64::from(params.frequency_penalty) * f64::from(times);
        }
        *logit = v as f32;
    }
}
