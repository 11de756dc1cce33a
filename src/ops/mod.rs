//! One file per operation: check shapes, allocate the result, dispatch. The kernel of the same name says what is computed.
//!
//! Dimensions: B batch, T new tokens, S cached tokens, D hidden, H query heads, K key/value heads, E head width,
//! F feed-forward, V vocabulary.

mod activation;
mod attention;
mod embed;
mod fma;
mod head_norm;
mod matmul;
mod no_repeat_ngram;
mod norm;
mod penalize;
mod quantize_rows;
mod rope_append;
mod sample;
mod softcap;

pub use activation::{Act, activation};
pub use attention::{AttentionParams, attention};
pub use embed::{embed, embed_positions};
pub use fma::{FMA_OPERATIONS, fma};
pub use head_norm::head_norm;
pub use matmul::{Out, matmul};
pub use no_repeat_ngram::no_repeat_ngram;
pub use norm::{Affine, NormConfig, NormKind, Rows, norm};
pub use penalize::penalize;
pub use quantize_rows::quantize_rows;
pub use rope_append::{RopeLayout, RopeTable, rope_append, rope_rows, rope_table};
pub use sample::sample;
pub use softcap::softcap;

use crate::device::Buffer;
use crate::error::{DeviceError, Error, OpError};
use crate::tensor::{Elem, Storage, vec4s};

/// How an attention's heads are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// H, query heads.
    pub heads: u32,
    /// K, key/value heads; divides H.
    pub kv_heads: u32,
    /// E, width of a head.
    pub head_dim: u32,
    /// R, the leading width that is rotated; even, at most E.
    pub rotary: u32,
}

impl Heads {
    /// E as stored: padded to whole vec4s.
    #[must_use]
    pub const fn padded(&self) -> u32 {
        vec4s(self.head_dim) * 4
    }
}

/// Keys and values of one layer: `[blocks, 32, K, E]` each, E padded.
#[derive(Clone, Debug)]
pub struct LayerKv {
    /// Keys, rotated.
    pub k: Buffer,
    /// Values.
    pub v: Buffer,
    /// Their element type.
    pub elem: Elem,
    /// Which of a slot's page tables finds its blocks.
    pub table: u32,
}

fn flag(axis: char, elem: Elem) -> &'static str {
    match (axis, elem) {
        ('x', Elem::F32) => "x_f32",
        ('x', Elem::F16) => "x_f16",
        ('y', Elem::F32) => "y_f32",
        ('y', Elem::F16) => "y_f16",
        (_, Elem::F32) => "c_f32",
        (_, Elem::F16) => "c_f16",
    }
}

fn weight_flag(storage: Storage) -> &'static str {
    match storage {
        Storage::F32 => "w_f32",
        Storage::F16 => "w_f16",
        Storage::Blocks(_) => "w_blocks",
    }
}

/// What kernels are told of weights in few bits.
fn block_constants(storage: Storage) -> Vec<(&'static str, f64)> {
    let Storage::Blocks(blocks) = storage else { return Vec::new() };
    [("CODES", blocks.codes.number()), ("SCALES", blocks.scales.number()), ("GROUP4", blocks.group / 4)]
        .map(|(name, number)| (name, f64::from(number)))
        .to_vec()
}

fn expect(op: &'static str, holds: bool, expected: impl FnOnce() -> String, got: &[u32]) -> Result<(), OpError> {
    if holds { Ok(()) } else { Err(OpError::Shape { op, expected: expected(), got: got.to_vec() }) }
}

/// What an operation may fail with.
pub type Result<T, E = RecordError> = std::result::Result<T, E>;

/// Recording fails on shapes, or on the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shapes.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Op(e) => e.into(),
            RecordError::Device(e) => e.into(),
        }
    }
}
