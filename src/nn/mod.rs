//! The parts that models are made of.

mod attention;
mod kv_cache;
mod linear;
mod mlp;
mod norm;
mod rope;
mod selection;

pub use attention::{Attention, AttentionConfig, AttentionNames};
pub use kv_cache::{Block, CacheLayout, KvCache, Pool};
pub use linear::{Embedding, Linear};
pub use mlp::{Mlp, MlpConfig, MlpNames};
pub use norm::Norm;
pub use rope::Rope;
pub use selection::Selection;

use crate::ops::Rows;
use crate::step::Step;
use crate::tensor::{Activations, Storage};

/// What one recording of a model's forward pass is for.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The sequences' state on the GPU.
    pub step: &'a Step,
    /// Keys and values.
    pub cache: &'a KvCache,
    /// T, rows there is room for.
    pub rows: u32,
    /// B, slots there is room for.
    pub slots: u32,
    /// The most keys of a slot that are in the cache once this pass's own are.
    pub live: u32,
    /// Chooses what is kept of the prompt that ends with this pass, where one does that is longer.
    pub selection: Option<&'a Selection>,
    /// Which rows the result has.
    pub wanted: Rows,
    /// Element types of activations; the residual stream is f32 always.
    pub activations: Activations,
}

/// How weights are stored on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightTypes {
    /// Linear layers.
    pub linear: Storage,
    /// Embedding and output head: most sensitive to rounding, so q4 keeps them in f16.
    pub embedding: Storage,
}
