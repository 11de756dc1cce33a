//! What is loaded of a model, and how.

use super::LoadOptions;
use crate::device::{AdapterInfo, Device};
use crate::error::{DeviceError, Error};
use crate::generate::Engine;
use crate::managers::blocks::CachePolicy;
use crate::managers::{
    self, Architecture, CacheShape, Dtype, Footprint, Model, Offload, Recommendation, Traffic, Wanted,
};
use crate::models::{Decoder, ModelConfig, gguf};
use crate::quant::Side;
use crate::source::Source;
use crate::weights::{Asked, Offloaded, Progress, Weights};

/// What was decided.
pub(super) struct Loading {
    /// What `auto` became.
    pub recommendation: Option<Recommendation>,
    dtype: Dtype,
    /// Which layers do not stay.
    pub offload: Option<Offload>,
    context: Option<u32>,
}

/// What is known of a model that was loaded.
pub(super) struct LoadedFacts {
    pub extra: Vec<String>,
    pub architecture: Architecture,
    pub traffic: Traffic,
    pub parameters: u64,
}

/// What is wanted of a model on `device`, with the memory that it has left, and within which limits.
pub(super) fn wanted(device: &Device, options: &LoadOptions, found: Option<u64>) -> (AdapterInfo, Wanted) {
    let limits = device.limits();
    let adapter = AdapterInfo {
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        ..device.info().clone()
    };
    let left = device.memory_limit().map(|limit| limit.saturating_sub(device.ledger().snapshot().total));
    let LoadOptions { context, prefill_chunk, cache, gpu_layers, .. } = *options;
    (adapter, Wanted { budget: left.or(found), context, prefill_chunk, cache, gpu_layers, bytes_per_second: None })
}

impl Loading {
    /// What to do with `model`; `found`: bytes that the adapter was found to give.
    pub fn plan(device: &Device, model: Model<'_>, options: &LoadOptions, found: Option<u64>) -> Result<Self, Error> {
        let (adapter, wanted) = wanted(device, options, found);
        let recommendation = match options.dtype {
            Dtype::Auto => Some(Recommendation::of(model, Some(&adapter), wanted)?.0),
            _ => None,
        };
        let chosen = recommendation.as_ref().map(Recommendation::chosen).transpose()?;
        let dtype = chosen.and_then(|chosen| Dtype::from_name(chosen.dtype)).unwrap_or(options.dtype);
        let offload = match chosen.and_then(|chosen| chosen.offload.clone()) {
            None if wanted.budget.is_some() && chosen.is_none() || wanted.gpu_layers.is_some() => {
                let footprint = Footprint::of(model, dtype, Some(&adapter), wanted)?.0;
                managers::fit(&footprint, &wanted).map_err(|error| {
                    let DeviceError::NothingFits { mut reason } = error else { return error };
                    if let Ok((told, ..)) = Recommendation::of(model, Some(&adapter), wanted) {
                        reason += &format!("; dtype auto is {}", told.reason);
                    }
                    DeviceError::NothingFits { reason }
                })?
            }
            found => found,
        };
        let planned = offload.as_ref().map(|offload| offload.context).or(chosen.map(|chosen| chosen.context));
        let context = options.context.or(planned);
        Ok(Self { recommendation, dtype, offload, context })
    }

    /// Does it. Where that fails, `held` is what all on the device had by then.
    #[allow(clippy::too_many_arguments, reason = "what a session is opened with, and two outcomes")]
    pub async fn load(
        &self,
        device: &Device,
        source: &Source,
        model: Model<'_>,
        side: &Side,
        options: &LoadOptions,
        progress: impl FnMut(Progress<'_>),
        held: &mut u64,
    ) -> Result<(Engine, Option<Offloaded>, Asked, LoadedFacts), Error> {
        let Model { config, checkpoint, quantization } = model;
        let whole = ModelConfig::Decoder(config.clone());
        let precision = managers::choose(self.dtype, &whole, checkpoint, quantization)?.with_cache(options.cache.dtype);
        let layout = self.offload.as_ref().map(|offload| offload.layout.clone());
        let mut weights = Weights::new(device, checkpoint).quantized_by(quantization, Some(side)).offloading(layout);
        let decoder = Decoder::load(&mut weights, config, precision.weights);
        *held = device.ledger().snapshot().total;
        let decoder = decoder?;
        let extra = weights.extra().into_iter().filter(|name| !gguf::is_config(name)).collect();
        let (bytes, parameters, asked) = (weights.bytes(), weights.parameters(), weights.asked());
        let chunk = options.prefill_chunk.unwrap_or_else(|| managers::prefill_chunk(parameters));
        let policy = options.cache.policy;
        let cache = CacheShape::of(config, precision.cache, policy, chunk);
        let architecture = Architecture::of(&whole);
        let table = precision.weights.embedding.row_bytes(config.embedding.size) * u64::from(config.vocab_size);
        let read = bytes.saturating_sub(if config.tie_word_embeddings { 0 } else { table });
        let traffic = Traffic::new(&architecture, &cache, read, parameters);
        let context = self.context.unwrap_or_else(|| match policy {
            CachePolicy::Window { .. } => Engine::MOST_POSITIONS,
            CachePolicy::Full | CachePolicy::SnapKv { .. } => cache.default_context(device.max_binding()),
        });
        let mut engine = Engine::new(device, decoder, config.clone(), precision, policy, context, chunk)?;
        let mut cold = options.warm_up;
        let warm_up = || match std::mem::take(&mut cold).then(|| engine.warm_up()) {
            // while chunks are under way there is less room than there will be
            None | Some(Err(Error::Device(DeviceError::OutOfMemory { .. }))) => Ok(()),
            Some(warm) => warm,
        };
        let streamed = weights.stream(source, progress, warm_up).await;
        *held = device.ledger().snapshot().total;
        Ok((engine, streamed?, asked, LoadedFacts { extra, architecture, traffic, parameters }))
    }
}
