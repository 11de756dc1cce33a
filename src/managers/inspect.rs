//! What a repository holds and what it would take, from its headers alone: no weight is read, and no device is opened. Sizes are
//! those of the loader, which asks a [`Plan`] for its memory here instead of a device.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::recommend::{LEAST_CONTEXT, best_first, size};
use super::{Dtype, Footprint, Model, ModelFiles, Recommendation, Wanted, choose, prefill_chunk, resolve};
use crate::checkpoint::Checkpoint;
use crate::device::{AdapterInfo, Plan};
use crate::error::Error;
use crate::models::{DecoderConfig, Encoder, EncoderConfig, ModelConfig, RopeConfig, RopeScaling, step_bytes};
use crate::quant::Quantization;
use crate::source::Source;
use crate::weights::{Weights, upload_bytes};

/// Everything that can be told of a model without loading it.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Folder or address.
    pub place: String,
    /// As `config.json` says.
    pub model_type: Option<String>,
    /// Its class in transformers, as `config.json` says.
    pub architectures: Vec<String>,
    /// Whether it could be loaded, as far as headers tell.
    pub supported: bool,
    /// What is wrong, or not supported, and what to do.
    pub problems: Vec<String>,
    /// What it is for, as transformers names pipelines: `text-generation` or `feature-extraction`, where the architecture is known.
    pub task: Option<&'static str>,
    /// Its sizes, where the architecture is known.
    pub architecture: Option<Architecture>,
    /// The number of weights that the architecture uses; of all stored elements where it is not known.
    pub parameters: u64,
    /// The files of the weights.
    pub files: Vec<StoredFile>,
    /// What they store, by type.
    pub stored: Vec<Stored>,
    /// How text becomes ids; `None` without `tokenizer.json`.
    pub tokenizer: Option<TokenizerFacts>,
    /// Names of its chat templates.
    pub chat_templates: Vec<String>,
    /// How another tool quantized it: `gptq`, `awq`, ...
    pub quantization: Option<&'static str>,
    /// What `--dtype auto` becomes.
    pub auto: Option<&'static str>,
    /// What it takes on the GPU at each dtype.
    pub on_gpu: Vec<OnGpu>,
    /// How that fits what is wanted, and which dtype is the best one.
    pub recommendation: Option<Recommendation>,
}

/// The sizes of an architecture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Architecture {
    /// Layers.
    pub layers: u32,
    /// D.
    pub hidden_size: u32,
    /// H.
    pub heads: u32,
    /// K.
    pub kv_heads: u32,
    /// E.
    pub head_dim: u32,
    /// F.
    pub intermediate_size: u32,
    /// V.
    pub vocab_size: u32,
    /// Positions that it was trained for.
    pub context: u32,
    /// How positions are told apart, in words.
    pub positions: String,
    /// Sliding windows: the width, and how many layers have it.
    pub windows: BTreeMap<u32, u32>,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Elements of embedding and output head.
    pub embedding_parameters: u64,
}

/// A file of weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// How many tensors it holds.
    pub tensors: usize,
}

/// The tensors of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// As the file calls it.
    pub dtype: &'static str,
    /// How many.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// How text becomes ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizerFacts {
    /// As [`Tokenizer::kind`](crate::preprocess::Tokenizer::kind).
    pub kind: &'static str,
    /// Tokens, added ones included.
    pub vocab_size: usize,
}

/// What a model takes on the GPU at one dtype.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnGpu {
    /// As [`Dtype::name`](super::Dtype::name).
    pub dtype: &'static str,
    /// Bytes of the weights: what the ledger says once they are loaded.
    pub weights: u64,
    /// The largest of their buffers.
    pub largest_buffer: u64,
    /// Bytes of the cache for 1024 positions.
    pub cache_per_1k: u64,
    /// How long a sequence may become where nobody says.
    pub context: u32,
    /// Bytes of the cache at that length.
    pub cache: u64,
    /// Whether it could run here, perhaps with a shorter context.
    pub fits: bool,
    /// The longest sequence within the budget, where one was given.
    pub longest_context: Option<u32>,
    /// Why it does not fit, or not with the default context.
    pub note: Option<String>,
}

