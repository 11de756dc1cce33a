//! One model over all windows: the baseline, whose outputs are kept, or a candidate, whose outputs are compared with them.

use webweft::device::Category;
use webweft::error::{Error, GenerateError};
use webweft::generate::Hidden;
use webweft::managers::{Estimate, Prediction, RelativeError, log_softmax};

use super::report::{Memory, NonFinite, Speed};
use super::spool::{Reader, Spool};
use super::text::Window;
use crate::bench;
use crate::errors::CliError;
use crate::interrupt::Interrupt;
use crate::open::Opened;
use crate::progress::Bar;

/// Tokens of the prompt and new ones of a run that measures speed.
const SPEED_RUN: [usize; 2] = [64, 32];

/// What one state of the network is called: the embedding, layers as tensors are numbered, and what the final norm makes of the last.
pub fn state_name(state: usize, states: usize) -> String {
    match state {
        0 => "embedding".to_owned(),
        _ if state + 1 == states => "final norm".to_owned(),
        layer => format!("layer {}", layer - 1),
    }
}

/// The widths of what a row of a pass has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Widths {
    /// V.
    pub vocab: usize,
    /// Of each state: D, but where the final norm is followed by a narrower projection.
    pub states: Vec<usize>,
}

/// What a candidate's pass finds.
#[derive(Debug, Default)]
pub struct Compared {
    /// Where both said something.
    pub predictions: Vec<Prediction>,
    /// Of each state; `None` where the two networks do not have the same ones.
    pub layers: Option<Vec<RelativeError>>,
    /// Where they did not.
    pub non_finite: Option<NonFinite>,
}

/// The rows of a pass that count, by width: logits, then states.
struct Rows<'a> {
    logits: &'a [f32],
    states: Vec<(usize, &'a [f32])>,
}

impl<'a> Rows<'a> {
    fn of(hidden: &'a Hidden, window: &Window, vocab: usize) -> Self {
        let (rows, count) = (window.ids.len(), window.targets().len());
        let part = |all: &'a [f32]| {
            let width = all.len() / rows;
            (width, &all[window.first * width..(window.first + count) * width])
        };
        let states = hidden.hidden_states.iter().chain([&hidden.last_hidden_state]).map(|state| part(state)).collect();
        Self { logits: &hidden.logits[window.first * vocab..(window.first + count) * vocab], states }
    }

    fn widths(&self, vocab: usize) -> Widths {
        Widths { vocab, states: self.states.iter().map(|(width, _)| *width).collect() }
    }

    /// The first state of row `row` that is not finite; its logits, if no state is.
    fn not_finite(&self, row: usize, vocab: usize) -> Option<String> {
        let broken = |(width, all): (usize, &[f32])| all[row * width..(row + 1) * width].iter().any(|v| !v.is_finite());
        let state = self.states.iter().position(|&state| broken(state));
        let named = state.map(|state| state_name(state, self.states.len()));
        named.or_else(|| broken((vocab, self.logits)).then(|| "logits".to_owned()))
    }
}

/// The baseline over all windows: its outputs go to `spool`. Returns their widths, and its perplexity.
pub async fn baseline(
    opened: &mut Opened,
    windows: &[Window],
    spool: &mut Spool,
    bar: &Bar,
    interrupt: &Interrupt,
) -> Result<(Widths, Estimate), CliError> {
    let vocab = opened.session.engine().vocab_size() as usize;
    let (mut widths, mut nll) = (Widths::default(), Vec::new());
    for window in windows {
        interrupt.check()?;
        let hidden = opened.session.forward_after_prompt(&window.ids, window.first + 1).await?;
        let rows = Rows::of(&hidden, window, vocab);
        if let Some(at) = (0..window.targets().len()).find_map(|row| rows.not_finite(row, vocab)) {
            return Err(CliError::BaselineNotFinite { at });
        }
        for (logits, &target) in rows.logits.chunks(vocab).zip(window.targets()) {
            nll.push(-log_softmax(logits)[target as usize]);
        }
        spool.write(rows.logits)?;
        rows.states.iter().try_for_each(|(_, state)| spool.write(state))?;
        widths = rows.widths(vocab);
        bar.advance(window.targets().len());
    }
    let mean = Estimate::mean(nll.iter().copied()).unwrap_or_default();
    Ok((widths, mean.exp()))
}

