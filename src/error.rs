//! What can go wrong: one enum per layer, and [`enum@Error`] over them. Each message says what to do.

mod cache;
mod checkpoint;
mod gguf;
mod preprocess;
mod profile;
mod quant;
mod source;

pub use cache::CacheError;
pub use checkpoint::CheckpointError;
pub use gguf::GgufError;
pub use preprocess::{ChatError, TokenizerError};
pub use profile::ProfileError;
pub use quant::QuantError;
pub use source::SourceError;

use thiserror::Error;

use crate::device::Backend;
use crate::site::Site;

/// Any error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The weights' files are wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer is wrong.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is wrong, or there is none.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The GPU.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An operation was given shapes that do not fit.
    #[error(transparent)]
    Op(#[from] OpError),
    /// `config.json` is wrong or not supported.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights do not fit the architecture.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Quantized weights are not what they should be.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A request that cannot be served.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A cache that cannot be saved, or a saved one that does not fit.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A profile with keys or values that mean nothing.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// What the GPU, its driver or the browser refuse.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No adapter at all.
    #[error("no GPU adapter found{}: {}", .backend.map(|b| format!(" for {b:?}")).unwrap_or_default(), no_adapter_help())]
    NoAdapter {
        /// The interface that was asked for, if one was.
        backend: Option<Backend>,
    },
    /// None of the adapters is meant.
    #[error("no adapter matches {wanted:?}; there are: {}", .available.join("; "))]
    AdapterNotFound {
        /// Index or part of a name.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The driver would not open the adapter.
    #[error("{adapter} could not be opened: {reason}; try another one (`devices` lists them) or update its driver")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// One buffer beyond the adapter's limit.
    #[error("{label}: {size} bytes in one buffer, and this adapter allows {limit}: use a smaller context or chunk")]
    BufferTooLarge {
        /// What the buffer is for.
        label: String,
        /// Bytes wanted.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The GPU's memory, or the budget, is used up.
    #[error(
        "out of GPU memory for {label} ({size} bytes): {reason}; use `--dtype q4`, a shorter context, or close other programs"
    )]
    OutOfMemory {
        /// What the memory was for; empty where the driver does not say.
        label: String,
        /// Bytes wanted; 0 where the driver does not say.
        size: u64,
        /// What the driver or the budget said.
        reason: String,
    },
    /// The memory budget holds the model at no dtype.
    #[error("out of GPU memory before anything is loaded: {reason}")]
    NothingFits {
        /// What it needs, what there is, and what would fit.
        reason: String,
    },
    /// Kernels cannot be timed.
    #[error(
        "{adapter} tells no times (it was opened without the feature `timestamp-query`), so kernels cannot be measured one by one: \
         choose another adapter or backend, or measure whole runs"
    )]
    NoTimestamps {
        /// The adapter's name.
        adapter: String,
    },
    /// wgpu found a mistake of ours.
    #[error("internal error, please report it: {message}")]
    Validation {
        /// What wgpu said.
        message: String,
    },
    /// The device is gone: driver reset, GPU process killed, laptop undocked.
    #[error("the GPU device was lost ({reason}): open the model again")]
    Lost {
        /// What the driver said.
        reason: String,
    },
    /// Bytes could not be read back.
    #[error("the GPU did not give its results back: the device is about to be lost; open the model again")]
    Readback,
}

fn no_adapter_help() -> &'static str {
    if cfg!(target_os = "linux") {
        "install a Vulkan driver (Debian, Ubuntu: `apt install mesa-vulkan-drivers`, which also runs on a machine without a GPU)"
    } else if cfg!(target_os = "macos") {
        "Metal is part of macOS 10.13 and later; update the system"
    } else if cfg!(target_os = "windows") {
        "update the graphics driver (Direct3D 12 or Vulkan)"
    } else {
        "this browser has no WebGPU, or has it switched off"
    }
}

/// Shapes that do not fit an operation: a mistake in a model's code, or a size that no kernel takes.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum OpError {
    /// An argument of the wrong shape.
    #[error("{op}: expected {expected}, got {got:?}")]
    Shape {
        /// Operation and argument.
        op: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        got: Vec<u32>,
    },
    /// More than a kernel or the adapter can take.
    #[error("{op}: {what} is {got}, and {limit} is the most that works here")]
    Limit {
        /// Operation.
        op: &'static str,
        /// Which size.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The limit.
        limit: u64,
    },
}

/// What is wrong with a model's configuration.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No `config.json`.
    #[error("{place} has no config.json: give the folder of a Hugging Face model, or a GGUF file")]
    Missing {
        /// Folder or address.
        place: String,
    },
    /// A field that must be there.
    #[error("config.json lacks `{field}`")]
    FieldMissing {
        /// Its name.
        field: &'static str,
    },
    /// A field with a value that makes no sense.
    #[error("config.json: `{field}` is {got}, expected {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value, shortened.
        got: String,
        /// What would do.
        expected: String,
    },
    /// An architecture that we do not have.
    #[error("model_type {model_type:?} is not supported; supported: {}", .supported.join(", "))]
    UnsupportedModel {
        /// As the config says.
        model_type: String,
        /// What we have.
        supported: Vec<&'static str>,
    },
    /// A setting of a supported architecture that we do not have.
    #[error("config.json: `{field}` {got} is not supported yet; supported: {supported}")]
    Unsupported {
        /// Field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What we have.
        supported: String,
    },
    /// A model that does something else than it was opened for.
    #[error("this model is for {task}, and not for {asked}")]
    OtherTask {
        /// What it was opened for.
        asked: &'static str,
        /// What it does.
        task: &'static str,
    },
}