/// Looks at a repository. `adapter`: whose limits count, if any; `wanted`: what for, or just the bytes that may be used.
///
/// # Errors
/// Where `config.json` or a tokenizer cannot be read or parsed. What is not supported is no error: [`Inspection::problems`].
pub async fn inspect(
    source: &Source,
    adapter: Option<&AdapterInfo>,
    wanted: impl Into<Wanted>,
) -> Result<Inspection, Error> {
    let files = ModelFiles::open(source).await?;
    let mut this = inspect_files(&files, source, adapter, wanted.into()).await?;
    let tokenizer = files.tokenizer().await?;
    this.tokenizer = tokenizer.map(|t| TokenizerFacts { kind: t.kind(), vocab_size: t.vocab_size() });
    Ok(this)
}

/// As [`inspect`], without the tokenizer, which may be tens of megabytes.
///
/// # Errors
/// As [`inspect`].
pub async fn inspect_weights(
    source: &Source,
    adapter: Option<&AdapterInfo>,
    wanted: impl Into<Wanted>,
) -> Result<Inspection, Error> {
    let files = ModelFiles::open(source).await?;
    inspect_files(&files, source, adapter, wanted.into()).await
}

async fn inspect_files(
    files: &ModelFiles<'_>,
    source: &Source,
    adapter: Option<&AdapterInfo>,
    wanted: Wanted,
) -> Result<Inspection, Error> {
    let place = source.describe();
    let json = files.config().await?;
    let mut problems = Vec::new();
    let config = files.model_config(&json).map_err(|error| problems.push(error.to_string())).ok();
    let checkpoint = files.checkpoint(None).await.map_err(|error| problems.push(error.to_string())).ok();
    let quantization = files.quantization(&json).await;
    let quantization = quantization.map_err(|error| problems.push(error.to_string())).unwrap_or_default();
    let chat = files.chat_template().await?;

    let names = json["architectures"].as_array().into_iter().flatten();
    let mut this = Inspection {
        place,
        model_type: json["model_type"].as_str().map(str::to_owned),
        architectures: names.filter_map(Value::as_str).map(str::to_owned).collect(),
        supported: false,
        problems,
        task: config.as_ref().map(ModelConfig::task),
        architecture: config.as_ref().map(Architecture::of),
        parameters: 0,
        files: Vec::new(),
        stored: Vec::new(),
        tokenizer: None,
        chat_templates: chat.names().map(str::to_owned).collect(),
        quantization: quantization.name(),
        auto: None,
        on_gpu: Vec::new(),
        recommendation: None,
    };
    if let Some(checkpoint) = &checkpoint {
        this.parameters = checkpoint.parameters().0;
        this.files = stored_files(source, checkpoint).await?;
        this.stored = stored(checkpoint);
    }
    if let (Some(ModelConfig::Decoder(config)), Some(checkpoint)) = (&config, &checkpoint) {
        let model = Model { config, checkpoint, quantization: &quantization };
        match Recommendation::of(model, adapter, wanted) {
            Ok((told, footprints, parameters)) => {
                this.on_gpu = footprints.into_iter().map(|f| OnGpu::of(f, wanted.budget)).collect();
                this.parameters = parameters;
                this.auto = told.dtype;
                this.recommendation = Some(told);
            }
            Err(error) => this.problems.push(error.to_string()),
        }
    }
    if let (Some(whole @ ModelConfig::Encoder(_)), Some(checkpoint)) = (&config, &checkpoint) {
        match encoder_on_gpu(whole, checkpoint, &quantization, adapter, wanted) {
            Ok((auto, on_gpu, parameters)) => {
                (this.auto, this.on_gpu, this.parameters) = (Some(auto.name()), on_gpu, parameters);
            }
            Err(error) => this.problems.push(error.to_string()),
        }
    }
    this.supported = this.problems.is_empty();
    Ok(this)
}