/// A candidate over the same windows, against what the baseline said, whose rows had `widths`.
pub async fn candidate(
    opened: &mut Opened,
    windows: &[Window],
    widths: &Widths,
    mut said: Reader<'_>,
    bar: &Bar,
    interrupt: &Interrupt,
) -> Result<Compared, CliError> {
    let vocab = widths.vocab;
    let mut found = Compared::default();
    for window in windows {
        interrupt.check()?;
        let hidden = opened.session.forward_after_prompt(&window.ids, window.first + 1).await?;
        let rows = Rows::of(&hidden, window, vocab);
        let count = window.targets().len();
        let baseline = said.read(count * vocab)?;
        let pairs = baseline.chunks(vocab).zip(rows.logits.chunks(vocab));
        for (row, ((baseline, logits), &target)) in pairs.zip(window.targets()).enumerate() {
            match Prediction::compare(baseline, logits, target as usize) {
                Some(prediction) => found.predictions.push(prediction),
                None => {
                    let first = || rows.not_finite(row, vocab).unwrap_or_default();
                    found.non_finite.get_or_insert_with(|| NonFinite { positions: 0, first: first() }).positions += 1;
                }
            }
        }
        let comparable = rows.widths(vocab) == *widths;
        if comparable {
            found.layers.get_or_insert_with(|| vec![RelativeError::default(); widths.states.len()]);
        }
        for (state, &width) in widths.states.iter().enumerate() {
            // what cannot be compared is read, too: the next window's logits follow
            let baseline = said.read(count * width)?;
            if let (true, Some(errors)) = (comparable, &mut found.layers) {
                let pairs = baseline.chunks(width).zip(rows.states[state].1.chunks(width));
                pairs.for_each(|(baseline, candidate)| errors[state].add(baseline, candidate));
            }
        }
        bar.advance(count);
    }
    Ok(found)
}

/// Loading and generating: memory of the weights and at most, and the medians of speeds.
///
/// `live`: the positions that the cache holds where a text is as long as a window.
pub async fn speed(
    opened: &mut Opened,
    runs: u32,
    live: usize,
    interrupt: &Interrupt,
) -> Result<(Memory, Speed), CliError> {
    let weights = opened.device.ledger().snapshot().of(Category::Weights);
    let context = opened.session.engine().context();
    let prompt = bench::prompt(SPEED_RUN[0].min(context / 2).max(1), opened.session.engine().vocab_size());
    let new = SPEED_RUN[1].min(context.saturating_sub(prompt.len())).max(1);
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    // the first run records programs and compiles kernels
    for number in 0..=runs {
        interrupt.check()?;
        let timing = match Box::pin(bench::one(opened, &prompt, new, &mut Vec::new())).await {
            // logits that are not finite: the pass over the text tells of them
            Err(CliError::Engine(Error::Generate(GenerateError::NotFinite { .. }))) => break,
            timing => timing?,
        };
        if number > 0 && timing.prefill_ms > 0.0 {
            prefill.push(timing.prefill_tokens as f64 / timing.prefill_ms * 1e3);
        }
        if number > 0 && timing.decode_ms > 0.0 && timing.decode_tokens > 0 {
            decode.push(timing.decode_tokens as f64 / timing.decode_ms * 1e3);
        }
    }
    let median = |speeds: &[f64]| (!speeds.is_empty()).then(|| bench::median(speeds));
    let memory = Memory {
        weights,
        cache: opened.session.traffic().cache(live as u64),
        bits_per_weight: weights as f64 * 8.0 / opened.session.parameters().max(1) as f64,
        peak: opened.device.ledger().snapshot().peak_total,
    };
    Ok((memory, Speed { load_ms: opened.load_ms, prefill_tps: median(&prefill), decode_tps: median(&decode) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_names() {
        let names: Vec<_> = (0..4).map(|state| state_name(state, 4)).collect();
        assert_eq!(names, ["embedding", "layer 0", "layer 1", "final norm"]);
    }

    #[test]
    fn rows_that_count_are_those_that_predict() {
        let window = Window { ids: vec![1, 2, 3, 4], first: 1 };
        let hidden = Hidden {
            logits: (0..12).map(|v| v as f32).collect(),
            hidden_states: vec![(0..8).map(|v| v as f32).collect()],
            last_hidden_state: vec![0.0, 1.0, f32::NAN, 3.0],
        };
        let rows = Rows::of(&hidden, &window, 3);
        assert_eq!((rows.logits, rows.states[0].1), (&hidden.logits[3..9], &hidden.hidden_states[0][2..6]));
        assert_eq!(rows.widths(3), Widths { vocab: 3, states: vec![2, 1] });
        assert_eq!((rows.not_finite(0, 3), rows.not_finite(1, 3)), (None, Some("final norm".to_owned())));
    }
}
