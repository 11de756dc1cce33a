//! The scalar twin of every kernel: plain slices, sums in f64, nothing clever. Tests compare the kernels with these.
//! The feature `reference` switches them on; [`sample()`] is always there, since it samples on the host, too.
//!
//! Dimensions as everywhere: T new tokens, S cached tokens, D hidden, H query heads, K key/value heads, E head width,
//! F feed-forward, V vocabulary. Rows are dense here: the padding to whole vec4s is the kernels' own.

/// Scores, softmax, sum: written out.
#[cfg(feature = "reference")]
pub mod attention;
#[cfg(feature = "reference")]
pub mod convert;
/// A look-up.
#[cfg(feature = "reference")]
pub mod embed;
/// Query and key heads, each by itself.
#[cfg(feature = "reference")]
pub mod head_norm;
/// For few rows and for many.
#[cfg(feature = "reference")]
pub mod matmul;
/// Root mean square normalization.
#[cfg(feature = "reference")]
pub mod rms_norm;
/// Rotary embedding, and where a position is in the cache.
#[cfg(feature = "reference")]
pub mod rope_append;
pub mod sample;
/// The gated activation.
#[cfg(feature = "reference")]
pub mod swiglu;

pub use sample::{probabilities, sample};
#[cfg(feature = "reference")]
pub use {
    attention::attention,
    embed::embed,
    head_norm::head_norm,
    matmul::matmul,
    rms_norm::rms_norm,
    rope_append::{Rotated, cache_row, rope_append},
    swiglu::swiglu,
};
