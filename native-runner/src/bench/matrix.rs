//! `bench matrix`: shapes x dtypes x prompts x caches x batches, a line of JSON for each.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;
use webweft::device::{AdapterInfo, Device};
use webweft::error::{DeviceError, Error};
use webweft::managers::{Dtype, Roofline};
use webweft::session::{LoadOptions, Session};
use webweft::source::Source;
use webweft::step::MAX_SLOTS;

use super::encoder;
use super::record::{Cell, Peak, Rates, SCHEMA};
use super::shapes::{CONTEXT, Shape};
use super::{median, roofline};
use crate::args::{DtypeName, Shared};
use crate::date;
use crate::errors::CliError;
use crate::interrupt::Interrupt;
use crate::kernels::open_device;
use crate::sizes;
use crate::stdout::write;
use crate::table::columns;
use crate::together::{prompt, together};

const EXAMPLES: &str = "\
Each cell is a Llama of random weights, loaded anew: a cache is filled, a prompt after it is computed, new tokens are decoded, greedily.
MiniLM is an encoder of that size, also of random weights: texts as long as a prompt become vectors. Stories is the built-in model. One run more comes first and is not counted. A cell that does not fit is left out, and told of. Without flags the matrix is

                on a GPU            on a CPU that acts as one
  --shapes      26M,110M,0.5B,1B,   26M,110M,
                MiniLM              MiniLM
  --dtypes      q4,f16              q4,f16
  --prompts     32,512              32,128
  --cache       0,2048              0,128
  --batch       1,8                 1,2
  --new-tokens  64                  16

and with --quick 26M,110M and the first of the others. docs/benchmarks.md tells what the fields mean. WEBWEFT_COMMIT names the commit
where git does not.

Examples:
  native-runner bench matrix --out new.jsonl
  native-runner bench matrix --out quick.jsonl --quick
  native-runner bench matrix --out 7b.jsonl --shapes 7B --dtypes q4 --batch 1,2,4,8,16

Exit codes: 0 done, 1 failed, 2 wrong command line, 130 cancelled: what was measured is in the file";

/// Weights of the largest shape that is measured unasked where a CPU acts as a GPU.
const MOST_ON_CPU: u64 = 200_000_000;

/// `bench matrix`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Matrix {
    /// File to write: a line as soon as a cell is measured; what was in it is lost
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Models: 26M, 110M, 0.5B, 1B, 7B, MiniLM, Stories
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub shapes: Option<Vec<Shape>>,
    /// How weights are stored [default: --dtype, or q4,f16]
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',', hide_possible_values = true)]
    pub dtypes: Option<Vec<DtypeName>>,
    /// Tokens of prompts
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub prompts: Option<Vec<u32>>,
    /// Tokens that are in each sequence's cache before
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub cache: Option<Vec<u32>>,
    /// Sequences at once
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
    pub batch: Option<Vec<u32>>,
    /// Tokens that each sequence generates
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub new_tokens: Option<u32>,
    /// How often each cell is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Few cells, where the flags do not say otherwise
    #[arg(long)]
    pub quick: bool,
}

/// What is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub shape: Shape,
    pub dtype: Dtype,
    pub prompt: usize,
    pub cache: usize,
    pub batch: usize,
}

/// What is the same in all cells.
pub struct Setting<'a> {
    pub args: &'a Matrix,
    shared: &'a Shared,
    new_tokens: usize,
    commit: Option<String>,
    roofline: Option<Roofline>,
    pub interrupt: Interrupt,
}

