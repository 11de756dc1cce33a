//! Errors of checkpoints that other tools quantized.

use thiserror::Error;

/// What can be wrong with a quantized layer.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A tensor that it cannot do without.
    #[error("{tensor} is missing: the checkpoint is not what its quantization_config says")]
    Missing {
        /// The tensor.
        tensor: String,
    },
    /// Another shape than the architecture and the `quantization_config` ask for.
    #[error("{tensor} is {got:?}, expected {expected:?} by config.json and its quantization_config")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What it should be.
        expected: Vec<u64>,
        /// What it is.
        got: Vec<u64>,
    },
    /// Another type.
    #[error("{tensor} is {got}, expected {expected} by config.json's quantization_config")]
    Type {
        /// The tensor.
        tensor: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: &'static str,
    },
    /// A column of a group that there is not.
    #[error("{tensor}: column {column} is in group {got}, and there are {groups}: the checkpoint is damaged")]
    GroupIndex {
        /// The tensor.
        tensor: String,
        /// The column.
        column: usize,
        /// Its group.
        got: i32,
        /// How many there are.
        groups: u32,
    },
    /// Groups that are no neighbours, in a checkpoint that says they are.
    #[error(
        "{tensor}: column {column} is in group {got}, expected {expected}, since quantization_config has no `desc_act`: set it to true if \
         the tool reordered columns"
    )]
    Unordered {
        /// The tensor.
        tensor: String,
        /// The column.
        column: usize,
        /// Its group.
        got: i32,
        /// What it should be.
        expected: u32,
    },
    /// Statistics that make no sense, or that are not supported.
    #[error("{tensor}: {detail}")]
    State {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        detail: String,
    },
    /// More to read beforehand than any model has.
    #[error(
        "tensors such as {tensor} take {bytes} bytes, and {limit} is the most: not a model that can be loaded here"
    )]
    TooLarge {
        /// The largest.
        tensor: String,
        /// Bytes of all.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}
