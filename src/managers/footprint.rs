//! What a model takes on a GPU at each dtype, counted by the code that loads and runs it, on a [`Plan`] instead of a device.

use super::blocks::CachePolicy;
use super::{
    Architecture, CacheOptions, CacheShape, Dtype, Precision, Traffic, Wanted, cache_chunk, cache_plan, prefill_chunk,
    resolve,
};
use crate::checkpoint::Checkpoint;
use crate::device::{AdapterInfo, Category, Memory, Plan};
use crate::error::Error;
use crate::graph::{Arena, Graph};
use crate::models::{Decoder, DecoderConfig, ModelConfig, Room, Workspace};
use crate::nn::Pass;
use crate::ops::{self, Rows};
use crate::quant::Quantization;
use crate::step::{BLOCK, History};
use crate::weights::{Weights, upload_bytes};

/// Bytes that sampled ids are read back through, at most; they count as staging, but stay.
const READBACKS: u64 = 2 << 10;

/// A model at one dtype, as far as policy is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Footprint {
    /// How linear layers are stored.
    pub dtype: Dtype,
    /// Bytes of the weights.
    pub weights: u64,
    /// The largest of their buffers.
    pub largest_buffer: u64,
    /// Bytes of the buffers of each layer: what need not stay on the GPU.
    pub layers: Vec<Vec<u64>>,
    /// Bytes of cosines and sines, which the ledger has among the weights.
    pub tables: u64,
    /// What the cache is made of.
    pub cache: CacheShape,
    /// Bytes that a prompt of one whole step takes, or decoding: they share them.
    pub activations: u64,
    /// Bytes on their way while it loads, when there is no cache yet.
    pub staging: u64,
    /// What a token reads.
    pub traffic: Traffic,
    /// Largest binding of the adapter.
    pub max_binding: u64,
    /// Why the adapter cannot hold it, whatever its memory.
    pub refused: Option<String>,
}

/// Bytes by category, as the ledger has them once a sequence fills its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Weights and tables.
    pub weights: u64,
    /// Keys and values.
    pub cache: u64,
    /// Activations, parameters of kernels, step state.
    pub activations: u64,
    /// Gone when the weights are loaded.
    pub staging: u64,
    /// The most at once.
    pub total: u64,
}

/// What is known of a model before it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// `config.json`.
    pub config: &'a DecoderConfig,
    /// The headers of its weights.
    pub checkpoint: &'a Checkpoint,
    /// Whether another tool quantized it.
    pub quantization: &'a Quantization,
}

impl Footprint {
    /// At `dtype`, within the limits of `adapter`, with as many positions as are `wanted`, or where that says nothing with the default.
    /// Along with it comes the number of weights.
    ///
    /// # Errors
    /// What is wrong with the files. What is too much for the adapter is no error: [`Footprint::refused`].
    pub fn of(
        model: Model<'_>,
        dtype: Dtype,
        adapter: Option<&AdapterInfo>,
        wanted: Wanted,
    ) -> Result<(Self, u64), Error> {
        let Wanted { context, prefill_chunk: chunk, cache: CacheOptions { dtype: cache_dtype, policy }, .. } = wanted;
        let Model { config, checkpoint, quantization } = model;
        let (parameters, stored_f32) = checkpoint.parameters();
        let precision = resolve(dtype, parameters, stored_f32).with_cache(cache_dtype);
        // without limits: the files may be wrong; within those of the adapter: it may not do
        let (all, here) = (Plan::new(None), Plan::new(adapter));
        let load = |plan| -> Result<_, Error> {
            let mut weights = Weights::planned(plan, checkpoint).quantized_by(quantization, None);
            let decoder = Decoder::load(&mut weights, config, precision.weights);
            weights.check()?;
            Ok((decoder?, weights))
        };
        let (decoder, weights) = load(&all)?;
        let (used, upload) = (weights.parameters(), upload_bytes(weights.stored_bytes()));
        let bytes = all.ledger().snapshot();
        // a chunk's kernels have their parameters beside it: a 64th of it
        let staging = bytes.of(Category::Staging) + upload + upload / 64;

        let loaded = load(&here);
        let largest_buffer = here.ledger().largest();

        let chunk = chunk.unwrap_or_else(|| prefill_chunk(used));
        let cache = CacheShape::of(config, precision.cache, policy, chunk);
        let max_binding = here.max_binding();
        let positions = context.unwrap_or_else(|| cache.default_context(max_binding));
        let positions = positions.min(cache.longest(u64::MAX, max_binding)).max(BLOCK);
        let rows = cache_chunk(chunk, precision.cache, policy).min(positions);
        let settings = Settings { precision, policy, positions, rows };
        let (run, refused) = match loaded.and_then(|(decoder, _)| run(&here, &decoder, config, settings)) {
            Ok(run) => (run, None),
            Err(error) => (run(&all, &decoder, config, settings).unwrap_or_default(), Some(error.to_string())),
        };

        let table = precision.weights.embedding.row_bytes(config.embedding.size) * u64::from(config.vocab_size);
        let read = weights.bytes().saturating_sub(if config.tie_word_embeddings { 0 } else { table });
        let architecture = Architecture::of(&ModelConfig::Decoder(config.clone()));
        let this = Self {
            dtype: precision.dtype,
            weights: bytes.of(Category::Weights),
            largest_buffer,
            layers: weights.layers().to_vec(),
            tables: run.tables,
            cache,
            activations: run.activations,
            staging,
            traffic: Traffic::new(&architecture, &cache, read, used),
            max_binding,
            refused,
        };
        Ok((this, used))
    }

