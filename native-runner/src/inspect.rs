//! `inspect`: what a model is, and what it would take, from its headers.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use webweft::device::{AdapterInfo, find_adapter};
use webweft::error::DeviceError;
use webweft::managers::{Architecture, Inspection, Wanted, inspect};

use crate::args::{Inspect, Shared};
use crate::built_in;
use crate::errors::CliError;
use crate::model::ModelSpec;
use crate::open::device_options;
use crate::sizes;
use crate::table::{columns, number};

/// `--json`.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    model: &'a Inspection,
    adapter: Option<Adapter<'a>>,
    /// `--max-gpu-memory`
    budget: Option<u64>,
}

/// Whose limits count.
#[derive(Serialize)]
struct Adapter<'a> {
    name: &'a str,
    backend: &'a str,
    kind: &'a str,
    max_binding: u64,
    max_buffer: u64,
}

/// Looks, and tells.
pub fn run(args: &Inspect, shared: &Shared) -> Result<ExitCode, CliError> {
    pollster::block_on(show(args, shared))
}

async fn show(args: &Inspect, shared: &Shared) -> Result<ExitCode, CliError> {
    let spec = ModelSpec::parse(args.model.as_deref(), shared.revision.as_deref())?;
    let source = spec.look(shared.gguf_file.as_deref()).await?;
    let adapter = match find_adapter(&device_options(shared)).await {
        Ok(adapter) => Some(adapter),
        // the model can be looked at without one
        Err(DeviceError::NoAdapter { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let wanted = Wanted {
        budget: shared.max_gpu_memory,
        context: args.context,
        cache: shared.cache.options(),
        gpu_layers: shared.gpu_layers,
        ..Wanted::default()
    };
    let mut model = inspect(&source, adapter.as_ref(), wanted).await?;
    if args.model.is_none() {
        built_in::NAME.clone_into(&mut model.place);
    }
    let text = if args.json {
        let adapter = adapter.as_ref().map(|a| Adapter {
            name: &a.name,
            backend: &a.backend,
            kind: a.kind,
            max_binding: a.max_binding,
            max_buffer: a.max_buffer,
        });
        let line = Line { model: &model, adapter, budget: shared.max_gpu_memory };
        serde_json::to_string(&line).map_err(|error| CliError::Stdout(error.into()))? + "\n"
    } else {
        report(&model, adapter.as_ref(), shared.max_gpu_memory)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

fn report(model: &Inspection, adapter: Option<&AdapterInfo>, budget: Option<u64>) -> String {
    let bold = |text: &str| if colours() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let mut text = format!("{}\n", bold(&model.place));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let model_type = model.model_type.as_deref().unwrap_or("no model_type");
    let class =
        if model.architectures.is_empty() { String::new() } else { format!(" ({})", model.architectures.join(", ")) };
    let mut rows = vec![row("architecture", format!("{model_type}{class}"))];
    if let Some(architecture) = &model.architecture {
        let generates = model.task != Some("feature-extraction");
        rows.extend(
            describe(architecture, model.parameters, generates).into_iter().map(|(name, value)| row(name, value)),
        );
    } else if model.parameters > 0 {
        rows.push(row("stored elements", number(model.parameters)));
    }
    if let Some(method) = model.quantization {
        rows.push(row("quantized", format!("{method}: its layers keep their bits at every dtype")));
    }
    rows.push(match &model.tokenizer {
        Some(t) => row("tokenizer", format!("{}, {} tokens", t.kind, number(t.vocab_size as u64))),
        None => row("tokenizer", "none: token ids only".into()),
    });
    rows.extend(model.task.map(|task| row("task", task.into())));
    rows.push(match model.chat_templates.as_slice() {
        [] => row("chat template", "none: not a chat model".into()),
        [_] => row("chat template", "yes".into()),
        names => row("chat templates", names.join(", ")),
    });
    text += &columns(&rows, &[]);

    if !model.files.is_empty() {
        let mut rows = vec![["file", "tensors", "size"].map(str::to_owned).to_vec()];
        rows.extend(
            model.files.iter().take(8).map(|f| vec![f.name.clone(), f.tensors.to_string(), sizes::format(f.bytes)]),
        );
        if model.files.len() > 8 {
            rows.push(vec![format!("and {} more", model.files.len() - 8)]);
        }
        for stored in &model.stored {
            rows.push(vec![format!("  in {}", stored.dtype), stored.tensors.to_string(), sizes::format(stored.bytes)]);
        }
        text += &format!("\n{}", columns(&rows, &[1, 2]));
    }
    if !model.on_gpu.is_empty() {
        text += &format!("\n{}", on_gpu(model));
        if let Some(recommendation) = &model.recommendation {
            let (title, reason) =
                (if recommendation.dtype.is_some() { "recommended:" } else { "none fits:" }, &recommendation.reason);
            text += &format!("\n{} {reason}\n", bold(title));
        }
        text += &format!("\n{}", describe_adapter(adapter, budget));
    }
    for problem in &model.problems {
        text += &format!("\n{} {problem}\n", bold("cannot be loaded:"));
    }
    text
}

fn describe(a: &Architecture, parameters: u64, generates: bool) -> Vec<(&'static str, String)> {
    let tied = match a.tied {
        _ if !generates => "s",
        true => ", which is the output head",
        false => " and output head",
    };
    let windows = match a.windows.len() {
        0 => "none: every layer sees all positions".to_owned(),
        _ => a
            .windows
            .iter()
            .map(|(w, n)| format!("{} positions in {n} of {} layers", number((*w).into()), a.layers))
            .collect::<Vec<_>>()
            .join(", "),
    };
    vec![
        (
            "parameters",
            format!("{}, of them {} in embedding{tied}", number(parameters), number(a.embedding_parameters)),
        ),
        ("layers", a.layers.to_string()),
        ("hidden size", number(a.hidden_size.into())),
        ("heads", format!("{} queries, {} keys and values, {} wide", a.heads, a.kv_heads, a.head_dim)),
        ("feed-forward", number(a.intermediate_size.into())),
        ("vocabulary", number(a.vocab_size.into())),
        ("context", format!("{} positions", number(a.context.into()))),
        ("positions", a.positions.clone()),
        ("sliding windows", windows),
    ]
}

/// Every dtype: what it takes with the context that is wanted, how fast and how good it is.
fn on_gpu(model: &Inspection) -> String {
    if model.recommendation.is_none() {
        return encoder_on_gpu(model);
    }
    let head = [
        "on the GPU as",
        "weights",
        "cache",
        "of",
        "activations",
        "while loading",
        "at most",
        "longest",
        "speed",
        "perplexity",
        "fits",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let recommendation = model.recommendation.as_ref();
    for f in recommendation.into_iter().flat_map(|r| &r.formats) {
        let chosen = if recommendation.is_some_and(|r| r.dtype == Some(f.dtype)) { " (auto)" } else { "" };
        let fits = match (&f.why_not, &f.offload) {
            (None, _) => "yes".to_owned(),
            (Some(_), Some(offload)) => format!("in part: of the layers {offload}"),
            (Some(why), None) => format!("no: {why}"),
        };
        rows.push(vec![
            format!("{}{chosen}", f.dtype),
            sizes::format(f.weights),
            sizes::format(f.cache),
            number(f.context.into()),
            sizes::format(f.activations),
            sizes::format(f.staging),
            sizes::format(f.total),
            number(f.longest_context.into()),
            format!("x{:.2}", f.relative_speed),
            f.perplexity.map_or("as stored".to_owned(), |ratio| format!("x{ratio:.3}")),
            fits,
        ]);
    }
    columns(&rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9])
}

/// As [`on_gpu`], of a model that keeps nothing of a text.
fn encoder_on_gpu(model: &Inspection) -> String {
    let mut rows = vec![["on the GPU as", "weights", "longest", "fits"].map(str::to_owned).to_vec()];
    for size in &model.on_gpu {
        let chosen = if model.auto == Some(size.dtype) { " (auto)" } else { "" };
        rows.push(vec![
            format!("{}{chosen}", size.dtype),
            sizes::format(size.weights),
            number(size.context.into()),
            size.note.as_ref().map_or("yes".to_owned(), |why| format!("no: {why}")),
        ]);
    }
    columns(&rows, &[1, 2])
}

fn describe_adapter(adapter: Option<&AdapterInfo>, budget: Option<u64>) -> String {
    let Some(adapter) = adapter else {
        return "No GPU adapter was found: `fits` does not know its limits. See `native-runner devices`.\n".to_owned();
    };
    let (binding, buffer) = (sizes::format(adapter.max_binding), sizes::format(adapter.max_buffer));
    let memory = match budget {
        Some(budget) => {
            format!("Budget: {}.", sizes::format(budget))
        }
        None => "How much memory it has, no adapter tells: give --max-gpu-memory to check that, too.".to_owned(),
    };
    format!("{adapter}: bindings up to {binding}, buffers up to {buffer}.\n{memory}\n")
}

/// Whether standard output shows colours.
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
