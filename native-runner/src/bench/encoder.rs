//! A cell of `bench matrix` for an encoder: texts to vectors.

use std::time::Instant;

use webweft::device::Device;
use webweft::encode::{FeatureOptions, Pooling, Tokens};
use webweft::session::{FeatureExtractor, LoadOptions};
use webweft::source::Source;

use super::matrix::{Setting, Task};
use super::record::{Cell, Peak};
use crate::errors::CliError;
use crate::together::prompt;

/// Measures it, on a device of its own.
pub async fn measure(setting: &Setting<'_>, task: &Task, source: &Source, device: &Device) -> Result<Cell, CliError> {
    let load = LoadOptions { dtype: task.dtype, ..LoadOptions::default() };
    let mut extractor = FeatureExtractor::open(device, source, &load, |_| ()).await?;
    let (vocab, operations_per_token) = task.shape.encoder_sizes();
    let options = FeatureOptions { pooling: Pooling::Mean, normalize: true };
    let mut prefill_tps = Vec::new();
    // the first run records programs and compiles kernels
    for run in 0..=setting.args.runs {
        setting.interrupt.check()?;
        let number = |text: usize| (run as usize * task.batch + text) as u32;
        let texts: Vec<_> =
            (0..task.batch).map(|text| Tokens::from(prompt(task.prompt, number(text), vocab))).collect();
        let started = Instant::now();
        extractor.features_of(&texts, options).await?;
        if run > 0 {
            prefill_tps.push((task.batch * task.prompt) as f64 / started.elapsed().as_secs_f64().max(1e-9));
        }
    }
    let precision = extractor.engine().precision();
    Ok(Cell {
        parameters: extractor.parameters(),
        dtype: precision.dtype.name().to_owned(),
        cache_dtype: precision.cache.name().to_owned(),
        prefill_tps,
        operations_per_token,
        memory: Peak::of(&device.ledger().snapshot()),
        ..setting.cell(task, device)
    })
}