/// What `auto` is for an encoder, what it takes at each dtype that its files can be read as, and the number of its weights. With a
/// budget `auto` is the best dtype that fits as [`recommend`](super::recommend()) orders them; where none does the smallest one, whose
/// steps become smaller.
pub(crate) fn encoder_on_gpu(
    whole: &ModelConfig,
    checkpoint: &Checkpoint,
    quantization: &Quantization,
    adapter: Option<&AdapterInfo>,
    wanted: Wanted,
) -> Result<(Dtype, Vec<OnGpu>, u64), Error> {
    let unbounded = choose(Dtype::Auto, whole, checkpoint, quantization)?.dtype;
    let ModelConfig::Encoder(config) = whole else { return Ok((unbounded, Vec::new(), 0)) };
    let budget = wanted.budget;
    let longest = config.max_position_embeddings.min(wanted.context.unwrap_or(u32::MAX));
    let mut needs = Vec::new();
    let (all, stored_f32) = checkpoint.parameters();
    let (mut found, mut parameters, mut failed) = (Vec::new(), 0, None);
    for dtype in Dtype::ALL {
        let precision = resolve(dtype, all, stored_f32);
        let load = |plan| -> Result<_, Error> {
            let mut weights = Weights::planned(plan, checkpoint).quantized_by(quantization, None);
            let model = Encoder::load(&mut weights, config, precision.weights)?;
            weights.check()?;
            Ok((model, weights))
        };
        let plan = Plan::new(None);
        let (model, weights) = match load(&plan) {
            Ok(loaded) => loaded,
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        parameters = weights.parameters();
        let (bytes, largest_buffer) = (plan.ledger().snapshot().total, plan.ledger().largest());
        let here = Plan::new(adapter);
        let types = (precision.activations, precision.cache);
        let rows = wanted.prefill_chunk.unwrap_or_else(|| prefill_chunk(parameters)).max(longest);
        let step = load(&here).and_then(|(model, _)| step_bytes(&here, &model, config, types, rows));
        let refused = step.as_ref().err().map(ToString::to_string);
        let step = step.or_else(|_| step_bytes(&plan, &model, config, types, rows))?;
        let upload = upload_bytes(weights.stored_bytes());
        // a chunk's kernels have their parameters beside it: a 64th of it
        let need = bytes + step.max(upload + upload / 64);
        let short = budget.filter(|budget| need > *budget);
        let note = short.map(|budget| format!("needs {} at least, and the budget is {}", size(need), size(budget)));
        let fits = refused.is_none() && note.is_none();
        needs.push((precision.dtype, bytes, fits, (refused.is_some(), need)));
        found.push(OnGpu {
            dtype: precision.dtype.name(),
            weights: bytes,
            largest_buffer,
            cache_per_1k: 0,
            context: config.max_position_embeddings,
            cache: 0,
            fits,
            longest_context: budget.map(|_| if note.is_none() { longest } else { 0 }),
            note: refused.or(note),
        });
    }
    let all = needs.iter().map(|&(dtype, read, ..)| (dtype, read)).collect();
    let order = best_first(unbounded, quantization.name().is_some(), budget, all);
    let ordered = order.iter().filter_map(|dtype| needs.iter().find(|(of, ..)| of == dtype));
    let fitting = ordered.clone().find(|(.., fits, _)| *fits);
    let chosen = match budget {
        None => None,
        Some(_) => fitting.or_else(|| ordered.min_by_key(|(.., need)| *need)),
    };
    let auto = chosen.map_or(unbounded, |(dtype, ..)| *dtype);
    match failed {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok((auto, found, parameters)),
    }
}

impl Architecture {
    /// Of a configuration.
    #[must_use]
    pub fn of(config: &ModelConfig) -> Self {
        let c = match config {
            ModelConfig::Decoder(c) => c,
            ModelConfig::Encoder(c) => return Self::of_encoder(c),
        };
        let mut windows = BTreeMap::new();
        for layer in c.layers.iter().filter(|layer| layer.window > 0) {
            *windows.entry(layer.window).or_default() += 1;
        }
        let tables = if c.tie_word_embeddings { 1 } else { 2 };
        Self {
            layers: c.layers.len() as u32,
            hidden_size: c.hidden_size,
            heads: c.heads.heads,
            kv_heads: c.heads.kv_heads,
            head_dim: c.heads.head_dim,
            intermediate_size: c.intermediate_size,
            vocab_size: c.vocab_size,
            context: c.max_position_embeddings,
            positions: positions(c),
            windows,
            tied: c.tie_word_embeddings,
            embedding_parameters: u64::from(c.vocab_size) * u64::from(c.embedding.size) * tables,
        }
    }
}

impl Architecture {
    fn of_encoder(c: &EncoderConfig) -> Self {
        let tables = c.vocab_size + c.max_position_embeddings + c.type_vocab_size;
        Self {
            layers: c.num_hidden_layers,
            hidden_size: c.hidden_size,
            heads: c.heads.heads,
            kv_heads: c.heads.kv_heads,
            head_dim: c.heads.head_dim,
            intermediate_size: c.intermediate_size,
            vocab_size: c.vocab_size,
            context: c.max_position_embeddings,
            positions: "learned".to_owned(),
            windows: BTreeMap::new(),
            tied: true,
            embedding_parameters: u64::from(tables) * u64::from(c.hidden_size),
        }
    }
}

fn positions(c: &DecoderConfig) -> String {
    if c.embedding.positions.is_some() {
        return "learned".to_owned();
    }
    let mut text = c.ropes.iter().map(rope).collect::<Vec<_>>().join("; in layers with a window ");
    if c.heads.rotary < c.heads.head_dim {
        text += &format!(", {} of {} of each head", c.heads.rotary, c.heads.head_dim);
    }
    let without = c.layers.iter().filter(|layer| layer.rope.is_none()).count();
    if without > 0 {
        text += &format!(", none in {without} layers");
    }
    text
}

fn rope(rope: &RopeConfig) -> String {
    let scaling = match &rope.scaling {
        RopeScaling::Default => "rope".to_owned(),
        RopeScaling::Linear { factor } => format!("rope linear x{factor}"),
        RopeScaling::Dynamic { factor, .. } => format!("rope dynamic x{factor}"),
        RopeScaling::Llama3 { factor, .. } => format!("rope llama3 x{factor}"),
        RopeScaling::Yarn { factor, .. } => format!("rope yarn x{factor}"),
        RopeScaling::Longrope { original_max_position_embeddings: original, .. } => {
            format!("rope longrope from {original}")
        }
    };
    format!("{scaling}, base {}", rope.theta)
}

async fn stored_files(source: &Source, checkpoint: &Checkpoint) -> Result<Vec<StoredFile>, Error> {
    let mut files = Vec::new();
    for (number, name) in checkpoint.files().iter().enumerate() {
        let bytes = source.size(name).await?.unwrap_or(0);
        let tensors = checkpoint.in_byte_order().filter(|info| info.file == number).count();
        files.push(StoredFile { name: name.clone(), bytes, tensors });
    }
    Ok(files)
}

/// Most bytes first.
fn stored(checkpoint: &Checkpoint) -> Vec<Stored> {
    let mut all: Vec<Stored> = Vec::new();
    for info in checkpoint.in_byte_order() {
        let (dtype, bytes) = (info.dtype.name(), info.range.end - info.range.start);
        match all.iter_mut().find(|stored| stored.dtype == dtype) {
            Some(stored) => {
                stored.tensors += 1;
                stored.bytes += bytes;
            }
            None => all.push(Stored { dtype, tensors: 1, bytes }),
        }
    }
    all.sort_by_key(|stored| std::cmp::Reverse(stored.bytes));
    all
}

impl OnGpu {
    fn of(f: Footprint, budget: Option<u64>) -> Self {
        let context = f.cache.default_context(f.max_binding);
        let mut this = Self {
            dtype: f.dtype.name(),
            weights: f.weights,
            largest_buffer: f.largest_buffer,
            cache_per_1k: f.cache.bytes(1024),
            context,
            cache: f.cache.bytes(context),
            fits: f.refused.is_none(),
            longest_context: None,
            note: None,
        };
        if let Some(budget) = budget {
            let longest = f.longest(Some(budget));
            this.fits &= longest >= LEAST_CONTEXT.min(context);
            this.longest_context = Some(if this.fits { longest } else { 0 });
            if !this.fits {
                let least = f.needs(LEAST_CONTEXT.min(context)).total;
                this.note = Some(format!("needs {} at least, and the budget is {}", size(least), size(budget)));
            } else if longest < context {
                this.note = Some(format!("only with a context of up to {longest}"));
            }
        }
        this.note = f.refused.or(this.note);
        this
    }
}
