//! Errors of GGUF files.

use thiserror::Error;

/// What can be wrong with a GGUF file, or unknown about it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GgufError {
    /// Another format, or none.
    #[error("it does not begin with `GGUF`: not a GGUF file, or damaged; fetch it again")]
    Magic,
    /// A version that is not read.
    #[error("its version is {version}, expected 2 or 3: convert the model again with a current llama.cpp")]
    Version {
        /// What it says.
        version: u32,
    },
    /// Made for machines with the other byte order.
    #[error(
        "it is big-endian, and only little-endian files are supported: convert the model again without --bigendian"
    )]
    BigEndian,
    /// It ends within its header.
    #[error(
        "it ends at byte {size} within {what} ({count} bytes from byte {at} on): the download is incomplete, fetch it again"
    )]
    Ends {
        /// Of what.
        what: &'static str,
        /// Where that begins.
        at: u64,
        /// Its bytes.
        count: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// More of something than the file has room for.
    #[error("it claims {count} elements for {what}, more than its {size} bytes hold: it is damaged, fetch it again")]
    Count {
        /// For what.
        what: &'static str,
        /// How many.
        count: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A header beyond all sense.
    #[error("its header has more than {cap} bytes: not a model that can be loaded here, or damaged")]
    HeaderTooLong {
        /// The most that is read.
        cap: u64,
    },
    /// What should be text is none.
    #[error("{what} at byte {at} is not UTF-8: it is damaged, fetch it again")]
    NotUtf8 {
        /// What.
        what: &'static str,
        /// Where it begins.
        at: u64,
    },
    /// A type of value that the format does not have.
    #[error("the value of `{key}` has the unknown type {kind}: a newer format, or damaged")]
    ValueType {
        /// The key.
        key: String,
        /// The type's number.
        kind: u32,
    },
    /// One key twice.
    #[error("the key `{key}` stands there twice: which of both is meant cannot be known; convert the model again")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value that is not of the kind that it should be.
    #[error("`{key}` is {got}, expected {expected}: convert the model again")]
    Kind {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// A key that the architecture cannot do without.
    #[error("the key `{key}` is missing: the model cannot be known without it; convert it again")]
    KeyMissing {
        /// The key.
        key: String,
    },
    /// A value that the engine does not have.
    #[error("`{key}` is {got}, supported: {supported}")]
    Unsupported {
        /// The key.
        key: String,
        /// What it is.
        got: String,
        /// What could be.
        supported: String,
    },
    /// An alignment that is none.
    #[error("`general.alignment` is {got}, expected a power of two up to 2^20: it is damaged, fetch it again")]
    Alignment {
        /// What it says.
        got: String,
    },
    /// More dimensions than ggml has.
    #[error("tensor {tensor:?} has {rank} dimensions, and {most} is the most: it is damaged, fetch it again")]
    Rank {
        /// The tensor.
        tensor: String,
        /// What it has.
        rank: u32,
        /// The most.
        most: u32,
    },
    /// A tensor type that is not read.
    #[error(
        "tensor {tensor:?} is stored as {got}, which is not supported: take a file whose tensors are {supported} (Q4_K_M, say)"
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its type, by name or number.
        got: String,
        /// The names of those that are.
        supported: String,
    },
    /// A part whose name does not lead to the others.
    #[error("it is one of {count} files, and is not called NAME-00001-of-{count:05}.gguf: give it the name it had")]
    SplitName {
        /// How many the metadata says there are.
        count: u32,
    },
    /// A part that says that it is another.
    #[error(
        "it says that it is file {no} of {of}, where {expected_no} of {expected_of} is expected: fetch all files again"
    )]
    SplitNumber {
        /// What it says, from 1.
        no: u32,
        /// And of how many.
        of: u32,
        /// What its name says, from 1.
        expected_no: u32,
        /// And what the first says.
        expected_of: u32,
    },
    /// The parts have other tensors than the first promises.
    #[error(
        "it and its other files have {got} tensors, expected {expected}: they are of different exports; fetch them all again"
    )]
    SplitTensors {
        /// In all.
        got: u64,
        /// As the first says.
        expected: u64,
    },
}
