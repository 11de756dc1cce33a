//! Batch after batch.

use std::collections::HashMap;
use std::time::Instant;

use webweft::device::Category;
use webweft::error::{DeviceError, Error};
use webweft::generate::{Event, GenerateOptions};
use webweft::managers::batch::Strategy;
use webweft::managers::tune::{Point, next};

use super::Tune;
use crate::args::Shared;
use crate::bench::median;
use crate::errors::CliError;
use crate::interrupt::Interrupt;
use crate::open::Opened;
use crate::progress::Bar;

/// Runs of a batch that count; one more comes first, and compiles kernels.
const RUNS: usize = 3;

/// Every batch size that is worth it; `told` hears of each.
pub async fn all(
    args: &Tune,
    shared: &Shared,
    opened: &mut Opened,
    interrupt: &Interrupt,
    told: impl Fn(&Point) -> Result<(), CliError>,
) -> Result<Vec<Point>, CliError> {
    let (context, vocab) = (opened.session.engine().context(), opened.session.engine().vocab_size());
    let (prompt_tokens, new_tokens) = (args.prompt_tokens as usize, args.new_tokens as usize);
    if prompt_tokens + new_tokens > context {
        return Err(CliError::BeyondContext { prompt_tokens, new_tokens, context });
    }
    let ledger = opened.device.ledger().snapshot();
    let others = ledger.total - ledger.of(Category::Cache);
    let memory = opened.device.memory_limit().map(|limit| limit.saturating_sub(others));
    let bar = Bar::new(shared, "{msg} {wide_bar} {pos}/{len} runs", "", RUNS + 1);
    let mut points = Vec::new();
    while let Some(batch) = next(&points, args.max_batch, memory) {
        let prompts: Vec<Vec<u32>> = (0..batch).map(|n| prompt(prompt_tokens, n, vocab)).collect();
        let mut steps = Vec::new();
        for run in 0..=RUNS {
            bar.set(run, format!("{batch} at once"));
            match Box::pin(one(opened, &prompts, new_tokens, interrupt)).await {
                Ok(Some(_)) if run == 0 => {}
                Ok(Some(step_ms)) => steps.push(step_ms),
                // memory ends here: some waited for others, or there was no room at all
                Ok(None) => return Ok(points),
                Err(CliError::Engine(Error::Device(DeviceError::OutOfMemory { .. }))) => return Ok(points),
                Err(error) => return Err(error),
            }
        }
        let step_ms = median(&steps);
        let bytes = opened.device.ledger().snapshot().of(Category::Cache);
        let point = Point { batch, step_ms, tokens_per_s: f64::from(batch) / step_ms.max(1e-6) * 1e3, bytes };
        bar.hide(|| told(&point))?;
        points.push(point);
    }
    Ok(points)
}

/// A prompt whose beginning no other one has.
fn prompt(tokens: usize, number: u32, vocab: u32) -> Vec<u32> {
    (0..tokens as u64).map(|i| ((i * 37 + 11 + u64::from(number) * 101) % u64::from(vocab)) as u32).collect()
}

/// Milliseconds of a step while all decode: from the first token of the last of them to the first end; `None` where they did not all run
/// at once.
async fn one(
    opened: &mut Opened,
    prompts: &[Vec<u32>],
    new: usize,
    interrupt: &Interrupt,
) -> Result<Option<f64>, CliError> {
    let session = &mut opened.session;
    session.engine_mut().reset();
    session.set_strategy(Strategy::Fixed { sequences: prompts.len() as u32 });
    // each one's tokens so far
    let mut counts = HashMap::new();
    for prompt in prompts {
        let options = GenerateOptions { max_new_tokens: new, ..GenerateOptions::default() };
        counts.insert(session.add(prompt.as_slice(), options)?, 0usize);
    }
    let (mut began, mut took, mut ended): (Option<(Instant, usize)>, Option<f64>, usize) = (None, None, 0);
    while ended < prompts.len() {
        interrupt.check()?;
        for (id, event) in session.step().await? {
            match event {
                Event::Piece(_) => *counts.entry(id).or_default() += 1,
                Event::Finished { .. } => ended += 1,
                Event::Failed(error) => return Err(error.into()),
            }
        }
        let tokens = counts.values().sum::<usize>();
        match began {
            None if ended == 0 && counts.values().all(|&count| count > 0) => began = Some((Instant::now(), tokens)),
            Some((at, before)) if took.is_none() && ended > 0 => {
                let steps = (tokens - before) as f64 / prompts.len() as f64;
                took = Some(at.elapsed().as_secs_f64() * 1e3 / steps).filter(|ms| ms.is_finite());
            }
            _ => {}
        }
    }
    Ok(took)
}
