//! Batch after batch.

use webweft::device::Category;
use webweft::error::{DeviceError, Error};
use webweft::managers::tune::{Point, next};

use super::Tune;
use crate::args::Shared;
use crate::bench::median;
use crate::errors::CliError;
use crate::interrupt::Interrupt;
use crate::open::Opened;
use crate::progress::Bar;
use crate::together::{prompt, together};

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
            opened.session.engine_mut().reset();
            let ran = Box::pin(together(&mut opened.session, &prompts, new_tokens, interrupt)).await;
            match ran.map(|ran| ran.step_ms) {
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
