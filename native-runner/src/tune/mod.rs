//! `tune`: the best number of sequences to run at once, for this model on this adapter.

mod measure;
mod plot;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use webweft::managers::tune::{Bounds, Choice, Key, Point, Tuned, Workload, choose};
use webweft::step::MAX_SLOTS;

use crate::args::Shared;
use crate::errors::CliError;
use crate::fingerprint;
use crate::interrupt::Interrupt;
use crate::model::ModelSpec;
use crate::open::{Opened, open};
use crate::output::OutputFile;
use crate::remembered;
use crate::sizes;
use crate::stdout::{write, write_line};
use crate::table::columns;

/// What it is remembered as.
const KIND: &str = "tune";

const EXAMPLES: &str = "\
Batches of 1, 2, 4, ... sequences are measured until tokens per second fall twice or memory ends. What is found is remembered in
webweft/tune in the folder for caches (XDG_CACHE_HOME, ~/.cache), for the model, its dtypes, the adapter, its driver and this version:
`generate --file FILE --batch auto` runs as many at once as is best for throughput.

Workloads:
  realtime    the largest batch whose steps take at most 1.25 times as long as those of one sequence, or at most --target
  throughput  the smallest batch within 5 % of the most tokens per second
  batch       the most tokens per second

Examples:
  native-runner tune MODEL
  native-runner tune MODEL --dtype q4 --target 40 --plot tune.svg
  native-runner tune MODEL --max-gpu-memory 6GB --json

Exit codes: 0 done, 1 failed, 2 wrong command line, 130 cancelled";

/// `tune`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Tune {
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    /// [default: the built-in model, which tells little stories]
    #[arg(value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens that each generates
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..))]
    pub new_tokens: u32,
    /// The most sequences at once
    #[arg(long, value_name = "N", default_value_t = MAX_SLOTS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
    pub max_batch: u32,
    /// Milliseconds from a token to the next, at most, for realtime [default: 1.25 times those of one sequence]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    pub target: Option<u32>,
    /// The most positions of a sequence [default: the model's, as far as memory allows]
    #[arg(long, value_name = "N")]
    pub context: Option<u32>,
    /// The most tokens of prompts in one step [default: 512, fewer for large models]
    #[arg(long, value_name = "N")]
    pub prefill_chunk: Option<u32>,
    /// A plot of speed and step time, in SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Do not write down what is found
    #[arg(long)]
    pub no_remember: bool,
    /// One JSON object per line: a `point` each, then `tune` with all of it
    #[arg(long)]
    pub json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Point(&'a Point),
    Tune {
        #[serde(flatten)]
        tuned: &'a Tuned,
        prompt_tokens: u32,
        new_tokens: u32,
        choices: &'a [Choice],
    },
}

/// Measures, tells, remembers.
pub fn run(args: &Tune, shared: &Shared) -> Result<ExitCode, CliError> {
    pollster::block_on(tune(args, shared))
}

