//! A model with its cache, its step and its recorded programs: what runs.

use std::collections::HashMap;

use crate::device::{Buffer, Device, Memory, Readback};
use crate::error::{DeviceError, Error, GenerateError};
use crate::graph::{Arena, Graph, Program};
use crate::managers::Precision;
use crate::models::{Decoder, DecoderConfig, Sequence};
use crate::nn::Pass;
use crate::ops::{self, Rows};
use crate::shaders;
use crate::step::{BLOCK, History, Step};
use crate::tensor::{Tensor, vec4s};

/// What a program makes besides filling the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Nothing: a chunk of a prompt that is not its last.
    Fill,
    /// The next token, on the GPU.
    Sample,
    /// The same, of logits that processors change before.
    Process { penalties: bool, ngrams: bool },
    /// The last row's logits, for the host.
    Logits,
    /// Every row's hidden state and logits, and where `states` the residual stream around every layer.
    Everything { states: bool },
}

/// Programs are recorded once for each phase and bucket. Buckets are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    phase: Phase,
    rows: u32,
    live: u32,
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

/// A prompt that is submitted but for its last chunk.
pub(super) struct Prefilled {
    pub encoder: wgpu::CommandEncoder,
    pub logits: Option<Output>,
    pub known: usize,
}

/// Keys below which all caches share one bucket.
const MIN_LIVE: u32 = 128;
/// Tokens of a prompt that [`Engine::warm_up`] thinks of: enough for the kernels of many rows.
const WARM_PROMPT: u32 = 64;

/// One model on one device, and one sequence of it.
pub struct Engine {
    pub(super) device: Device,
    model: Decoder,
    config: DecoderConfig,
    precision: Precision,
    /// the most positions that the cache may grow to
    context: u32,
    /// the most rows of one step
    chunk: u32,
    state: Option<State>,
    arena: Arena,
    programs: HashMap<Key, Recorded>,
    /// the tokens whose keys and values the cache holds
    pub(super) cached: Vec<u32>,
    /// of each rope: the regime in which these were rotated
    regimes: Vec<u32>,
    pub(super) readbacks: Vec<Readback>,
}

/// What depends on how many positions there is room for.
struct State {
    sequence: Sequence,
    /// what processors read; made when one is first asked for
    history: Option<History>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("programs", &self.programs.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// `context`: the most positions; `chunk`: the most tokens of a prompt in one step.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] where one of them is out of range.
    pub fn new(
        device: &Device,
        model: Decoder,
        config: DecoderConfig,
        precision: Precision,
        context: u32,
        chunk: u32,
    ) -> Result<Self, Error> {
        let most = config.max_position_embeddings;
        if context == 0 || context > most {
            let (name, expected) = ("context", "at least 1, and at most the model's max_position_embeddings");
            return Err(GenerateError::Setting { name, got: context.to_string(), expected }.into());
        }
        check_chunk(chunk)?;
        Ok(Self {
            device: device.clone(),
            regimes: config.ropes.iter().map(|rope| rope.regime(1)).collect(),
            model,
            config,
            precision,
            context,
            chunk,
            state: None,
            arena: Arena::default(),
            programs: HashMap::new(),
            cached: Vec::new(),
            readbacks: Vec::new(),
        })
    }

    /// The device that it runs on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The most positions of a sequence.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context as usize
    }

