//! Errors of checkpoints.

use thiserror::Error;

use super::{GgufError, SourceError};

/// What can be wrong with a checkpoint: every variant names the file, and the tensor where there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No weights of any known format.
    #[error(
        "`{place}` holds no weights: expected `model.safetensors`, or `model.safetensors.index.json` and its shards, or one GGUF file"
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
    /// A GGUF file that is damaged, or has what is not supported.
    #[error("`{file}`: {error}")]
    Gguf {
        /// The file.
        file: String,
        /// What is wrong.
        error: GgufError,
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