async fn tune(args: &Tune, shared: &Shared) -> Result<ExitCode, CliError> {
    // what cannot be written is told before the work begins
    let plot = args.plot.as_deref().map(OutputFile::create).transpose()?;
    let mut opened = Box::pin(open(args.model.as_deref(), shared, args.context, args.prefill_chunk)).await?;
    let interrupt = Interrupt::catch()?;
    let key = key(args.model.as_deref(), shared, &opened).await?;
    let told = |point: &Point| if args.json { write_line(&Line::Point(point)) } else { Ok(()) };
    let points = Box::pin(measure::all(args, shared, &mut opened, &interrupt, told)).await?;
    let bounds = Bounds { memory: None, target_ms: args.target.map(f64::from) };
    let choices: Vec<_> = Workload::ALL.into_iter().filter_map(|workload| choose(&points, workload, bounds)).collect();
    if choices.is_empty() {
        return Err(CliError::NothingFits);
    }
    let tuned = Tuned { key, points };
    let Tune { prompt_tokens, new_tokens, .. } = *args;
    match args.json {
        true => write_line(&Line::Tune { tuned: &tuned, prompt_tokens, new_tokens, choices: &choices })?,
        false => write(&table(&tuned, &choices))?,
    }
    if let Some(mut plot) = plot {
        plot.append(plot::drawing(&tuned, &choices).as_bytes())?;
        plot.finish()?;
    }
    if !args.no_remember {
        remembered::save(KIND, &parts(&tuned.key), &tuned)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `tune` found best for a model that is open, if it was asked here.
pub async fn best_known(
    model: Option<&str>,
    shared: &Shared,
    opened: &Opened,
    workload: Workload,
) -> Result<Option<u32>, CliError> {
    // what makes up the key takes a look at the model's files
    if !remembered::has_any(KIND) {
        return Ok(None);
    }
    let key = key(model, shared, opened).await?;
    let tuned = remembered::load(KIND, &parts(&key)).filter(|tuned: &Tuned| tuned.key == key);
    Ok(tuned.and_then(|tuned| choose(&tuned.points, workload, Bounds::default())).map(|choice| choice.batch))
}

fn parts(key: &Key) -> [&str; 6] {
    let Key { model, dtype, cache_dtype, adapter, driver, version } = key;
    [model, dtype, cache_dtype, adapter, driver, version]
}

async fn key(model: Option<&str>, shared: &Shared, opened: &Opened) -> Result<Key, CliError> {
    let spec = ModelSpec::parse(model, shared.revision.as_deref())?;
    let source = spec.source(shared.gguf_file.as_deref(), &mut |_| ()).await?;
    let (info, precision) = (opened.device.info(), opened.session.precision());
    Ok(Key {
        model: fingerprint::of(&source, opened.session.files()).await?,
        dtype: precision.dtype.name().to_owned(),
        cache_dtype: precision.cache.name().to_owned(),
        adapter: info.to_string(),
        driver: info.driver.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn table(tuned: &Tuned, choices: &[Choice]) -> String {
    let Tuned { key, points } = tuned;
    let head = ["batch", "step ms", "tokens/s", "each", "cache"].map(str::to_owned).to_vec();
    let row = |p: &Point| {
        let each = p.tokens_per_s / f64::from(p.batch);
        let speeds = [p.step_ms, p.tokens_per_s, each].map(|value| format!("{value:.1}"));
        [vec![p.batch.to_string()], speeds.to_vec(), vec![sizes::format(p.bytes)]].concat()
    };
    let rows: Vec<_> = std::iter::once(head).chain(points.iter().map(row)).collect();
    let best = |c: &Choice| vec![c.workload.name().to_owned(), c.batch.to_string(), c.reason.clone()];
    let best: Vec<_> = choices.iter().map(best).collect();
    let what = format!("{}\n{}, cache of {}\n", key.adapter, key.dtype, key.cache_dtype);
    format!("{what}\n{}\nBest at once\n{}", columns(&rows, &[0, 1, 2, 3, 4]), columns(&best, &[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measurements of nothing.
    pub fn tuned() -> Tuned {
        let text = |text: &str| text.to_owned();
        let key = Key {
            model: text("f1"),
            dtype: text("q4"),
            cache_dtype: text("f16"),
            adapter: text("A <GPU>"),
            driver: text("d"),
            version: text("1"),
        };
        let point = |(batch, step_ms): (u32, f64)| Point {
            batch,
            step_ms,
            tokens_per_s: f64::from(batch) * 1e3 / step_ms,
            bytes: u64::from(batch) << 20,
        };
        Tuned { key, points: [(1, 10.0), (2, 11.0), (4, 16.0), (8, 40.0)].map(point).to_vec() }
    }

    pub fn choices(tuned: &Tuned) -> Vec<Choice> {
        Workload::ALL.into_iter().filter_map(|workload| choose(&tuned.points, workload, Bounds::default())).collect()
    }

    #[test]
    fn the_table_has_every_batch_and_every_choice() {
        let tuned = tuned();
        let text = table(&tuned, &choices(&tuned));
        for line in [
            "q4, cache of f16",
            "batch  step ms  tokens/s   each    cache",
            "    4     16.0     250.0   62.5  4.0 MiB",
            "realtime    2  the largest within 1.25 times a step of 1: 12.5 ms; a step takes 11.0 ms",
            "batch       4  the most tokens/s: 250",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