/// Weights that do not fit the architecture that the config describes.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The set of tensors is not the expected one.
    #[error("the weights do not fit config.json: {}", describe_tensors(.missing, .misshaped, .dtypes))]
    Mismatch {
        /// Names that the architecture needs and the checkpoint lacks.
        missing: Vec<String>,
        /// Name, expected and found shape.
        misshaped: Vec<(String, Vec<u64>, Vec<u64>)>,
        /// Name and stored type, where we cannot read it.
        dtypes: Vec<(String, String)>,
    },
    /// A NaN or an infinity.
    #[error("{tensor} holds NaN or infinite values: the checkpoint is damaged; fetch it again")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// A value that the stored type cannot hold.
    #[error("{tensor} holds values beyond f16's range (65504): load it with `--dtype f32`")]
    Overflow {
        /// The tensor.
        tensor: String,
    },
    /// One row longer than what is staged at once.
    #[error("{tensor}: one row takes {bytes} bytes, and {limit} is the most: not a model that can be loaded here")]
    RowTooLong {
        /// The tensor.
        tensor: String,
        /// Bytes of a row.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

/// At most `MANY` names are listed in full.
fn describe_tensors(
    missing: &[String],
    misshaped: &[(String, Vec<u64>, Vec<u64>)],
    dtypes: &[(String, String)],
) -> String {
    const MANY: usize = 8;
    let list = |what: &str, items: Vec<String>| {
        let more = if items.len() > MANY { format!(" and {} more", items.len() - MANY) } else { String::new() };
        let shown: Vec<_> = items.iter().take(MANY).cloned().collect();
        (!items.is_empty()).then(|| format!("{what}: {}{more}", shown.join(", ")))
    };
    [
        list("missing", missing.to_vec()),
        list(
            "wrong shape",
            misshaped.iter().map(|(n, want, got)| format!("{n} is {got:?}, expected {want:?}")).collect(),
        ),
        list("type not supported", dtypes.iter().map(|(n, t)| format!("{n} is {t}")).collect()),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("; ")
}

/// A request that cannot be served as it stands.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// No tokens to begin with.
    #[error("the prompt is empty: give at least one token (neither tokenizer nor model name a first one)")]
    EmptyPrompt,
    /// More tokens than fit.
    #[error(
        "the prompt has {tokens} tokens and the context holds {context}: shorten the prompt, or raise --context where the model allows it"
    )]
    PromptTooLong {
        /// Tokens of the prompt, and of what is already in the context.
        tokens: usize,
        /// Positions.
        context: usize,
    },
    /// A text longer than an encoder takes.
    #[error("the text has {tokens} tokens and the model takes {most} at most: shorten it")]
    TextTooLong {
        /// Its tokens.
        tokens: usize,
        /// The most.
        most: usize,
    },
    /// More positions than the cache has blocks for, of all sequences together.
    #[error(
        "the cache has room for {room} positions, and {missing} more are needed: ask for a shorter context or fewer sequences, \
         or choose a smaller cache type"
    )]
    CacheFull {
        /// Positions that it lacks, at least.
        missing: usize,
        /// Positions that it has.
        room: usize,
    },
    /// A token that the model does not have.
    #[error("token id {id} is outside the model's vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// The model's vocabulary size.
        vocab: u32,
    },
    /// Text was given or wanted, and there is no tokenizer.
    #[error("{place} has no tokenizer.json: give token ids (--prompt-ids) instead of text")]
    NoTokenizer {
        /// Folder or address.
        place: String,
    },
    /// The tokenizer makes ids that the model does not have.
    #[error(
        "the tokenizer has ids up to {max_id}, but the model's vocabulary is {vocab}: they are of different models"
    )]
    TokenizerMismatch {
        /// Largest id of the tokenizer.
        max_id: u32,
        /// The model's vocabulary size.
        vocab: u32,
    },
    /// A setting out of its range.
    #[error("{name} is {got}, expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        got: String,
        /// The range.
        expected: &'static str,
    },
    /// A field of `generation_config.json` that makes no sense.
    #[error("generation_config.json: `{field}` is {got}, expected {expected}")]
    Config {
        /// Its name.
        field: &'static str,
        /// Its value, shortened.
        got: String,
        /// What would do.
        expected: &'static str,
    },
    /// No token is left to choose.
    #[error("no token can be chosen at position {position}: the settings forbid every token")]
    NotANumber {
        /// Position of the token that was to be sampled.
        position: usize,
    },
    /// An activation is no number, or beyond f32.
    #[error(
        "{site}: values before position {position} are no numbers, or too large even for f32: the weights are broken, or are not \
         those that config.json describes"
    )]
    NotFinite {
        /// What made it.
        site: Site,
        /// Position of the token that was to be sampled.
        position: usize,
    },
    /// Inputs of `forward` that do not fit together.
    #[error("{name}: {problem}")]
    Input {
        /// The tensor.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl GenerateError {
    /// Of a field that a request gave, and no file.
    pub(crate) fn of_request(self) -> Self {
        match self {
            Self::Config { field: name, got, expected } => Self::Setting { name, got, expected },
            other => other,
        }
    }
}
