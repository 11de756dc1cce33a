//! The programs that an engine records, and how they are encoded.

use super::engine::{Engine, MIN_LIVE};
use crate::device::Buffer;
use crate::error::{DeviceError, Error};
use crate::graph::{Arena, Graph, Program};
use crate::managers::blocks::CachePolicy;
use crate::models::Workspace;
use crate::nn::Pass;
use crate::ops::{self, Rows};
use crate::step::History;
use crate::tensor::Tensor;

/// What a program makes besides filling the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Nothing: a chunk of a prompt that is not its last.
    Fill,
    /// Nothing, and it fills other blocks, with what was selected.
    Gather,
    /// Each slot's next token, on the GPU.
    Sample,
    /// The same, of logits that processors change before.
    Process {
        penalties: bool,
        ngrams: bool,
    },
    /// The same for up to `each` next tokens of each slot: drafts are verified, and others are made.
    Speculate {
        each: u32,
        penalties: bool,
        ngrams: bool,
    },
    /// What an assistant does before it drafts for up to `each` tokens, and what becomes of its drafts.
    Draft {
        each: u32,
    },
    Adopt {
        each: u32,
    },
    /// The logits of each slot's last row, for the host.
    Logits,
    /// Every row's hidden state and logits, and where `states` the residual stream around every layer.
    Everything {
        states: bool,
    },
}

impl Phase {
    /// Tokens that a step gives each slot at most.
    pub fn each(self) -> u32 {
        if let Self::Speculate { each, .. } = self { each } else { 1 }
    }

    /// What does either's work: processors leave alone what asks for nothing.
    pub fn and(self, other: Self) -> Self {
        let Self::Process { penalties: a, ngrams: b } = self else { return other };
        let Self::Process { penalties, ngrams } = other else { return self };
        Self::Process { penalties: a || penalties, ngrams: b || ngrams }
    }
}

/// Programs are recorded once for each phase and bucket. Buckets are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub phase: Phase,
    selects: bool,
    rows: u32,
    pub slots: u32,
    pub live: u32,
}

pub(super) struct Recorded {
    pub program: Program,
    pub hidden: Option<Output>,
    pub logits: Option<Output>,
    /// before the first layer, and after every one
    pub states: Vec<Output>,
}

/// An activation that a program leaves behind, and where.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub tensor: Tensor,
    pub buffer: Buffer,
}

impl Engine {
    /// Which program is for `rows` rows of `slots` slots that leave at most `live` keys of each in the cache. `selects`: it chooses what
    /// is kept of a prompt, too.
    pub(super) fn key(&self, phase: Phase, selects: bool, rows: u32, slots: u32, live: u32) -> Key {
        let most = self.workspace().room.positions.max(MIN_LIVE);
        let live = live.next_power_of_two().clamp(MIN_LIVE, most);
        Key { phase, selects, rows: rows.next_power_of_two(), slots: slots.next_power_of_two(), live }
    }

    /// That program, recorded now if it never was.
    pub(super) fn program(&mut self, key: Key) -> Result<&Recorded, Error> {
        if !self.programs.contains_key(&key) {
            let recorded = match self.record(key) {
                // the buffers of programs for other rows, which are made again when they are wanted
                Err(Error::Device(DeviceError::OutOfMemory { .. })) if !self.programs.is_empty() => {
                    self.programs.clear();
                    self.arena = Arena::default();
                    self.record(key)?
                }
                recorded => recorded?,
            };
            self.programs.insert(key, recorded);
        }
        Ok(&self.programs[&key])
    }

    /// Encodes a program `count` times. Where layers do not stay on the GPU, all but the end of it is submitted here, while the layers come.
    pub(super) async fn encode_runs(
        &mut self,
        key: Key,
        count: usize,
        mut encoder: wgpu::CommandEncoder,
    ) -> Result<wgpu::CommandEncoder, Error> {
        self.program(key)?;
        let drafting = self.drafting(key)?;
        if self.timed.is_some() {
            return self.time_runs(key, count, drafting, encoder).await;
        }
        let Self { programs, loaded, device, batch, assistant, .. } = self;
        let Some(Recorded { program, .. }) = programs.get(&key) else { return Ok(encoder) };
        let draft = |encoder: &mut wgpu::CommandEncoder| {
            drafting.iter().flat_map(|drafting| drafting.programs(programs, assistant)).for_each(|p| p.encode(encoder));
        };
        let Some(offloaded) = &mut loaded.offloaded else {
            for _ in 0..count {
                program.encode(&mut encoder);
                draft(&mut encoder);
            }
            return Ok(encoder);
        };
        // whoever waits may go away: then nobody knows how far the GPU is
        let was_forgotten = std::mem::replace(&mut batch.is_forgotten, true);
        for _ in 0..count {
            for part in program.parts() {
                if let Some(layer) = part.layer
                    && !offloaded.is_seated(layer)
                {
                    // what reads the layer that sits there now
                    device.submit(std::mem::replace(&mut encoder, device.encoder()));
                    offloaded.bring(layer).await?;
                }
                part.encode(&mut encoder);
            }
            draft(&mut encoder);
        }
        batch.is_forgotten = was_forgotten;
        Ok(encoder)
    }