    /// V.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.config.vocab_size
    }

    /// Width of the last hidden state: D in most models.
    #[must_use]
    pub fn hidden_size(&self) -> u32 {
        self.config.embedding.size
    }

    /// The tokens whose keys and values are in the cache: a prompt that begins with them does not compute them again.
    #[must_use]
    pub fn cached(&self) -> &[u32] {
        &self.cached
    }

    /// Forgets the sequence; its memory stays.
    pub fn reset(&mut self) {
        self.cached.clear();
    }

    /// Sets the most tokens of a prompt that one step takes.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] outside 1 to 65536.
    pub fn set_prefill_chunk(&mut self, chunk: u32) -> Result<(), Error> {
        check_chunk(chunk)?;
        if chunk != self.chunk {
            self.chunk = chunk;
            self.release();
        }
        Ok(())
    }

    /// Drops the cache and all programs.
    fn release(&mut self) {
        self.cached.clear();
        self.programs.clear();
        self.state = None;
        self.arena = Arena::default();
    }

    pub(super) fn check_ids(&self, ids: &[u32]) -> Result<(), GenerateError> {
        if ids.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if ids.len() > self.context as usize {
            return Err(GenerateError::PromptTooLong { tokens: ids.len(), context: self.context as usize });
        }
        match ids.iter().find(|&&id| id >= self.config.vocab_size) {
            Some(&id) => Err(GenerateError::TokenOutOfRange { id, vocab: self.config.vocab_size }),
            None => Ok(()),
        }
    }

    /// Makes room for `positions` positions: memory follows what is asked for, not the longest context.
    pub(super) fn reserve(&mut self, positions: usize) -> Result<(), Error> {
        let wanted = (positions as u32).next_power_of_two().max(MIN_LIVE).min(self.context.next_multiple_of(BLOCK));
        if self.state.as_ref().is_some_and(|s| s.sequence.cache.positions() >= wanted) {
            return Ok(());
        }
        let grown = match self.new_state(wanted) {
            // not both at once: what is cached has to be computed again
            Err(DeviceError::OutOfMemory { .. }) if self.state.is_some() => {
                self.release();
                self.new_state(wanted)?
            }
            grown => grown?,
        };
        if let Some(state) = self.state.as_ref().filter(|_| !self.cached.is_empty()) {
            let mut encoder = self.device.encoder();
            grown.sequence.cache.copy_from(&state.sequence.cache, &mut encoder);
            self.device.submit(encoder);
        }
        self.programs.clear();
        self.state = Some(grown);
        Ok(())
    }

    /// Compiles the kernels of prompts that are no longer than `WARM_PROMPT`, and of decoding.
    ///
    /// # Errors
    /// Those of the device.
    pub fn warm_up(&mut self) -> Result<(), Error> {
        self.reserve(MIN_LIVE.min(self.context) as usize)?;
        for rows in [1, WARM_PROMPT.min(self.chunk)] {
            self.program(Phase::Sample, rows, MIN_LIVE)?;
        }
        Ok(())
    }

    fn new_state(&self, positions: u32) -> Result<State, DeviceError> {
        let (memory, elem) = (Memory::Device(&self.device), self.precision.activations);
        let sequence = Sequence::new(memory, &self.config, elem, &self.regimes, positions, self.chunk)?;
        Ok(State { sequence, history: None })
    }

    /// Gives ropes whose frequencies follow the length of the sequence those of `length` positions. Where they change, what is
    /// cached was rotated by others, and is forgotten.
    pub(super) fn set_length(&mut self, length: usize) {
        let Some(state) = &self.state else { return };
        for ((config, rope), regime) in self.config.ropes.iter().zip(&state.sequence.ropes).zip(&mut self.regimes) {
            let now = config.regime(length as u32);
            if now != *regime {
                *regime = now;
                rope.write(
                    &self.device,
                    &config.table(self.config.heads.rotary, state.sequence.cache.positions(), now),
                );
                self.cached.clear();
            }
        }
    }

    /// The longest sequence that needs no other frequencies than one of `length` positions.
    pub(super) fn reach(&self, length: usize) -> usize {
        let reach = self.config.ropes.iter().map(|rope| rope.reach(length as u32)).min();
        reach.unwrap_or(u32::MAX) as usize
    }

    fn state(&self) -> &State {
        self.state.as_ref().expect("`forward` and `generate` reserve before anything else")
    }

    /// The sequence's step.
    pub(super) fn step(&self) -> &Step {
        &self.state().sequence.step
    }

    /// The tokens so far, as processors read them on the GPU.
    pub(super) fn history(&mut self) -> Result<&History, DeviceError> {
        let (device, vocab) = (&self.device, self.config.vocab_size);
        let state = self.state.as_mut().expect("`generate` reserves before anything else");
        if state.history.is_none() {
            state.history = Some(History::new(device, vocab, state.sequence.cache.positions(), 1)?);
        }
        Ok(state.history.as_ref().expect("it was just made"))
    }

    /// The program for `rows` rows that leave `live` keys in the cache, recorded now if it never was.
    pub(super) fn program(&mut self, phase: Phase, rows: u32, live: u32) -> Result<&Recorded, Error> {
        let state = self.state();
        let live = live.next_power_of_two().clamp(MIN_LIVE, state.sequence.cache.positions().max(MIN_LIVE));
        let key = Key { phase, rows: rows.next_power_of_two(), live };
        if !self.programs.contains_key(&key) {
            let recorded = match self.record(key, state) {
                // the buffers of programs for other rows, which are made again when they are wanted
                Err(Error::Device(DeviceError::OutOfMemory { .. })) if !self.programs.is_empty() => {
                    self.programs.clear();
                    self.arena = Arena::default();
                    self.record(key, self.state())?
                }
                recorded => recorded?,
            };
            self.programs.insert(key, recorded);
        }
        Ok(&self.programs[&key])
    }

    fn record(&self, key: Key, state: &State) -> Result<Recorded, Error> {
        let mut g = Graph::new(&self.device);
        let sequence = &state.sequence;
        let pass = Pass {
            step: &sequence.step,
            cache: &sequence.cache,
            rows: key.rows,
            slots: 1,
            live: key.live,
            wanted: if matches!(key.phase, Phase::Everything { .. }) { Rows::All } else { Rows::Last(1) },
            elem: self.precision.activations,
        };
        let mut states = Vec::new();
        let hidden = self.model.forward(&mut g, &sequence.ropes, &pass, &mut |g, x| {
            if key.phase == (Phase::Everything { states: true }) {
                let state = g.copy(x)?; // layers add to x
                g.keep(&state);
                states.push(state);
            }
            Ok(())
        })?; // [T, D] or [1, D]
        let mut logits = None;
        if key.phase != Phase::Fill {
            let made = self.model.logits(&mut g, &hidden, &pass)?; // [T, V] or [1, V]
            match key.phase {
                Phase::Sample => ops::sample(&mut g, &made, &sequence.step, None)?,
                Phase::Process { penalties, ngrams } => {
                    let history = state.history.as_ref().expect("`generate` makes it before it asks for this phase");
                    if penalties {
                        ops::penalize(&mut g, &made, &sequence.step, history)?;
                    }
                    if ngrams {
                        ops::no_repeat_ngram(&mut g, &made, &sequence.step, history, key.live)?;
                    }
                    ops::sample(&mut g, &made, &sequence.step, Some(history))?;
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

    /// Rows that one step may have: fewer where every row's logits are wanted and one binding does not show them all, or where
    /// that many bytes do not hold the states of all layers.
    pub(super) fn rows_at_once(&self, phase: Phase) -> usize {
        let Phase::Everything { states } = phase else { return self.chunk as usize };
        let logits = u64::from(vec4s(self.config.vocab_size)) * 16;
        let layers = self.config.layers.len() as u64 + 1;
        let states = if states { layers * u64::from(vec4s(self.config.hidden_size)) * 16 } else { 0 };
        let most = (self.device.max_binding() / logits.max(states)).max(1) as usize;
        // buckets are powers of two: the largest that fits
        (self.chunk as usize).min(1 << most.ilog2())
    }

    /// Submits a prompt in chunks; tokens that the cache already holds are left out. The last chunk's program is of `phase`:
    /// its encoder is returned unsubmitted, with where its logits go, and how many tokens were left out. `sampled` tokens of this
    /// generation are among them already.
    pub(super) fn prefill(&mut self, ids: &[u32], phase: Phase, sampled: usize) -> Result<Prefilled, Error> {
        self.set_length(ids.len());
        // at least one token must run, for its logits
        let known = self.cached.iter().zip(ids).take_while(|(a, b)| a == b).count().min(ids.len() - 1);
        self.cached.truncate(known);
        let size = self.rows_at_once(phase);
        let mut position = known;
        loop {
            let rows = size.min(ids.len() - position);
            let last = position + rows == ids.len();
            self.set_step(position, &ids[position..position + rows], sampled);
            let mut encoder = self.device.encoder();
            let now = if last { phase } else { Phase::Fill };
            let recorded = self.program(now, rows as u32, (position + rows) as u32)?;
            recorded.program.encode(&mut encoder);
            if last {
                let logits = recorded.logits.clone();
                self.cached.extend_from_slice(&ids[known..]);
                return Ok(Prefilled { encoder, logits, known });
            }
            self.device.submit(encoder);
            position += rows;
        }
    }

    /// Sets the step to `ids` at `position`, with `sampled` tokens sampled so far.
    pub(super) fn set_step(&self, position: usize, ids: &[u32], sampled: usize) {
        let step = self.step();
        let rows = ids.len() as u32;
        let (position, sampled) = (position as u32, sampled as u32);
        let slot = shaders::Slot { position, rows, sampled, cached: position, ..Default::default() };
        step.set(&self.device, &[slot]);
        step.set_ids(&self.device, [ids]);
    }
}

fn check_chunk(chunk: u32) -> Result<(), GenerateError> {
    if (1..=1 << 16).contains(&chunk) {
        return Ok(());
    }
    let (name, expected) = ("prefill_chunk", "a number from 1 to 65536");
    Err(GenerateError::Setting { name, got: chunk.to_string(), expected })
}
