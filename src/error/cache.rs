//! Errors of caches that were saved.

use thiserror::Error;

use super::CheckpointError;

/// Why what the cache holds cannot be saved, or put back from a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Nothing to save.
    #[error(
        "the cache holds none of these tokens: generate after them first, and save before others need the room (under \
         `--cache-policy window:N`, before the oldest are dropped)"
    )]
    Empty,
    /// The file is wrong as a safetensors file: cut, damaged, or another file; or it cannot be read.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// A safetensors file of something else.
    #[error("{file} is no saved cache")]
    NotACache {
        /// The file.
        file: String,
    },
    /// Written by another version of webweft, which lays blocks out in another way.
    #[error(
        "{file} is a saved cache of version {got}, and this webweft reads version {expected}: delete it, and save anew"
    )]
    Version {
        /// The file.
        file: String,
        /// As it says.
        got: String,
        /// As it should be.
        expected: &'static str,
    },
    /// Keys and values of another model, or of the same in another dtype.
    #[error("{file} was saved with another model, or with this one in another dtype: it says nothing to this one")]
    Model {
        /// The file.
        file: String,
    },
    /// The cache is kept in another way.
    #[error("{file}: its {name} is {got}, and the cache here has {expected}: open the model so, or save anew")]
    Setting {
        /// The file.
        file: String,
        /// What is different.
        name: &'static str,
        /// As the file has it, shortened.
        got: String,
        /// As it is here.
        expected: String,
    },
    /// A tensor that does not fit the tokens, the cache or the model.
    #[error("{file}: {tensor} is not {expected}: the file is damaged")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What it should be.
        expected: String,
    },
}
