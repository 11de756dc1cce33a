//! `native-runner quantize`: a checkpoint's weights in few bits, as a folder that every target opens as it opens a checkpoint.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use webweft::checkpoint::{Checkpoint, find_gguf, read_json};
use webweft::managers::Dtype;
use webweft::session::Session;
use webweft::source::Source;

use crate::args::{DtypeName, Quantize, Shared};
use crate::errors::CliError;
use crate::model::ModelSpec;
use crate::open::open;
use crate::output::OutputFile;
use crate::sizes;
use crate::table::columns;

/// Files beside the weights, as far as a model has them.
const BESIDE: [&str; 13] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];
/// Largest of them.
const MOST: u64 = 1 << 30;
/// Largest `config.json`.
const MAX_CONFIG: u64 = 4 << 20;
const WEIGHTS: &str = "model.safetensors";

/// Runs it.
pub fn run(args: &Quantize, shared: &Shared) -> Result<ExitCode, CliError> {
    pollster::block_on(quantize(args, shared))
}

async fn quantize(args: &Quantize, shared: &Shared) -> Result<ExitCode, CliError> {
    // before anything is downloaded or computed
    let out = Folder::create(&args.output, args.force)?;
    let dtype = shared.dtype.filter(|dtype| !matches!(dtype, DtypeName::Auto)).unwrap_or(DtypeName::Q4);
    let shared = Shared { dtype: Some(dtype), ..shared.clone() };
    let spec = ModelSpec::parse(Some(&args.model), shared.revision.as_deref())?;
    let seen = spec.look(shared.gguf_file.as_deref()).await?;
    if let Some(file) = find_gguf(&seen).await.map_err(webweft::error::Error::from)? {
        return Err(CliError::QuantizeGguf { file });
    }
    let mut opened = open(Some(&args.model), &shared, Some(1), None).await?;
    let source = spec.source(shared.gguf_file.as_deref(), &mut |_| ()).await?;

    let mut weights = OutputFile::create(&out.path.join(WEIGHTS))?;
    let mut image = opened.session.image();
    let written = image.size();
    while let Some(bytes) = image.next().await? {
        weights.append(&bytes)?;
    }
    weights.finish()?;
    for name in BESIDE {
        if let Some(bytes) = source.read_all(name, MOST).await? {
            out.write(name, &bytes)?;
        }
    }
    // last: without it the folder is no model
    let mut config = read_json(&source, "config.json", MAX_CONFIG).await.map_err(webweft::error::Error::from)?;
    if let Some(config) = config.as_mut().and_then(Value::as_object_mut) {
        let dtype = opened.session.precision().dtype.name();
        config.insert("quantization_config".into(), json!({ "quant_method": "webweft", "dtype": dtype, "version": 1 }));
    }
    let text = serde_json::to_string_pretty(&config.unwrap_or_default())
        .map_err(|error| out.failed("config.json")(error.into()))?;
    out.write("config.json", (text + "\n").as_bytes())?;
    let stored = stored(&source, &opened.session).await?;
    if !shared.quiet {
        report(&opened.session, &args.output, stored, written)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of the checkpoint's weights.
async fn stored(source: &Source, session: &Session) -> Result<u64, CliError> {
    let checkpoint = Checkpoint::open(source).await.map_err(webweft::error::Error::from)?;
    debug_assert_eq!(checkpoint.files(), session.files());
    Ok(checkpoint.in_byte_order().map(|info| info.range.end - info.range.start).sum())
}

fn report(session: &Session, folder: &Path, stored: u64, written: u64) -> Result<(), CliError> {
    let dtype = session.precision().dtype;
    let mut rows = vec![["format", "parts", "bytes"].map(str::to_owned).to_vec()];
    let mut formats: Vec<(String, usize, u64)> = Vec::new();
    for (name, tensors, bytes) in session.formats() {
        match formats.iter_mut().find(|format| format.0 == name) {
            Some(format) => {
                format.1 += tensors;
                format.2 += bytes;
            }
            None => formats.push((name, tensors, bytes)),
        }
    }
    formats.sort_by_key(|format| std::cmp::Reverse(format.2));
    rows.extend(
        formats.into_iter().map(|(name, tensors, bytes)| vec![name, tensors.to_string(), sizes::format(bytes)]),
    );
    let text = format!(
        "{}\n{} of weights, were {}: {:.3} of it\nrun it: native-runner generate \"Once upon a time\" --model {}{}\n",
        columns(&rows, &[1, 2]),
        sizes::format(written),
        sizes::format(stored),
        written as f64 / stored.max(1) as f64,
        folder.display(),
        if dtype == Dtype::F32 { " (nothing was quantized: --dtype says how)" } else { "" },
    );
    let mut err = io::stderr().lock();
    err.write_all(text.as_bytes()).map_err(CliError::Stdout)
}

/// The folder that is written.
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new one, or one that is there and empty; with `force` one that is not.
    fn create(path: &Path, force: bool) -> Result<Self, CliError> {
        let failed = |source| CliError::OutputFile { path: path.into(), source };
        fs::create_dir_all(path).map_err(failed)?;
        if !force && fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(CliError::NotEmpty { path: path.into() });
        }
        Ok(Self { path: path.into() })
    }

    fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> CliError {
        let path = self.path.join(name);
        move |source| CliError::OutputFile { path, source }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CliError> {
        fs::write(self.path.join(name), bytes).map_err(self.failed(name))
    }
}
