//! `bench`: how fast a model runs here, and what share that is of what the adapter could do.

mod compare;
mod encoder;
mod history;
mod kernels;
mod matrix;
mod record;
mod shapes;

use std::process::ExitCode;

use clap::Subcommand;
use compare::Compare;
use history::History;
use matrix::Matrix;
use record::{Peak, Rates};
use serde::Serialize;
use webweft::device::Device;
use webweft::error::{DeviceError, Error};
use webweft::generate::{GenerateOptions, Timing};
use webweft::managers::{Roofline, Traffic};

use crate::args::{Bench, Shared};
use crate::built_in;
use crate::errors::CliError;
use crate::model::short_name;
use crate::open::{Opened, open};
use crate::sizes;
use crate::stdout::{write, write_line};
use crate::table::columns;

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Run(&'a Run),
    Bench(&'a Figures),
}

/// One run.
#[derive(Serialize)]
struct Run {
    run: usize,
    prefill_ms: f64,
    prefill_tps: f64,
    decode_ms: f64,
    decode_tps: f64,
}

/// The end of `--json`. Speeds in tokens per second, one for each run; memory in bytes, at most.
#[derive(Serialize)]
struct Figures {
    adapter: String,
    driver: String,
    model: String,
    parameters: u64,
    dtype: &'static str,
    prompt_tokens: usize,
    new_tokens: usize,
    load_ms: f64,
    prefill_tps: Vec<f64>,
    decode_tps: Vec<f64>,
    /// the new tokens, the same in every run: greedy
    ids: Vec<u32>,
    memory: Peak,
    /// weights and live cache that a step reads, half way through the new tokens
    bytes_per_token: u64,
    /// multiplications and additions per token of the prompt, attention apart
    operations_per_token: u64,
    /// `None` where there was no memory to measure them
    #[serde(flatten)]
    rates: Option<Rates>,
    decode_share: Option<f64>,
    prefill_share: Option<f64>,
}

/// More that `bench` does.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Measure Llamas of random weights, shape by shape, into a file that `compare` and databases read
    Matrix(Matrix),
    /// Tell what became faster or slower from one file of figures to another
    Compare(Compare),
    /// Draw how speeds went over time
    History(History),
}

/// Runs it and tells.
pub fn run(args: &Bench, shared: &Shared) -> Result<ExitCode, CliError> {
    match &args.part {
        Some(Part::Matrix(args)) => pollster::block_on(matrix::run(args, shared)),
        Some(Part::Compare(args)) => compare::run(args),
        Some(Part::History(args)) => history::run(args),
        None => pollster::block_on(bench(args, shared)),
    }
}

async fn bench(args: &Bench, shared: &Shared) -> Result<ExitCode, CliError> {
    let mut opened = open(args.model.as_deref(), shared, args.context, args.prefill_chunk).await?;
    let (engine, load_ms) = (opened.session.engine(), opened.load_ms);
    let (context, vocab) = (engine.context(), engine.vocab_size());
    let (prompt_tokens, new_tokens) = (args.prompt_tokens as usize, args.new_tokens as usize);
    if prompt_tokens + new_tokens > context {
        return Err(CliError::BeyondContext { prompt_tokens, new_tokens, context });
    }
    let prompt = prompt(prompt_tokens, vocab);
    if args.kernels {
        return kernels::run(args, &mut opened, &prompt).await.map(|()| ExitCode::SUCCESS);
    }
    let mut ids = Vec::new();
    let mut runs = Vec::new();
    // the first run records programs and compiles kernels
    for number in 0..=args.runs {
        let timing = Box::pin(one(&mut opened, &prompt, new_tokens, &mut ids)).await?;
        if number == 0 {
            continue;
        }
        let per_second = |tokens: usize, ms: f64| tokens as f64 / ms.max(1e-6) * 1e3;
        let run = Run {
            run: number as usize,
            prefill_ms: timing.prefill_ms,
            prefill_tps: per_second(timing.prefill_tokens, timing.prefill_ms),
            decode_ms: timing.decode_ms,
            decode_tps: per_second(timing.decode_tokens, timing.decode_ms),
        };
        if args.json {
            write_line(&Line::Run(&run))?;
        }
        runs.push(run);
    }
    // before the buffers that measure the adapter
    let snapshot = opened.device.ledger().snapshot();
    let roofline = roofline(&opened.device).await?;

    let traffic: &Traffic = opened.session.traffic();
    // the first new token needs no step of its own
    let live = prompt_tokens as u64 + new_tokens as u64 / 2;
    let prefill_tps: Vec<f64> = runs.iter().map(|run| run.prefill_tps).collect();
    let decode_tps: Vec<f64> = runs.iter().map(|run| run.decode_tps).collect();
    let info = opened.device.info();
    let figures = Figures {
        adapter: info.to_string(),
        driver: info.driver.clone(),
        model: args.model.as_deref().map_or(built_in::NAME, short_name).to_owned(),
        parameters: opened.session.parameters(),
        dtype: opened.session.precision().dtype.name(),
        prompt_tokens,
        new_tokens,
        load_ms,
        ids,
        memory: Peak::of(&snapshot),
        bytes_per_token: traffic.weights + traffic.cache(live),
        operations_per_token: 2 * traffic.parameters,
        rates: roofline.as_ref().map(Rates::of),
        decode_share: roofline.map(|r| traffic.decode_share(&r, median(&decode_tps), live)),
        prefill_share: roofline.map(|r| traffic.prefill_share(&r, median(&prefill_tps))),
        prefill_tps,
        decode_tps,
    };
    if args.json {
        write_line(&Line::Bench(&figures))?
    } else {
        write(&table(&figures))?
    }
    Ok(ExitCode::SUCCESS)
}

