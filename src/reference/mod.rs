//! The scalar twin of every kernel: plain slices, sums in f64, nothing clever. Tests compare the kernels with these.
//! The feature `reference` switches them on; [`sample()`], [`penalize()`] and [`no_repeat_ngram()`] are always there,
//! since they sample on the host, too.
//!
//! Dimensions as everywhere: T new tokens, S cached tokens, D hidden, H query heads, K key/value heads, E head width,
//! F feed-forward, V vocabulary. Rows are dense here: the padding to whole vec4s is the kernels' own.

/// Nonlinearities, with a gate or without.
#[cfg(feature = "reference")]
pub mod activation;
/// Scores, softmax, sum: written out.
#[cfg(feature = "reference")]
pub mod attention;
#[cfg(feature = "reference")]
pub mod convert;
/// What an assistant computes.
#[cfg(feature = "reference")]
pub mod draft;
/// A look-up.
#[cfg(feature = "reference")]
pub mod embed;
/// Chains of multiply-adds.
#[cfg(feature = "reference")]
pub mod fma;
/// What is kept of a prompt.
#[cfg(feature = "reference")]
pub mod gather_cache;
/// Query and key heads, each by itself.
#[cfg(feature = "reference")]
pub mod head_norm;
/// For few rows and for many.
#[cfg(feature = "reference")]
pub mod matmul;
/// Forbids what was said before.
pub mod no_repeat_ngram;
/// Root mean square normalization, and layer normalization.
#[cfg(feature = "reference")]
pub mod norm;
/// Weights of a prompt's last rows.
#[cfg(feature = "reference")]
pub mod observe;
/// Bias, penalties, forbidden tokens.
pub mod penalize;
/// One row for each text.
#[cfg(feature = "reference")]
pub mod pool;
/// Drafts from the tokens so far.
#[cfg(feature = "reference")]
pub mod prompt_lookup;
/// Blocks of the cache in few bits.
#[cfg(feature = "reference")]
pub mod quantize_cache;
/// Rows in 8 bits, each with a scale.
#[cfg(feature = "reference")]
pub mod quantize_rows;
/// Codes as other tools pack them.
#[cfg(feature = "reference")]
pub mod repack_codes;
/// ggml's blocks, and what they stand for.
#[cfg(feature = "reference")]
pub mod repack_ggml;
/// Scales and zero points as other tools store them.
#[cfg(feature = "reference")]
pub mod repack_scales;
/// Rotary embedding, and where a position is in the cache.
#[cfg(feature = "reference")]
pub mod rope_append;
pub mod sample;
/// The greatest of them.
#[cfg(feature = "reference")]
pub mod select_keys;
/// A bound on logits.
#[cfg(feature = "reference")]
pub mod softcap;
/// Drafts that are accepted.
#[cfg(feature = "reference")]
pub mod verify;

pub use no_repeat_ngram::no_repeat_ngram;
pub use penalize::penalize;
pub use sample::{probabilities, sample};
#[cfg(feature = "reference")]
pub use {
    activation::activation,
    attention::{attention, attention_of_all},
    embed::{embed, embed_positions, embed_types},
    fma::{fma, fma_int8},
    gather_cache::gather_cache,
    head_norm::head_norm,
    matmul::matmul,
    norm::{Norm, norm},
    observe::observe,
    pool::pool,
    quantize_rows::quantize_rows,
    rope_append::{Rotated, cache_row, rope_append},
    select_keys::select_keys,
    softcap::softcap,
};
