//! The scalar twin of every kernel: plain slices, sums in f64, nothing clever. Tests compare the kernels with these.
//!
//! Dimensions as everywhere: T new tokens, S cached tokens, D hidden, H query heads, K key/value heads, E head width,
//! F feed-forward, V vocabulary. Rows are dense here: the padding to whole vec4s is the kernels' own.

pub mod attention;
pub mod convert;
pub mod embed;
pub mod matmul;
pub mod rms_norm;
pub mod rope_append;
pub mod sample;
pub mod swiglu;