/// What the adapter could do; `None` where there is no memory to measure it.
async fn roofline(device: &Device) -> Result<Option<Roofline>, CliError> {
    match Roofline::measure(device).await {
        Ok(roofline) => Ok(Some(roofline)),
        Err(Error::Device(DeviceError::OutOfMemory { .. })) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A prompt of that length: the same everywhere.
pub fn prompt(tokens: usize, vocab: u32) -> Vec<u32> {
    (0..tokens as u64).map(|i| ((i * 37 + 11) % u64::from(vocab)) as u32).collect()
}

/// Once from an empty cache, greedily, past every end token.
pub async fn one(opened: &mut Opened, prompt: &[u32], new: usize, ids: &mut Vec<u32>) -> Result<Timing, CliError> {
    opened.session.engine_mut().reset();
    ids.clear();
    let options = GenerateOptions { max_new_tokens: new, ..GenerateOptions::default() };
    let mut generation = opened.session.generate(prompt, options).await?;
    while let Some(id) = generation.next().await? {
        ids.push(id);
    }
    Ok(generation.timing())
}

/// The value in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        n => sorted[n / 2],
    }
}

/// `1 run`, `2 runs`
fn runs(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

fn table(f: &Figures) -> String {
    let cells = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
    let speed = |name: &str, tokens: usize, tps: &[f64], share: Option<f64>, of: &str| {
        let bound = |pick: fn(f64, f64) -> f64| tps.iter().copied().reduce(pick).unwrap_or(0.0);
        vec![
            name.to_owned(),
            tokens.to_string(),
            format!("{:.1}", median(tps)),
            format!("{:.1}", bound(f64::min)),
            format!("{:.1}", bound(f64::max)),
            share.map_or("not measured".into(), |share| format!("{:.1} % of its {of}", share * 100.0)),
        ]
    };
    let rows = [
        cells(&["", "tokens", "tokens/s", "least", "most", "of the adapter"]),
        speed("prefill", f.prompt_tokens, &f.prefill_tps, f.prefill_share, "arithmetic"),
        // the first new token is the prompt's
        speed("decode", f.new_tokens - 1, &f.decode_tps, f.decode_share, "bandwidth"),
    ];
    let runs = runs(f.decode_tps.len());
    let mut text = format!("{}\n{runs} of {}, loaded in {:.0} ms\n\n", f.adapter, f.dtype, f.load_ms);
    text += &columns(&rows, &[1, 2, 3, 4]);
    if let Some(rates) = &f.rates {
        text += &format!(
            "\n{}A new token reads {} of weights and cache, a token of the prompt takes {:.1} MFLOP.\n",
            rates.describe(),
            sizes::format(f.bytes_per_token),
            f.operations_per_token as f64 / 1e6
        );
    } else {
        text += "\nThere was no memory left to measure what the adapter can do.\n";
    }
    let m = &f.memory;
    let rows: Vec<_> = [
        ("weights", m.weights),
        ("cache", m.cache),
        ("activations", m.activations),
        ("staging", m.staging),
        ("at most", m.peak),
    ]
    .into_iter()
    .map(|(name, bytes)| vec![name.to_owned(), sizes::format(bytes)])
    .collect();
    text + "\nMemory of the GPU\n" + &columns(&rows, &[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[9.0, 1.0, 2.0]), median(&[1.0, 4.0])], [0.0, 3.0, 2.0, 2.5]);
        assert_eq!(prompt(3, 20), [11, 8, 5]);
    }
}