    fn record(&self, key: Key) -> Result<Recorded, Error> {
        let mut g = Graph::new(&self.device);
        let Workspace { step, cache, ropes, selection, .. } = self.workspace();
        let selection = selection.as_ref();
        if let (Phase::Gather, Some(selection)) = (key.phase, selection) {
            selection.gather(&mut g, cache)?;
            let program = g.finish(&self.arena)?;
            return Ok(Recorded { program, hidden: None, logits: None, states: Vec::new() });
        }
        if let (Phase::Draft { each } | Phase::Adopt { each }, Some(assistant)) = (key.phase, &self.assistant) {
            let (history, vocab) = (self.expect_history(), self.config.vocab_size);
            match key.phase {
                Phase::Draft { .. } => ops::draft(&mut g, step, history, each, assistant.step())?,
                _ => ops::adopt(&mut g, vocab, step, history, each, assistant.step())?,
            }
            let program = g.finish(&self.arena)?;
            return Ok(Recorded { program, hidden: None, logits: None, states: Vec::new() });
        }
        let pass = Pass {
            step,
            cache,
            rows: key.rows,
            slots: key.slots,
            live: key.live,
            selection: selection.filter(|_| key.selects),
            wanted: match key.phase {
                Phase::Everything { .. } | Phase::Speculate { .. } => Rows::All,
                _ => Rows::Last(key.slots),
            },
            activations: self.precision.activations,
        };
        let mut states = Vec::new();
        let hidden = self.model.forward(&mut g, ropes, &pass, &mut |g, x| {
            if key.phase == (Phase::Everything { states: true }) {
                let state = g.copy(x)?; // layers add to x
                g.keep(&state);
                states.push(state);
            }
            Ok(())
        })?; // [T, D] or [B, D]
        let mut logits = None;
        if key.phase != Phase::Fill {
            let made = self.model.logits(&mut g, &hidden, &pass)?; // [T, V] or [B, V]
            match key.phase {
                Phase::Sample => ops::sample(&mut g, &made, step, None)?,
                Phase::Process { penalties, ngrams } => {
                    self.process(&mut g, &made, &pass, (penalties, ngrams))?;
                    ops::sample(&mut g, &made, step, Some(self.expect_history()))?;
                }
                Phase::Speculate { each, penalties, ngrams } => {
                    let history = self.expect_history();
                    self.process(&mut g, &made, &pass, (penalties, ngrams))?;
                    let draws = ops::draw(&mut g, &made, step)?; // [T]
                    ops::verify(&mut g, &draws, made.dim, step, history, each)?;
                    ops::prompt_lookup(&mut g, key.slots, step, history, each)?;
                }
                _ => {
                    g.keep(&made);
                    g.keep(&hidden);
                    logits = Some(made);
                }
            }
        }
        let program = g.finish(&self.arena)?;
        tracing::debug!(?key, dispatches = program.len(), "recorded");
        let kept = |tensor: Tensor| program.kept(&tensor).cloned().map(|buffer| Output { tensor, buffer });
        let (hidden, logits) = (kept(hidden), logits.and_then(kept));
        let states = states.into_iter().filter_map(kept).collect();
        Ok(Recorded { program, hidden, logits, states })
    }

    fn expect_history(&self) -> &History {
        self.history.as_ref().expect("it is made before a phase that needs it is asked for")
    }

    /// Records what changes logits by the tokens so far.
    fn process(
        &self,
        g: &mut Graph<'_>,
        logits: &Tensor,
        pass: &Pass<'_>,
        (penalties, ngrams): (bool, bool),
    ) -> Result<(), Error> {
        let history = self.expect_history();
        if penalties {
            ops::penalize(g, logits, pass.wanted, pass.step, history)?;
        }
        if ngrams {
            // what the cache has dropped is still in the history
            let so_far = if self.policy == CachePolicy::Full { pass.live } else { history.positions };
            ops::no_repeat_ngram(g, logits, pass.wanted, pass.step, history, so_far)?;
        }
        Ok(())
    }
}