    /// At every dtype that the files can be read as, the most bits first, and the number of weights.
    ///
    /// # Errors
    /// As [`of`](Self::of), where no dtype will do.
    pub fn all(model: Model<'_>, adapter: Option<&AdapterInfo>, wanted: Wanted) -> Result<(Vec<Self>, u64), Error> {
        let (mut all, mut parameters, mut failed) = (Vec::new(), 0, None);
        for dtype in Dtype::ALL {
            match Self::of(model, dtype, adapter, wanted) {
                Ok((this, used)) => {
                    all.push(this);
                    parameters = used;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok((all, parameters)),
        }
    }

    /// With room for `context` positions.
    #[must_use]
    pub fn needs(&self, context: u32) -> Needs {
        let (weights, cache) = (self.weights + self.tables, self.cache.bytes(context));
        let total = weights + (cache + self.activations).max(self.staging);
        Needs { weights, cache, activations: self.activations, staging: self.staging, total }
    }

    /// The longest sequence within `budget` and what the adapter's bindings show; 0 where not even the weights fit.
    #[must_use]
    pub fn longest(&self, budget: Option<u64>) -> u32 {
        let before = self.weights + self.tables;
        match budget {
            _ if self.refused.is_some() => 0,
            Some(budget) if budget < before + self.staging => 0,
            Some(budget) => self.cache.longest(budget.saturating_sub(before + self.activations), self.max_binding),
            None => self.cache.longest(u64::MAX, self.max_binding),
        }
    }
}

/// How a model is run.
#[derive(Clone, Copy, Debug)]
struct Settings {
    precision: Precision,
    policy: CachePolicy,
    positions: u32,
    rows: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    tables: u64,
    activations: u64,
}

/// What a sequence of `positions` positions takes besides weights and cache: the programs for whole chunks of a prompt, for its last
/// one and for decoding are recorded.
fn run(
    plan: &Plan,
    decoder: &Decoder,
    config: &DecoderConfig,
    Settings { precision, policy, positions, rows }: Settings,
) -> Result<Run, Error> {
    let before = plan.ledger().snapshot();
    let regimes: Vec<_> = config.ropes.iter().map(|rope| rope.regime(1)).collect();
    let room =
        Room { positions: positions.next_multiple_of(BLOCK), cache: positions.next_multiple_of(BLOCK), slots: 1, rows };
    let (layout, pools) = cache_plan(config, precision.cache, policy, &room);
    let workspace = Workspace::new(Memory::Plan(plan), config, (layout, &pools), &regimes, room)?;
    let arena = Arena::default();
    let mut held = Vec::new();
    let live = positions.next_power_of_two().min(room.positions);
    let selection = workspace.selection.as_ref();
    for (rows, samples) in [(rows.next_power_of_two(), false), (rows.next_power_of_two(), true), (1, true)] {
        let mut g = Graph::planned(plan);
        let pass = Pass {
            step: &workspace.step,
            cache: &workspace.cache,
            rows,
            slots: 1,
            live,
            selection: selection.filter(|_| rows > 1 && samples),
            wanted: Rows::Last(1),
            activations: precision.activations,
        };
        let hidden = decoder.forward(&mut g, &workspace.ropes, &pass, &mut |_, _| Ok(()))?;
        if samples {
            let logits = decoder.logits(&mut g, &hidden, &pass)?;
            ops::sample(&mut g, &logits, &workspace.step, None)?;
        }
        held.push(g.held(&arena)?);
    }
    let after = plan.ledger().snapshot();
    let grown = |category| after.of(category) - before.of(category);
    // penalties may be asked for at any time
    let history = History::bytes(config.vocab_size, room.positions);
    Ok(Run { tables: grown(Category::Weights), activations: grown(Category::Activations) + history + READBACKS })
}
