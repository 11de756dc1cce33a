//! What can go wrong: one enum per layer, and [`enum@Error`] over them. Each message says what to do.

mod source;

pub use source::SourceError;

use thiserror::Error;

use crate::device::Backend;

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
    /// A request that cannot be served.
    #[error(transparent)]
    Generate(#[from] GenerateError),
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
    #[error("{place} has no config.json: give the folder of a Hugging Face model")]
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
    /// No logit is a number, or none is left.
    #[error(
        "no token can be chosen at position {position}: the model produced NaN (try `--dtype f32`), or the settings forbid \
         every token"
    )]
    NotANumber {
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

/// What can be wrong with a checkpoint: every variant names the file, and the tensor where there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No weights of any known format.
    #[error(
        "`{place}` holds no weights: expected `model.safetensors`, or `model.safetensors.index.json` and its shards"
    )]
    NoWeights {
        /// Where they were looked for.
        place: String,
    },
    /// Weights, but in a format that is not read yet.
    #[error(
        "`{place}` holds its weights as `{found}`, which is not supported yet: use a repository with `model.safetensors`, \
         or with `model.safetensors.index.json` and its shards"
    )]
    UnsupportedFormat {
        /// Where the weights were looked for.
        place: String,
        /// The file that was found instead.
        found: String,
    },
    /// Fewer bytes than the length of the header takes.
    #[error("`{file}` has {size} bytes, too few for a safetensors file: the download is incomplete, fetch it again")]
    TooShort {
        /// The file.
        file: String,
        /// Bytes that it has.
        size: u64,
    },
    /// A git-lfs pointer in place of the weights.
    #[error(
        "`{file}` is a git-lfs pointer, not the weights: run `git lfs pull` in the repository, or download the file itself"
    )]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// The header claims more bytes than the format allows.
    #[error(
        "`{file}`: its header claims {len} bytes, more than the {cap} that the format allows: not a safetensors file, or damaged"
    )]
    HeaderTooLong {
        /// The file.
        file: String,
        /// Length that the first 8 bytes claim.
        len: u64,
        /// Longest header of the format.
        cap: u64,
    },
    /// The header claims more bytes than the file has.
    #[error(
        "`{file}`: its header claims {len} bytes and the file has {size}: the download is incomplete, fetch it again"
    )]
    HeaderBeyondFile {
        /// The file.
        file: String,
        /// Length that the first 8 bytes claim.
        len: u64,
        /// Bytes that the file has.
        size: u64,
    },
    /// The header is not text.
    #[error("`{file}`: its header is not UTF-8 (byte {at}): not a safetensors file, or damaged; fetch it again")]
    HeaderNotUtf8 {
        /// The file.
        file: String,
        /// Offset in the header of the first byte that is wrong.
        at: usize,
    },
    /// The header is text, but not a safetensors header.
    #[error("`{file}`: its header is not a safetensors header: {detail}; fetch the file again")]
    HeaderJson {
        /// The file.
        file: String,
        /// What the parser said, with line and column.
        detail: String,
    },
    /// One name twice in one header or one weight map.
    #[error(
        "`{file}` names the tensor {tensor:?} twice: which of the two is meant cannot be known; export the model again"
    )]
    DuplicateTensor {
        /// The file.
        file: String,
        /// The name.
        tensor: String,
    },
    /// One name in two shards.
    #[error(
        "the tensor {tensor:?} stands in both `{first}` and `{second}`: the shards are of different exports; fetch them all again"
    )]
    DuplicateAcrossShards {
        /// The name.
        tensor: String,
        /// The shard that has it first.
        first: String,
        /// The shard that has it again.
        second: String,
    },
    /// An element type that the format does not define.
    #[error(
        "`{file}`: tensor {tensor:?} has the unknown dtype {dtype:?}: a newer format, or damaged; expected one of {known}"
    )]
    UnknownDtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What its header says.
        dtype: String,
        /// The names that are known.
        known: String,
    },
    /// The shape's product overflows, or ends inside a byte.
    #[error(
        "`{file}`: tensor {tensor:?} of shape {shape:?} and dtype {dtype} {why}: the header is damaged, fetch the file again"
    )]
    BadShape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its element type.
        dtype: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `begin > end`.
    #[error(
        "`{file}`: tensor {tensor:?} begins at {begin}, after its end {end}: the header is damaged, fetch the file again"
    )]
    OffsetsReversed {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// First byte, counted from the end of the header.
        begin: u64,
        /// One past its last byte.
        end: u64,
    },
    /// A tensor ends after the file does.
    #[error(
        "`{file}`: tensor {tensor:?} ends at byte {end} of the data, which has {data_len}: the download is incomplete, fetch it again"
    )]
    OffsetsOutOfRange {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// One past its last byte.
        end: u64,
        /// Bytes after the header.
        data_len: u64,
    },
    /// The range and the shape disagree.
    #[error(
        "`{file}`: tensor {tensor:?} has {got} bytes where its shape and dtype need {expected}: the file is damaged, fetch it again"
    )]
    LengthMismatch {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Product of shape and element width, in bytes.
        expected: u64,
        /// `end - begin`.
        got: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "`{file}`: tensor {tensor:?} overlaps {other:?}, which the format forbids: the file is damaged, fetch it again"
    )]
    Overlap {
        /// The file.
        file: String,
        /// The tensor that begins too early.
        tensor: String,
        /// The one before it.
        other: String,
    },
    /// Bytes between tensors that belong to none.
    #[error(
        "`{file}`: {len} bytes before tensor {tensor:?} belong to no tensor, which the format forbids: fetch the file again"
    )]
    Hole {
        /// The file.
        file: String,
        /// The tensor after the hole.
        tensor: String,
        /// Bytes of the hole.
        len: u64,
    },
    /// Bytes after the last tensor.
    #[error("`{file}`: {len} bytes follow the last tensor, which the format forbids: fetch the file again")]
    TrailingBytes {
        /// The file.
        file: String,
        /// How many.
        len: u64,
    },
    /// The index is not one.
    #[error("`{file}` is not an index of shards: {detail}; fetch it again")]
    IndexJson {
        /// The index.
        file: String,
        /// What the parser said, with line and column.
        detail: String,
    },
    /// A shard whose name could leave the folder.
    #[error(
        "`{file}` names the shard {shard:?}: shards lie beside their index, so a name with a path in it is refused"
    )]
    ShardName {
        /// The index.
        file: String,
        /// The name.
        shard: String,
    },
    /// A shard that the index names is absent.
    #[error("`{file}` names the shard `{shard}`, which is absent: the download is incomplete, fetch that file")]
    ShardMissing {
        /// The index.
        file: String,
        /// The shard.
        shard: String,
    },
    /// The index promises a tensor that its shard does not have.
    #[error(
        "`{file}` says that `{shard}` holds the tensor {tensor:?}, and it does not: index and shards are of different exports; fetch them all again"
    )]
    ShardLacksTensor {
        /// The index.
        file: String,
        /// The shard.
        shard: String,
        /// The tensor.
        tensor: String,
    },
    /// A JSON file that does not parse.
    #[error("`{file}`, line {line}, column {column}: {detail}; mend it or fetch it again")]
    Json {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1 (0: before the first character).
        column: usize,
        /// What the parser said.
        detail: String,
    },
}

