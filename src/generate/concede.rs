//! Where memory runs short: something is given up, and all sequences begin again from what the host knows of them.

use super::engine::Engine;
use super::sequence::{Sequence, SequenceId};
use super::submit::MAX_BURST;
use crate::device::Device;
use crate::error::{DeviceError, Error};
use crate::managers::batch::{Limits, Scheduler};
use crate::managers::{Concession, Holding, cache_chunk, concede};
use crate::models::{Decoder, DecoderConfig};
use crate::nn::WeightTypes;
use crate::site::OpClass;
use crate::step::MAX_SLOTS;
use crate::weights::{Arrangement, OffloadLayout, Offloaded, Weights};

/// What is not given up, however short memory is: somebody set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// How keys and values are kept.
    pub cache: bool,
    /// The most positions of a sequence.
    pub context: bool,
    /// How many layers stay on the GPU.
    pub layers: bool,
}

/// The weights of an engine, and which of them do not stay on the GPU.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub offloaded: Option<Offloaded>,
    /// to have more of them leave
    pub arrangement: Option<Arrangement>,
}

impl Loaded {
    fn resident(&self) -> Option<(usize, &[Vec<u64>])> {
        let layers = self.arrangement.as_ref()?.layers();
        Some((self.offloaded.as_ref().map_or(layers.len(), |offloaded| offloaded.layout().resident), layers))
    }

    /// The same weights, with fewer layers that stay.
    async fn offload(
        &mut self,
        device: &Device,
        resident: usize,
        config: &DecoderConfig,
        types: WeightTypes,
    ) -> Result<Option<Decoder>, Error> {
        let Some(arrangement) = &mut self.arrangement else { return Ok(None) };
        let Some(layout) = OffloadLayout::new(resident, arrangement.layers(), 0) else { return Ok(None) };
        let offloaded = &mut self.offloaded;
        arrangement
            .offload(device, layout, offloaded, |w: &mut Weights<'_>| Decoder::load(w, config, types))
            .await
            .map(Some)
    }
}

impl Engine {
    /// What was given up so far, in this order, because memory ran short.
    #[must_use]
    pub fn concessions(&self) -> &[Concession] {
        &self.concessions
    }

    /// Where `result` says that memory is short, something is given up if there is something: all is well then, but nothing was
    /// computed.
    pub(super) async fn or_concede(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.or_give_up(result, false).await
    }

    /// As [`or_concede`](Self::or_concede), but what is computed stays the same: only time is given up.
    pub(super) async fn or_concede_layers(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.or_give_up(result, true).await
    }

    async fn or_give_up(&mut self, result: Result<(), Error>, exact: bool) -> Result<(), Error> {
        let Err(Error::Device(DeviceError::OutOfMemory { size, .. })) = &result else { return result };
        let missing = *size;
        let seated = self.batch.seated().count() as u32;
        // what was told, or said to be cached, may never have been computed
        self.drain().await?;
        self.discard_logits().await?;
        self.begin_anew();
        if !std::mem::replace(&mut self.begun_anew, true) {
            // what others have let go may do
            return Ok(());
        }
        if seated > 1 {
            // fewer at once lose nothing
            self.most_seats = seated / 2;
            return Ok(());
        }
        if self.concede(missing, exact).await? { Ok(()) } else { result }
    }

    /// Takes all seats, and drops the cache: every sequence waits to be computed from its beginning. Nothing may be under way.
    pub(super) fn begin_anew(&mut self) {
        let ids: Vec<SequenceId> = self.sequences.keys().copied().collect();
        for id in ids {
            let Some(mut sequence) = self.sequences.remove(&id) else { continue };
            self.leave(&sequence);
            sequence.give_way(&mut self.blocks);
            (sequence.forked, sequence.submitted, sequence.ahead) = (None, 0, 0);
            self.sequences.insert(id, sequence);
        }
        self.release();
    }

    /// Gives up what is next; `false` where nothing is left. Nobody has a seat, and nothing is cached. `exact`: nothing that shows in what
    /// is computed.
    async fn concede(&mut self, missing: u64, exact: bool) -> Result<bool, Error> {
        let under_way = || self.sequences.values().filter(|sequence| !sequence.is_over());
        let longest = under_way().map(|s| self.kept(s.prompt + s.limit) as u32).max();
        let by_now = under_way().map(|s| s.ids.len() as u32).max();
        let Settled { cache, context, layers } = self.settled;
        // one that f16 did not hold keeps f32
        let cache = exact || cache || self.precision_report().demoted.contains(&OpClass::Cache);
        let holding = Holding {
            cache: (!cache).then_some(self.precision.cache),
            context: longest.zip(by_now).filter(|_| !exact && !context && !self.policy.moves()),
            layers: self.loaded.resident().filter(|_| !layers),
            missing,
        };
        let Some(concession) = concede(&holding) else { return Ok(false) };
        match concession {
            Concession::Cache { to, .. } => {
                self.precision.cache = to;
                self.chunk = cache_chunk(self.chunk, to, self.policy);
                let limits = Limits { sequences: MAX_SLOTS, chunk: self.chunk, burst: MAX_BURST as u32 };
                self.scheduler = Scheduler::new(self.scheduler.strategy(), limits);
                self.blocks = Self::no_blocks(&self.config, self.precision, self.policy);
            }
            Concession::Context { to, .. } => {
                self.context = to;
                let shorten = |s: &mut Sequence| s.limit = s.limit.min((to as usize).saturating_sub(s.prompt));
                self.sequences.values_mut().filter(|s| !s.is_over()).for_each(shorten);
            }
            Concession::Layers { to, .. } => {
                let types = self.precision.weights;
                match self.loaded.offload(&self.device, to, &self.config, types).await {
                    Ok(Some(model)) => self.model = model,
                    // not even for the way
                    Ok(None) | Err(Error::Device(DeviceError::OutOfMemory { .. })) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }
        tracing::warn!(%concession, "memory ran short");
        self.concessions.push(concession);
        Ok(true)
    }
}
