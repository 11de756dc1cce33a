//! `embed`: texts to vectors.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use serde_json::json;
use webweft::encode::{FeatureOptions, Pooling};
use webweft::session::FeatureExtractor;

use crate::args::Shared;
use crate::errors::CliError;
use crate::open::Place;
use crate::output::OutputFile;
use crate::prompts::read_text;
use crate::stats::memory_table;
use crate::stdout::{write, write_line};
use crate::table::columns;

const EXAMPLES: &str = "\
Without --json and --output, one text gives its vector, and several give how near they are to one another: the cosine of each pair.
Texts that are longer than the model takes are cut.

Examples:
  native-runner embed --model sentence-transformers/all-MiniLM-L6-v2 \"A cat sat.\" \"A feline rested.\" \"GPUs are fast.\"
  native-runner embed --model MODEL --file sentences.txt --json > vectors.jsonl
  native-runner embed --model MODEL --file - --output vectors.safetensors < sentences.txt

Exit codes: 0 done, 1 failed, 2 wrong command line";

/// `embed`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Embed {
    /// The texts; with --file they come first
    #[arg(value_name = "TEXT", required_unless_present = "file")]
    pub texts: Vec<String>,
    /// The model, an encoder: a folder, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// A file of texts, one in each line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What stands for a text: the mean of its tokens, or the first one
    #[arg(long, value_enum, default_value_t = PoolingName::Mean)]
    pub pooling: PoolingName,
    /// Keep vectors as long as they come, and do not divide by their length
    #[arg(long)]
    pub no_normalize: bool,
    /// The most tokens of a text [default: what the tokenizer and the model say]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    pub context: Option<u32>,
    /// The most tokens in one step, of all texts together [default: 512, fewer for large models]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prefill_chunk: Option<u32>,
    /// One JSON object per line: `text`, `tokens`, `embedding`
    #[arg(long)]
    pub json: bool,
    /// A safetensors file for the vectors: `embeddings`, [texts, width]; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--pooling`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PoolingName {
    /// The mean of all tokens
    Mean,
    /// The first token
    Cls,
}

/// Texts that are encoded together: so many that the GPU is kept busy, and results come as they are made.
const TOGETHER: usize = 256;

/// Runs it.
pub fn run(args: &Embed, shared: &Shared) -> Result<ExitCode, CliError> {
    let mut texts = args.texts.clone();
    if let Some(path) = &args.file {
        let text = read_text(path)?;
        texts.extend(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
        if texts.is_empty() {
            return Err(CliError::NoPrompts { path: path.clone() });
        }
    }
    pollster::block_on(embed(args, shared, &texts))?;
    Ok(ExitCode::SUCCESS)
}

async fn embed(args: &Embed, shared: &Shared, texts: &[String]) -> Result<(), CliError> {
    let output = args.output.as_deref().map(OutputFile::create).transpose()?;
    let model = args.model.as_deref().ok_or(CliError::NoEncoder)?;
    let place = Place::find(Some(model), shared).await?;
    let (mut extractor, device, load_ms) = place.open_encoder(shared, args.context, args.prefill_chunk).await?;
    let pooling = match args.pooling {
        PoolingName::Mean => Pooling::Mean,
        PoolingName::Cls => Pooling::Cls,
    };
    let options = FeatureOptions { pooling, normalize: !args.no_normalize };
    let started = Instant::now();
    let (mut vectors, mut tokens) = (Vec::new(), 0);
    for some in texts.chunks(TOGETHER) {
        let encoded = some.iter().map(|text| extractor.encode(text.as_str())).collect::<Result<Vec<_>, _>>()?;
        let made = extractor.features_of(&encoded, options).await?;
        for ((text, encoded), vector) in some.iter().zip(&encoded).zip(&made) {
            tokens += encoded.ids.len();
            if args.json {
                write_line(&json!({ "text": text, "tokens": encoded.ids.len(), "embedding": vector }))?;
            }
        }
        vectors.extend(made);
    }
    let elapsed = started.elapsed().as_secs_f64();
    if let Some(output) = output {
        let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
        output.write(&[("embeddings", &[vectors.len(), extractor.dim()], &bytes)])?;
    } else if !args.json {
        write(&told(texts, &vectors, options.normalize))?;
    }
    if shared.stats {
        let speed = tokens as f64 / elapsed;
        let done = format!("{} texts, {tokens} tokens, {:.1} ms, {speed:.1} tokens/s", texts.len(), elapsed * 1e3);
        let _ = io::stderr().write_all(stats(&extractor, &device, load_ms, &done).as_bytes());
    }
    crate::open::write_memory(&device, shared, extractor)
}

/// Adapter, dtype, times and memory, as `--stats` has them.
pub fn stats(extractor: &FeatureExtractor, device: &webweft::device::Device, load_ms: f64, done: &str) -> String {
    format!(
        "{:12} {:>14}\n{:12} {:>14}\n{:12} {:>14}\n{:12} {done}\n{}",
        "adapter",
        device.info().to_string(),
        "dtype",
        extractor.engine().precision().dtype.name(),
        "load",
        format!("{load_ms:.1} ms"),
        "forward",
        memory_table(&device.ledger().snapshot()),
    )
}

/// For people: one vector, or how near several are to one another.
fn told(texts: &[String], vectors: &[Vec<f32>], normalized: bool) -> String {
    if let [vector] = vectors {
        return vector.iter().map(|v| format!("{v:.6}")).collect::<Vec<_>>().join(" ") + "\n";
    }
    let length = |v: &[f32]| if normalized { 1.0 } else { dot(v, v).sqrt().max(1e-12) };
    let shown = |text: &str| match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    };
    let mut rows = vec![std::iter::once(String::new()).chain((1..=vectors.len()).map(|n| n.to_string())).collect()];
    for (number, (text, a)) in texts.iter().zip(vectors).enumerate() {
        let near = vectors.iter().map(|b| format!("{:.3}", dot(a, b) / length(a) / length(b)));
        rows.push(std::iter::once((number + 1).to_string()).chain(near).chain([shown(text)]).collect::<Vec<_>>());
    }
    columns(&rows, &(0..=vectors.len()).collect::<Vec<_>>())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
