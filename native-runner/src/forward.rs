//! `forward`: the model once over the tensors of a file.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use webweft::encode::Tokens;
use webweft::managers;

use crate::args::{Forward, Shared};
use crate::embed;
use crate::errors::CliError;
use crate::open::{Place, write_memory};
use crate::output::{OutputFile, Tensor};
use crate::stats::memory_table;
use crate::tensors::Inputs;

/// Runs it, each row by itself.
pub fn run(args: &Forward, shared: &Shared) -> Result<ExitCode, CliError> {
    let inputs = Inputs::read(&args.input)?;
    let output = OutputFile::create(&args.output)?;
    pollster::block_on(forward(args, shared, &inputs, output))?;
    Ok(ExitCode::SUCCESS)
}

async fn forward(args: &Forward, shared: &Shared, inputs: &Inputs, output: OutputFile) -> Result<(), CliError> {
    let place = Place::find(Some(&args.model), shared).await?;
    if managers::task(&place.source).await? == "feature-extraction" {
        return encode(args, shared, inputs, output, place).await;
    }
    let mut opened = place.open(shared, args.context, args.prefill_chunk).await?;
    opened.warn_of_extra(shared);
    if inputs.has_types() {
        let problem = "`token_type_ids` are for encoders, and this model is none".to_owned();
        return Err(CliError::Input { path: args.input.clone(), problem });
    }
    let engine = opened.session.engine();
    let (vocab, hidden) = (engine.vocab_size(), engine.hidden_size());
    let bad = |problem| CliError::Input { path: args.input.clone(), problem };
    // every row is checked before the first one runs
    let rows: Vec<_> = (0..inputs.rows).map(|row| inputs.row(row, vocab)).collect::<Result<_, _>>().map_err(bad)?;
    let mut logits = Rows::new(inputs, vocab)?;
    let mut last_hidden_state = Rows::new(inputs, hidden)?;

    let started = Instant::now();
    let mut tokens = 0;
    for (row, (span, ids)) in rows.into_iter().enumerate() {
        let made = opened.session.forward(&ids).await?;
        logits.put(row, span.start, &made.logits);
        last_hidden_state.put(row, span.start, &made.last_hidden_state);
        tokens += ids.len();
    }
    let elapsed = started.elapsed().as_secs_f64();
    output.write(&[logits.as_tensor("logits"), last_hidden_state.as_tensor("last_hidden_state")])?;

    if shared.stats {
        let speed = tokens as f64 / elapsed;
        let text = format!(
            "{:12} {:>14}\n{:12} {:>14}\n{:12} {:>14}\n{:12} {:>14}  {tokens} tokens, {speed:.1} tokens/s\n{}",
            "adapter",
            opened.device.info().to_string(),
            "dtype",
            opened.session.precision().dtype.name(),
            "load",
            format!("{:.1} ms", opened.load_ms),
            "forward",
            format!("{:.1} ms", elapsed * 1e3),
            memory_table(&opened.device.ledger().snapshot()),
        );
        let _ = io::stderr().write_all(text.as_bytes());
    }
    opened.finish(shared)
}

/// As [`forward`], of an encoder: all rows together.
async fn encode(
    args: &Forward,
    shared: &Shared,
    inputs: &Inputs,
    output: OutputFile,
    place: Place,
) -> Result<(), CliError> {
    let (mut extractor, device, load_ms) = place.open_encoder(shared, args.context, args.prefill_chunk).await?;
    let config = extractor.engine().config();
    let (vocab, kinds, hidden) = (config.vocab_size, config.type_vocab_size, config.hidden_size);
    let bad = |problem| CliError::Input { path: args.input.clone(), problem };
    let row = |row| {
        let (span, ids) = inputs.row(row, vocab)?;
        Ok((span, Tokens { ids, type_ids: inputs.types(row, kinds)? }))
    };
    let rows: Vec<_> = (0..inputs.rows).map(row).collect::<Result<_, _>>().map_err(bad)?;
    let mut last_hidden_state = Rows::new(inputs, hidden)?;
    let mut pooler_output = Vec::new();

    let started = Instant::now();
    let mut tokens = 0;
    for (row, (span, text)) in rows.iter().enumerate() {
        let made = extractor.forward(text).await?;
        last_hidden_state.put(row, span.start, &made.last_hidden_state);
        pooler_output.extend(made.pooler_output.into_iter().flatten().flat_map(f32::to_le_bytes));
        tokens += text.ids.len();
    }
    let elapsed = started.elapsed().as_secs_f64();
    let mut tensors = vec![last_hidden_state.as_tensor("last_hidden_state")];
    let shape = [inputs.rows, hidden as usize];
    if !pooler_output.is_empty() {
        tensors.push(("pooler_output", &shape, &pooler_output));
    }
    output.write(&tensors)?;
    if shared.stats {
        let speed = tokens as f64 / elapsed;
        let done = format!("{:.1} ms, {tokens} tokens, {speed:.1} tokens/s", elapsed * 1e3);
        let _ = io::stderr().write_all(embed::stats(&extractor, &device, load_ms, &done).as_bytes());
    }
    write_memory(&device, shared, extractor)
}

/// `[B, S, width]` in f32, as the bytes of the file.
struct Rows {
    shape: [usize; 3],
    bytes: Vec<u8>,
}

impl Rows {
    /// Zeros.
    fn new(inputs: &Inputs, width: u32) -> Result<Self, CliError> {
        let shape = [inputs.rows, inputs.columns, width as usize];
        let elements = shape.iter().map(|&size| size as u128).product::<u128>();
        let too_large = || CliError::TooLarge { elements };
        let size = usize::try_from(elements * 4).map_err(|_| too_large())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| too_large())?;
        bytes.resize(size, 0);
        Ok(Self { shape, bytes })
    }

    /// Puts what a row gave at its positions, the first of which is `from`.
    fn put(&mut self, row: usize, from: usize, values: &[f32]) {
        let [_, columns, width] = self.shape;
        let at = (row * columns + from) * width * 4;
        for (to, value) in self.bytes[at..].as_chunks_mut().0.iter_mut().zip(values) {
            *to = value.to_le_bytes();
        }
    }

    fn as_tensor<'a>(&'a self, name: &'a str) -> Tensor<'a> {
        (name, &self.shape, &self.bytes)
    }
}