/// Measures, writes and tells.
pub async fn run(args: &Matrix, shared: &Shared) -> Result<ExitCode, CliError> {
    let device = open_device(shared, |_| ()).await?;
    let info = device.info().clone();
    let is_cpu = info.kind == "CPU";
    let tasks = tasks(args, shared.dtype, is_cpu);
    let new_tokens = args.new_tokens.unwrap_or(if is_cpu { 16 } else { 64 }) as usize;
    // models that hold less are left out where that is too little
    let longest = tasks
        .iter()
        .filter(|task| task.shape.context() == CONTEXT)
        .map(|task| task.prompt + task.cache)
        .max()
        .unwrap_or_default();
    if longest + new_tokens > CONTEXT && longest > 0 {
        return Err(CliError::BeyondContext { prompt_tokens: longest, new_tokens, context: CONTEXT });
    }
    let failed = |source| CliError::OutputFile { path: args.out.clone(), source };
    // what cannot be written is told before the work begins
    let mut file = File::create(&args.out).map_err(failed)?;
    let tell = |line: String| {
        if !shared.quiet {
            let _ = writeln!(io::stderr(), "{line}");
        }
    };
    if is_cpu && args.shapes.is_none() {
        tell(format!("larger models are left out, since {info} is no GPU: --shapes 0.5B,1B,7B asks for them"));
    }
    let roofline = roofline(&device).await?;
    drop(device);
    let setting = Setting { args, shared, new_tokens, commit: commit(), roofline, interrupt: Interrupt::catch()? };
    let mut cells = Vec::new();
    let mut made: Option<(Shape, Source)> = None;
    for (number, task) in tasks.iter().enumerate() {
        let Task { shape, dtype, prompt, cache, batch } = *task;
        let name = format!("{} {}, prompt {prompt}, cache {cache}, batch {batch}", shape.name, dtype.name());
        let name = format!("cell {} of {}: {name}", number + 1, tasks.len());
        // an encoder generates nothing
        let tokens = prompt + cache + if shape.is_encoder() { 0 } else { new_tokens };
        if tokens > shape.context() {
            let _ = writeln!(io::stderr(), "{name}: left out, it holds {} tokens", shape.context());
            continue;
        }
        let source = match made.take() {
            Some((of, source)) if of == shape => source,
            _ => shape.source()?,
        };
        match Box::pin(setting.measure(task, &source)).await {
            Ok(cell) => {
                let line = serde_json::to_string(&cell).map_err(|error| failed(error.into()))? + "\n";
                file.write_all(line.as_bytes()).map_err(failed)?;
                let decode =
                    cell.decode_tps.as_ref().map_or_else(String::new, |tps| format!(" and {:.1}", median(tps)));
                tell(format!("{name}: {:.1}{decode} tokens/s", median(&cell.prefill_tps)));
                cells.push(cell);
            }
            // it is told even where nothing else is: a cell is missing
            Err(
                CliError::NothingFits
                | CliError::Engine(Error::Device(DeviceError::OutOfMemory { .. } | DeviceError::NothingFits { .. })),
            ) => {
                let _ = writeln!(io::stderr(), "{name}: left out, there is no room for it");
            }
            Err(error) => return Err(error),
        }
        made = Some((shape, source));
    }
    write(&table(&info, setting.roofline.as_ref(), &cells))?;
    Ok(ExitCode::SUCCESS)
}

/// Every cell, the quick ones of a shape first. What is not asked for goes by the adapter.
fn tasks(args: &Matrix, dtype: Option<DtypeName>, is_cpu: bool) -> Vec<Task> {
    let numbers = |given: &Option<Vec<u32>>, on_cpu: [u32; 2], on_gpu: [u32; 2]| {
        let usual = if is_cpu { on_cpu } else { on_gpu };
        given.clone().unwrap_or_else(|| usual[..if args.quick { 1 } else { 2 }].to_vec())
    };
    let names = &["26M", "110M", "MiniLM", "0.5B", "1B"][..if args.quick { 2 } else { 5 }];
    let usual = names.iter().filter_map(|name| name.parse().ok());
    // a CPU takes minutes for a prompt of a large one
    let usual = usual.filter(|shape: &Shape| !is_cpu || shape.parameters() < MOST_ON_CPU);
    let shapes = args.shapes.clone().unwrap_or_else(|| usual.collect());
    let usual = if args.quick { vec![DtypeName::Q4] } else { vec![DtypeName::Q4, DtypeName::F16] };
    let dtypes = args.dtypes.clone().unwrap_or_else(|| dtype.map_or(usual, |dtype| vec![dtype]));
    let prompts = numbers(&args.prompts, [32, 128], [32, 512]);
    let caches = numbers(&args.cache, [0, 128], [0, 2048]);
    let batches = numbers(&args.batch, [1, 2], [1, 8]);
    let mut tasks = Vec::new();
    for &shape in &shapes {
        for &dtype in &dtypes {
            for &batch in &batches {
                // an encoder has no cache
                let caches = if shape.is_encoder() { &[0][..] } else { &caches };
                for &cache in caches {
                    for &prompt in &prompts {
                        let (prompt, cache, batch) = (prompt as usize, cache as usize, batch as usize);
                        tasks.push(Task { shape, dtype: dtype.into(), prompt, cache, batch });
                    }
                }
            }
        }
    }
    tasks
}

