//! What an encoder needs besides its weights to run a step, and what a step makes.

use crate::device::{Buffer, Category, Memory, Plan};
use crate::error::{DeviceError, Error};
use crate::graph::{Arena, Graph};
use crate::models::{Encoder, EncoderConfig};
use crate::nn::{CacheLayout, KvCache, Pass, Pool};
use crate::ops::{self, PoolKind, Rows};
use crate::shaders::Row;
use crate::step::{BLOCK, Step, StepSize};
use crate::tensor::{Activations, CacheDtype, Tensor};

/// Rows and keys below which all steps share one program.
const LEAST_ROWS: u32 = 16;
const LEAST_LIVE: u32 = 128;

/// What a step makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncoderOutput {
    /// Every row's hidden state.
    States,
    /// One row of each text.
    Row {
        /// Which, or of what.
        kind: PoolKind,
        /// Whether it is divided by its length.
        normalize: bool,
    },
    /// Hidden states of all layers, and the pooler's output.
    All,
}

/// Programs are recorded once for each bucket. Buckets are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// What it makes.
    pub wanted: EncoderOutput,
    /// Rows of all texts together.
    pub rows: u32,
    /// Texts.
    pub slots: u32,
    /// Tokens of the longest one.
    pub live: u32,
}

impl Bucket {
    /// For so many tokens of so many texts, the longest of which has `longest`.
    #[must_use]
    pub fn new(wanted: EncoderOutput, rows: u32, slots: u32, longest: u32) -> Self {
        let of = |count: u32, least: u32| count.next_power_of_two().max(least);
        Self { wanted, rows: of(rows, LEAST_ROWS), slots: of(slots, 1), live: of(longest, LEAST_LIVE) }
    }
}

/// What the GPU works on: texts as slots of a step.
#[derive(Debug)]
pub struct EncoderWorkspace {
    /// How many rows each text has, and where.
    pub step: Step,
    /// Kinds of the step's tokens, as [`ops::embed_types`] takes them.
    pub types: Buffer,
    /// Keys and values of one layer, which all pass through.
    cache: KvCache,
    /// Rows that there is room for.
    pub rows: u32,
    /// Texts that there is room for.
    pub slots: u32,
}

impl EncoderWorkspace {
    /// With room for so many rows and texts.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn new(
        memory: Memory<'_>,
        c: &EncoderConfig,
        dtype: CacheDtype,
        rows: u32,
        slots: u32,
    ) -> Result<Self, DeviceError> {
        let layout = CacheLayout { heads: c.heads, dtype, raw_keys: false, groups: vec![0], kept: 0 };
        // each text begins with a block of its own
        let cache = KvCache::new(memory, layout, &[Pool::of(rows.div_ceil(BLOCK) + slots)])?;
        let pages = c.max_position_embeddings.div_ceil(BLOCK);
        let step = Step::new(memory, StepSize { rows, slots, tables: 1, pages, ring: 1 })?;
        let types = memory.storage("token types", Category::Activations, u64::from(rows) * size_of::<Row>() as u64)?;
        Ok(Self { step, types, cache, rows, slots })
    }

    /// Records a step: its results, which are kept, and of each whether it has a row for each text, rather than for each token.
    ///
    /// # Errors
    /// [`crate::ops::RecordError`]
    pub fn record(
        &self,
        g: &mut Graph<'_>,
        model: &Encoder,
        activations: Activations,
        bucket: Bucket,
    ) -> ops::Result<Vec<(Tensor, bool)>> {
        let Bucket { wanted, rows, slots, live } = bucket;
        let pass = Pass {
            step: &self.step,
            cache: &self.cache,
            rows,
            slots,
            live,
            selection: None,
            wanted: Rows::All,
            activations,
        };
        let mut outputs = Vec::new();
        let x = model.forward(g, &self.types, &pass, &mut |g, x| {
            if wanted == EncoderOutput::All {
                outputs.push((g.copy(x)?, false)); // layers add to x
            }
            Ok(())
        })?; // [T, D]
        match wanted {
            EncoderOutput::States => outputs.push((x, false)),
            EncoderOutput::Row { kind, normalize } => {
                outputs.push((ops::pool(g, &x, kind, normalize, slots, &self.step)?, true)); // [B, D]
            }
            EncoderOutput::All => outputs.extend(model.pool(g, &x, &pass)?.map(|y| (y, true))), // [B, D]
        }
        outputs.iter().for_each(|(tensor, _)| g.keep(tensor));
        Ok(outputs)
    }
}

/// Bytes that a step takes whose rows are one text of `rows` tokens: activations and keys, counted by the code that runs it.
///
/// # Errors
/// What the limits of the plan's adapter do not allow.
pub fn step_bytes(
    plan: &Plan,
    model: &Encoder,
    config: &EncoderConfig,
    (activations, cache): (Activations, CacheDtype),
    rows: u32,
) -> Result<u64, Error> {
    let before = plan.ledger().snapshot().total;
    let bucket = Bucket::new(EncoderOutput::States, rows, 1, rows);
    let workspace = EncoderWorkspace::new(Memory::Plan(plan), config, cache, bucket.rows, bucket.slots)?;
    let mut g = Graph::planned(plan);
    workspace.record(&mut g, model, activations, bucket)?;
    let arena = Arena::default();
    let _held = g.held(&arena)?;
    Ok(plan.ledger().snapshot().total - before)
}
