//! `--profile`: settings of a file, where the command line has none.

use std::fs;
use std::path::Path;

use serde_json::Value;
use webweft::generate::GenerateOptions;
use webweft::managers::Profile;

use crate::args::{Cli, Command, DtypeName, Shared};
use crate::errors::CliError;

/// What the file says goes where the command line says nothing.
pub fn apply(cli: &mut Cli) -> Result<(), CliError> {
    let Some(path) = cli.shared.profile.clone() else { return Ok(()) };
    let mut profile = read(&path)?;
    let given = match &cli.command {
        Command::Forward(args) => Some(args.model.clone()),
        Command::Quantize(args) => Some(args.model.clone()),
        _ => model(&mut cli.command).and_then(|model| model.clone()),
    };
    if let Some(given) = given {
        profile = profile.of_model(&given);
    }
    if let Some(model) = model(&mut cli.command) {
        fill(model, profile.model.take());
    }
    open(&mut cli.shared, &mut profile);
    let (context, chunk) = (profile.context, profile.prefill_chunk);
    match &mut cli.command {
        Command::Generate(args) => {
            fill(&mut args.context, context);
            fill(&mut args.prefill_chunk, chunk);
            if args.batch.file.is_some() && args.batch.batch.is_none() {
                fill(&mut args.batch.batch_strategy, profile.batch_strategy);
            }
        }
        Command::Chat(args) => {
            fill(&mut args.context, context);
            fill(&mut args.prefill_chunk, chunk);
        }
        Command::Forward(args) => {
            fill(&mut args.context, context);
            fill(&mut args.prefill_chunk, chunk);
        }
        Command::Embed(args) => {
            fill(&mut args.context, context);
            fill(&mut args.prefill_chunk, chunk);
        }
        Command::Bench(args) => {
            fill(&mut args.context, context);
            fill(&mut args.prefill_chunk, chunk);
        }
        Command::Tune(args) => {
            fill(&mut args.context, context);
            fill(&mut args.prefill_chunk, chunk);
        }
        Command::Inspect(args) => fill(&mut args.context, context),
        Command::Validate(args) => {
            fill(&mut args.context, context);
            // it takes lists of these
            if let ([DtypeName::Usual], Some(dtype)) = (&args.dtype[..], profile.dtype.and_then(DtypeName::of)) {
                args.dtype = vec![dtype];
            }
            if args.cache_dtype.is_empty() {
                args.cache_dtype.extend(profile.cache_dtype);
            }
            if args.cache_policy.is_empty() {
                args.cache_policy.extend(profile.cache_policy);
            }
        }
        Command::Quantize(_) | Command::Devices(_) => {}
    }
    Ok(())
}

fn fill<T>(argument: &mut Option<T>, said: Option<T>) {
    if argument.is_none() {
        *argument = said;
    }
}

/// What all commands have.
fn open(shared: &mut Shared, profile: &mut Profile) {
    fill(&mut shared.dtype, profile.dtype.and_then(DtypeName::of));
    fill(&mut shared.max_gpu_memory, profile.max_memory);
    fill(&mut shared.gpu_layers, profile.gpu_layers);
    fill(&mut shared.revision, profile.revision.take());
    fill(&mut shared.gguf_file, profile.gguf_file.take());
    fill(&mut shared.cache.cache_dtype, profile.cache_dtype);
    fill(&mut shared.cache.cache_policy, profile.cache_policy);
    shared.generation = std::mem::take(&mut profile.generation);
}

/// The model that the command takes, where it is not one that must be given.
fn model(command: &mut Command) -> Option<&mut Option<String>> {
    match command {
        Command::Generate(args) => Some(&mut args.model),
        Command::Chat(args) => Some(&mut args.model),
        Command::Embed(args) => Some(&mut args.model),
        Command::Inspect(args) => Some(&mut args.model),
        Command::Bench(args) => Some(&mut args.model),
        Command::Tune(args) => Some(&mut args.model),
        Command::Validate(args) => Some(&mut args.model),
        Command::Forward(_) | Command::Quantize(_) | Command::Devices(_) => None,
    }
}

/// Reads a file of YAML, of which JSON is a part.
fn read(path: &Path) -> Result<Profile, CliError> {
    let wrong = |problem: String| CliError::Profile { path: path.into(), problem };
    let text = fs::read_to_string(path).map_err(|source| CliError::ProfileFile { path: path.into(), source })?;
    let json: Value = serde_saphyr::from_str(&text).map_err(|error| wrong(error.without_snippet().to_string()))?;
    let profile = Profile::from_json(&json).map_err(|error| wrong(error.to_string()))?;
    GenerateOptions::check_settings(&profile.generation).map_err(|error| wrong(error.to_string()))?;
    Ok(profile)
}