impl Setting<'_> {
    /// One cell, on a device of its own: so the most that was in use at once is this cell's.
    async fn measure(&self, task: &Task, source: &Source) -> Result<Cell, CliError> {
        let Self { args, shared, new_tokens, .. } = *self;
        let Task { shape, dtype, prompt: prompt_tokens, cache: cache_tokens, batch } = *task;
        let device = open_device(shared, |_| ()).await?;
        if shape.is_encoder() {
            let mut cell = encoder::measure(self, task, source, &device).await?;
            let done =
                |r: Roofline| cell.operations_per_token as f64 * median(&cell.prefill_tps) / r.operations_per_second;
            cell.prefill_share = self.roofline.map(done);
            return Ok(cell);
        }
        let load = LoadOptions {
            dtype,
            context: Some((cache_tokens + prompt_tokens + new_tokens) as u32),
            cache: shared.cache.options(),
            gpu_layers: shared.gpu_layers,
            ..LoadOptions::default()
        };
        let mut session = Session::open(&device, source, &load, |_| ()).await?;
        let vocab = session.engine().vocab_size();
        let (mut prefill_tps, mut decode_tps) = (Vec::new(), Vec::new());
        let numbers = 0..batch as u32;
        let caches: Vec<_> = numbers.clone().map(|number| prompt(cache_tokens, number, vocab)).collect();
        if cache_tokens > 0 {
            Box::pin(together(&mut session, &caches, 1, &self.interrupt)).await?;
        }
        // the first run records programs and compiles kernels
        for run in 0..=args.runs {
            // no run's prompts have the beginning of another's: they would be in the cache
            let salt = |number: u32| (run + 1) * batch as u32 + number;
            let after = |number: u32| prompt(prompt_tokens, salt(number), vocab);
            let prompts: Vec<_> =
                caches.iter().zip(numbers.clone()).map(|(c, n)| [&c[..], &after(n)].concat()).collect();
            let prefill = Box::pin(together(&mut session, &prompts, 1, &self.interrupt)).await?;
            // what prompts there are is in the cache by now
            let decode = Box::pin(together(&mut session, &prompts, new_tokens, &self.interrupt)).await?;
            let step_ms = decode.step_ms.ok_or(CliError::NothingFits)?;
            tracing::debug!(run, ?prefill, ?decode, "measured");
            if run > 0 {
                prefill_tps.push(prefill.prefill_tokens as f64 / prefill.prefill_ms.max(1e-6) * 1e3);
                decode_tps.push(batch as f64 / step_ms.max(1e-6) * 1e3);
            }
        }
        // figures of what runs otherwise than was asked are another cell's
        if session.offload().is_some() && shared.gpu_layers.is_none() || !session.engine().concessions().is_empty() {
            return Err(CliError::NothingFits);
        }
        let traffic = session.traffic();
        let live = (cache_tokens + prompt_tokens + new_tokens / 2) as u64;
        let bytes_per_step = traffic.weights + batch as u64 * traffic.cache(live);
        let share = |roofline: &Roofline| {
            bytes_per_step as f64 * median(&decode_tps) / batch as f64 / roofline.bytes_per_second
        };
        Ok(Cell {
            parameters: session.parameters(),
            dtype: session.precision().dtype.name().to_owned(),
            cache_dtype: session.precision().cache.name().to_owned(),
            new_tokens,
            memory: Peak::of(&device.ledger().snapshot()),
            bytes_per_step: Some(bytes_per_step),
            operations_per_token: 2 * traffic.parameters,
            prefill_share: self.roofline.map(|r| traffic.prefill_share(&r, median(&prefill_tps))),
            decode_share: self.roofline.as_ref().map(share),
            prefill_tps,
            decode_tps: Some(decode_tps),
            ..self.cell(task, &device)
        })
    }

    /// What is known of a cell before it is measured.
    pub fn cell(&self, task: &Task, device: &Device) -> Cell {
        let info = device.info();
        Cell {
            schema: SCHEMA,
            date: date::now(),
            commit: self.commit.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            browser: None,
            adapter: info.to_string(),
            driver: info.driver.clone(),
            kind: info.kind.to_owned(),
            shape: task.shape.name.to_owned(),
            parameters: 0,
            dtype: String::new(),
            cache_dtype: String::new(),
            prompt_tokens: task.prompt,
            cache_tokens: task.cache,
            batch: task.batch,
            new_tokens: 0,
            prefill_tps: Vec::new(),
            decode_tps: None,
            memory: Peak::of(&device.ledger().snapshot()),
            bytes_per_step: None,
            operations_per_token: 0,
            prefill_share: None,
            decode_share: None,
            roofline: self.roofline.as_ref().map(Rates::of),
            first_token: None,
        }
    }
}

