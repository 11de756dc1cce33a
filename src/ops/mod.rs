//! One file per operation: check shapes, allocate the result, dispatch. The kernel of the same name says what is computed.
//!
//! Dimensions: B batch, T new tokens, S cached tokens, D hidden, H query heads, K key/value heads, E head width,
//! F feed-forward, V vocabulary.

mod activation;
mod attention;
mod draft;
mod embed;
mod fma;
mod gather_cache;
mod head_norm;
mod matmul;
mod no_repeat_ngram;
mod norm;
mod observe;
mod penalize;
mod pool;
mod prompt_lookup;
mod quantize_cache;
mod quantize_rows;
mod rope_append;
mod sample;
mod select_keys;
mod softcap;
mod verify;

pub use activation::{Act, activation};
pub use attention::{AttentionParams, attention};
pub use draft::{Assistant, adopt, draft};
pub use embed::{embed, embed_positions, embed_types};
pub use fma::{FmaType, fma};
pub use gather_cache::gather_cache;
pub use head_norm::head_norm;
pub use matmul::{Activated, Input, Normed, Out, matmul, matmul_activated};
pub use no_repeat_ngram::no_repeat_ngram;
pub use norm::{Affine, NormConfig, NormKind, Rows, norm};
pub use observe::{OBSERVED, observe};
pub use penalize::penalize;
pub use pool::{PoolKind, pool};
pub use prompt_lookup::prompt_lookup;
pub use quantize_cache::quantize_cache;
pub use quantize_rows::quantize_rows;
pub use rope_append::{RopeLayout, RopeTable, rope_append, rope_rows, rope_table};
pub use sample::{draw, sample};
pub use select_keys::select_keys;
pub use softcap::softcap;
pub use verify::verify;

use crate::device::Buffer;
use crate::error::{DeviceError, Error, OpError};
use crate::step::BLOCK;
use crate::tensor::{CacheDtype, Elem, Storage, vec4s};

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

/// Keys and values of one layer, in blocks of 32 positions that page tables find: `[blocks, 32, K, E]` each, E padded.
///
/// A quantized cache keeps a block as f16 while it may still change, in a *hot* page, and in few bits once it is full, in a *cold* page:
/// `[hot blocks][cold blocks]`. A query reads its own block from the hot page and all before it from cold ones, so that what it sees
/// does not depend on how a prompt was cut.
#[derive(Clone, Debug)]
pub struct LayerKv {
    /// Keys.
    pub k: Buffer,
    /// Values.
    pub v: Buffer,
    /// How they are stored.
    pub dtype: CacheDtype,
    /// Whether keys are stored as they came, and rotated where they are read, by their place in the cache: keys before them may be
    /// dropped then. Else they are stored rotated.
    pub raw_keys: bool,
    /// Which of a slot's page tables finds its blocks, cold ones where there are two kinds.
    pub table: u32,
    /// Which of them finds its hot blocks.
    pub hot_table: u32,
    /// Hot blocks in each buffer, which precede the cold ones; 0 where there is one kind.
    pub hot_blocks: u32,
}

impl LayerKv {
    /// The word where cold blocks begin.
    fn cold(&self, heads: &Heads) -> u32 {
        // a binding shows at most 4 GiB
        (u64::from(self.hot_blocks) * hot_block_bytes(heads, self.dtype) / 4) as u32
    }

    /// The page table that finds the blocks which a step writes.
    fn written_table(&self) -> u32 {
        if self.dtype.bits().is_some() { self.hot_table } else { self.table }
    }
}

/// Bytes of a block's keys, or values, in one layer, as they are written: 32 positions, each element by itself.
#[must_use]
pub fn hot_block_bytes(heads: &Heads, dtype: CacheDtype) -> u64 {
    u64::from(BLOCK) * u64::from(heads.kv_heads) * u64::from(heads.padded() / 4) * dtype.elem().bytes4()
}

/// Bytes of a full block's keys, or values, in one layer: what `shaders/shared/cache.wgsl` tells where they are quantized.
#[must_use]
pub fn block_bytes(heads: &Heads, dtype: CacheDtype) -> u64 {
    let Some(bits) = dtype.bits() else { return hot_block_bytes(heads, dtype) };
    let row = u64::from(heads.kv_heads) * u64::from(heads.head_dim).next_multiple_of(8);
    let codes = row * u64::from(BLOCK * bits / 8);
    let scales = row.div_ceil(32) * u64::from(BLOCK) * 2;
    codes + if bits == 4 { 2 * scales } else { scales }
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