/// What can go wrong between text and token ids.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The bytes could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// `tokenizer.json` is not one.
    #[error("`tokenizer.json` cannot be used: {detail}; fetch it again, or update webweft where it is newer")]
    Parse {
        /// What the parser said.
        detail: String,
    },
    /// The text could not be split into tokens.
    #[error("the text ({bytes} bytes) cannot be tokenized: {detail}; the tokenizer may lack an unknown token")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the tokenizer said.
        detail: String,
    },
    /// The ids could not be joined to text.
    #[error("{count} token ids cannot be decoded: {detail}; is this the tokenizer of that model?")]
    Decode {
        /// How many ids.
        count: usize,
        /// What the tokenizer said.
        detail: String,
    },
}

/// What can go wrong between messages and a prompt. Lines are counted from 1 in the template's text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The bytes could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A JSON file that does not parse.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No template: no chat model.
    #[error(
        "{place} has no chat template (neither `chat_template.jinja` nor `chat_template` in tokenizer_config.json): continue \
         a text with `generate`, choose a model that was trained to chat, or put its template there as `chat_template.jinja`"
    )]
    NoTemplate {
        /// Folder or address.
        place: String,
    },
    /// None of that name.
    #[error("there is no chat template {wanted:?}; there are: {}", .available.join(", "))]
    UnknownTemplate {
        /// The name.
        wanted: String,
        /// The names that there are.
        available: Vec<String>,
    },
    /// `chat_template` holds something else.
    #[error("`{file}`: its `chat_template` is neither a text nor a list of names and texts; mend it or fetch it again")]
    Format {
        /// The file.
        file: &'static str,
    },
    /// A template file that is no text.
    #[error("`{file}` is not UTF-8 (byte {at}): fetch it again")]
    NotUtf8 {
        /// The file.
        file: String,
        /// Offset of the first byte that is wrong.
        at: usize,
    },
    /// The template does not compile, or uses what there is not.
    #[error(
        "the chat template of {template}, line {line}: {detail}; where transformers takes it, please report it, and use \
         `generate` meanwhile"
    )]
    Syntax {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// The template fails on these messages.
    #[error("the chat template of {template}, line {line}: {detail}; are the messages of the form that it expects?")]
    Render {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// The template refuses these messages (`raise_exception`).
    #[error("the chat template of {template}, line {line}, refuses these messages: {message}")]
    Refused {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
        /// What it says.
        message: String,
    },
    /// The template runs on and on.
    #[error("the chat template of {template}, line {line}, does not come to an end: it is damaged, or means harm")]
    Endless {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
    },
}