/// What code this is: as the environment says, or git in the folder that this runs in.
fn commit() -> Option<String> {
    let given = env::var("WEBWEFT_COMMIT").ok();
    let told = given.or_else(|| {
        let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    Some(told.trim().to_owned()).filter(|commit| !commit.is_empty())
}

fn table(info: &AdapterInfo, roofline: Option<&Roofline>, cells: &[Cell]) -> String {
    let head = ["shape", "dtype", "prompt", "cache", "batch", "prefill", "decode", "arithmetic", "bandwidth", "memory"];
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let row = |c: &Cell| {
        vec![
            c.shape.clone(),
            c.dtype.clone(),
            c.prompt_tokens.to_string(),
            c.cache_tokens.to_string(),
            c.batch.to_string(),
            format!("{:.1}", median(&c.prefill_tps)),
            c.decode_tps.as_ref().map_or_else(|| "-".to_owned(), |tps| format!("{:.1}", median(tps))),
            share(c.prefill_share),
            share(c.decode_share),
            sizes::format(c.memory.peak),
        ]
    };
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned).to_vec()).chain(cells.iter().map(row)).collect();
    let rates = roofline.map(|roofline| Rates::of(roofline).describe()).unwrap_or_default();
    let what = "Tokens per second of all sequences together, medians; shares of the adapter's arithmetic (prefill) and bandwidth (decode)";
    format!("{info}\n{rates}\n{what}\n{}", columns(&rows, &[2, 3, 4, 5, 6, 7, 8, 9]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Matrix,
    }

    fn parsed(flags: &str) -> Matrix {
        Line::parse_from(["x", "--out", "f"].into_iter().chain(flags.split_whitespace())).args
    }

    #[test]
    fn the_matrix_goes_by_the_adapter_and_by_flags() {
        let count = |flags: &str, is_cpu| tasks(&parsed(flags), None, is_cpu).len();
        // the encoder has no caches
        assert_eq!([count("", true), count("", false)], [2 * 16 + 8, 4 * 16 + 8]);
        assert_eq!([count("--quick", true), count("--quick", false)], [2, 2]);
        assert_eq!(count("--quick --batch 1,2,4 --shapes 7B", true), 3);
        assert_eq!(count("--shapes minilm,Stories --prompts 7 --cache 0,64,128 --batch 1 --dtypes q4", true), 1 + 3);
        let large = |is_cpu| tasks(&parsed(""), None, is_cpu).iter().any(|task| task.shape.parameters() > 200_000_000);
        assert_eq!([large(true), large(false)], [false, true]);
        let one =
            tasks(&parsed("--shapes tiny --dtypes q8 --prompts 7 --cache 64 --batch 3"), Some(DtypeName::F32), true);
        let shape = "tiny".parse().expect("a shape");
        assert_eq!(one, [Task { shape, dtype: Dtype::Q8, prompt: 7, cache: 64, batch: 3 }]);
        let of_all = tasks(&parsed("--quick"), Some(DtypeName::F32), false);
        assert!(of_all.iter().all(|task| task.dtype == Dtype::F32));
    }
}
