//! The decoding loop. The GPU samples and feeds itself; ids are read back through a ring, some steps behind.

use std::collections::VecDeque;

use web_time::Instant;

use super::engine::{Engine, Output, Phase, Prefilled};
use super::forward::unpack_rows;
use super::processors::Processors;
use super::{FinishReason, GenerateOptions};
use crate::device::{READBACK_MS, Readback};
use crate::error::{Error, GenerateError};
use crate::reference;
use crate::shaders::{self, Sampling};
use crate::step::Step;
use crate::tensor::{Tensor, vec4s};

/// Bytes of the step state that are read back before the ids.
const HEADER: u64 = size_of::<shaders::Slot>() as u64;

/// Steps of one submit, read back together.
#[derive(Debug)]
struct Burst {
    readback: usize,
    /// number of the first token, and how many
    first: usize,
    count: usize,
}

/// How long things took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Tokens of the prompt that were computed; the rest was in the cache.
    pub prefill_tokens: usize,
    /// From the start to the first token.
    pub prefill_ms: f64,
    /// Tokens after the first.
    pub decode_tokens: usize,
    /// From the first token to the last.
    pub decode_ms: f64,
}

/// How likely a token was, before any processor and cut-off: natural logarithms of the softmax of the raw logits, as OpenAI's API
/// gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub logprob: f32,
    /// The most likely tokens, as many as were asked for, in descending order; the chosen one need not be among them.
    pub top: Vec<(u32, f32)>,
}

/// A generation under way. Dropping it at any time leaves the engine's cache with exactly the tokens that were given out: what
/// the GPU computed beyond them is rolled back.
#[derive(Debug)]
pub struct Generation<'e> {
    engine: &'e mut Engine,
    options: GenerateOptions,
    sampling: Sampling,
    phase: Phase,
    /// lookahead 0, and there is something to process
    processors: Option<Processors>,
    logprobs: Option<Logprobs>,
    /// tokens of the prompt, and the most that may follow
    prompt: usize,
    limit: usize,
    submitted: usize,
    delivered: usize,
    /// tokens after which the whole sequence is computed again: its rotary frequencies change
    reach: usize,
    bursts: VecDeque<Burst>,
    /// steps of the next burst, and when the last one came back
    burst: usize,
    collected: Instant,
    /// read back, not yet given out
    ready: VecDeque<u32>,
    /// lookahead 0: the logits of one row, and how they come
    logits: Vec<f32>,
    row: Option<Tensor>,
    finish: Option<FinishReason>,
    /// where there was no token to choose
    failed: Option<usize>,
    started: Instant,
    first_token: Option<Instant>,
    timing: Timing,
}

impl Engine {
    /// Begins to generate after `prompt`. Where it begins with the tokens of the cache, these are not computed again.
    ///
    /// # Errors
    /// [`GenerateError`] for a prompt or options that cannot be; those of the device.
    pub async fn generate(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation<'_>, Error> {
        self.resume(prompt, &[], options).await
    }

    /// As [`generate`](Self::generate), of a generation that has already given out `given`, on a device that is now lost, say:
    /// its next token is the one after these.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn resume(
        &mut self,
        prompt: &[u32],
        given: &[u32],
        mut options: GenerateOptions,
    ) -> Result<Generation<'_>, Error> {
        options.check()?;
        self.check_ids(prompt)?;
        let so_far = [prompt, given].concat();
        self.check_ids(&so_far)?;
        if options.logprobs.is_some() {
            options.lookahead = 0;
        }
        let limit = options.limit(prompt.len(), self.context());
        if limit == 0 {
            let context = options.max_length.unwrap_or(usize::MAX).min(self.context());
            return Err(GenerateError::PromptTooLong { tokens: prompt.len(), context }.into());
        }
        let sampling = options.sampling(prompt.len());
        let mut processors = Processors::new(&options, &sampling, prompt, self.vocab_size())?;
        if let Some(processors) = &mut processors {
            given.iter().for_each(|&id| processors.chosen(id));
        }
        self.reserve(prompt.len() + limit)?;
        self.reuse_readbacks(options.lookahead).await?;
        self.cached.reserve(prompt.len() + limit);
        let step = self.step();
        step.set_sampling(&self.device, 0, sampling, &options.eos_token_id);

        let started = Instant::now();
        let phase = match &processors {
            _ if options.lookahead == 0 => Phase::Logits,
            None => Phase::Sample,
            Some(processors) => {
                let device = self.device.clone();
                processors.upload(&device, self.history()?, 0, &so_far);
                processors.phase()
            }
        };
        let ended = match given.last() {
            Some(id) if options.eos_token_id.contains(id) => Some(FinishReason::Stop),
            _ if given.len() >= limit => Some(FinishReason::Length),
            _ => None,
        };
        let prefilled = self.prefill(&so_far, phase, given.len())?;
        let vocab = self.vocab_size() as usize;
        let most_ready = options.lookahead.max(1);
        let mut generation = Generation {
            sampling,
            phase,
            processors: processors.filter(|_| options.lookahead == 0),
            logprobs: None,
            prompt: prompt.len(),
            limit,
            submitted: given.len(),
            delivered: given.len(),
            reach: (self.reach(so_far.len()) - prompt.len()).saturating_add(1),
            bursts: VecDeque::with_capacity(self.readbacks.len()),
            burst: 1,
            collected: started,
            ready: VecDeque::with_capacity(most_ready),
            logits: Vec::with_capacity(if options.lookahead == 0 { vocab } else { 0 }),
            row: None,
            finish: ended,
            failed: None,
            started,
            first_token: None,
            timing: Timing { prefill_tokens: so_far.len() - prefilled.known, ..Timing::default() },
            engine: self,
            options,
        };
        match prefilled.logits {
            _ if ended.is_some() => {}
            Some(logits) => generation.submit_logits(prefilled.encoder, logits),
            None => generation.submit(prefilled.encoder, 1)?,
        }
        Ok(generation)
    }

    /// Buffers to read back through, free of what an abandoned generation left in them.
    async fn reuse_readbacks(&mut self, lookahead: usize) -> Result<(), Error> {
        let size = match lookahead {
            0 => u64::from(vec4s(self.vocab_size())) * 16,
            _ => HEADER + 4 * lookahead as u64,
        };
        let count = if lookahead > 1 { 2 } else { 1 };
        for readback in &mut self.readbacks {
            readback.discard(&self.device).await?;
        }
        if self.readbacks.len() != count || self.readbacks.iter().any(|r| r.size() < size) {
            self.readbacks.clear();
            for _ in 0..count {
                self.readbacks.push(Readback::new(&self.device, "sampled ids", size)?);
            }
        }
        Ok(())
    }
}

impl Generation<'_> {
    /// The next token, or `None` at the end; then [`Generation::finish_reason`] says why.
    ///
    /// # Errors
    /// [`GenerateError::NotANumber`]; those of the device.
    pub async fn next(&mut self) -> Result<Option<u32>, Error> {
        if self.options.lookahead == 0 {
            return self.next_with(|_, _| ()).await;
        }
        if self.ready.is_empty() && self.finish.is_none() && self.failed.is_none() {
            self.run_ahead()?;
            self.collect().await?;
        }
        if let (true, Some(position)) = (self.ready.is_empty(), self.failed) {
            return Err(GenerateError::NotANumber { position }.into());
        }
        Ok(self.ready.pop_front().map(|id| self.deliver(id)))
    }

    /// As [`next`](Self::next), with a say in it: `process` is given the tokens so far, prompt included, and their logits
    /// `[V]` as the options' processors left them, which it may change before temperature and cut-offs. Minus infinity excludes
    /// a token. For grammars, and processors of one's own.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] where `lookahead` is not 0: the logits stay on the GPU then. Else as [`next`](Self::next).
    pub async fn next_with(&mut self, process: impl FnOnce(&[u32], &mut [f32])) -> Result<Option<u32>, Error> {
        if self.options.lookahead != 0 {
            let (name, expected) = ("lookahead", "0, where logits are to come to the host");
            return Err(GenerateError::Setting { name, got: self.options.lookahead.to_string(), expected }.into());
        }
        if self.finish.is_some() {
            return Ok(None);
        }
        self.fetch_logits().await?;
        let raw = self.options.logprobs.map(|top| (top, log_softmax(&self.logits)));
        let ids = &self.engine.cached;
        if let Some(processors) = &self.processors {
            processors.process(&mut self.logits, &self.sampling, ids, self.delivered);
        }
        process(ids, &mut self.logits);
        let position = ids.len();
        let id = reference::sample(&self.logits, &self.sampling, position as u32);
        let id = id.ok_or(GenerateError::NotANumber { position })?;
        if let Some(processors) = &mut self.processors {
            processors.chosen(id);
        }
        self.logprobs = raw.map(|(top, logs)| Logprobs { logprob: logs[id as usize], top: most_likely(&logs, top) });
        Ok(Some(self.deliver(id)))
    }

    /// How likely the last token was that was given out, where `logprobs` asks for it.
    #[must_use]
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.logprobs.as_ref()
    }

    /// Ends it after the token that was given out last.
    pub(super) fn stop(&mut self) {
        self.ready.clear();
        self.finish = Some(FinishReason::Stop);
    }

    /// Gives a token out.
    fn deliver(&mut self, id: u32) -> u32 {
        let now = Instant::now();
        match self.first_token {
            None => {
                self.first_token = Some(now);
                self.timing.prefill_ms = milliseconds(self.started, now);
            }
            Some(first) => {
                self.timing.decode_tokens += 1;
                self.timing.decode_ms = milliseconds(first, now);
            }
        }
        // the token before is in the cache once this one is sampled
        self.delivered += 1;
        self.engine.cached.push(id);
        if self.options.eos_token_id.contains(&id) {
            self.finish = Some(FinishReason::Stop);
        } else if self.delivered == self.limit {
            self.finish = Some(FinishReason::Length);
        }
        id
    }

    /// Why it ended; `None` while it has not.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish.filter(|_| self.ready.is_empty())
    }

    /// How long it took so far.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Keeps the GPU busy: submits bursts until `lookahead` tokens are under way.
    fn run_ahead(&mut self) -> Result<(), Error> {
        if self.delivered == self.reach {
            let prefilled = self.begin_again(self.phase)?;
            self.submit(prefilled.encoder, 1)?;
        }
        let end = self.limit.min(self.reach);
        while self.submitted < end && self.bursts.len() < self.engine.readbacks.len() {
            let count = self.burst.min(end - self.submitted);
            let live = (self.prompt + self.submitted + count - 1) as u32;
            let mut encoder = self.engine.device.encoder();
            let recorded = self.engine.program(self.phase, 1, live)?;
            for _ in 0..count {
                recorded.program.encode(&mut encoder);
            }
            self.submit(encoder, count)?;
        }
        Ok(())
    }

    /// Prefills all tokens so far, in the frequencies of their number.
    fn begin_again(&mut self, phase: Phase) -> Result<Prefilled, Error> {
        let tokens = self.engine.cached.clone();
        self.reach = (self.engine.reach(tokens.len()) - self.prompt).saturating_add(1);
        self.engine.prefill(&tokens, phase, self.submitted)
    }

    /// Submits an encoder that samples `count` tokens, and has them read back.
    fn submit(&mut self, mut encoder: wgpu::CommandEncoder, count: usize) -> Result<(), Error> {
        let used = |i: usize| self.bursts.iter().any(|b| b.readback == i);
        let Some(index) = (0..self.engine.readbacks.len()).find(|&i| !used(i)) else {
            return Err(crate::error::DeviceError::Readback.into());
        };
        let step = self.engine.step().clone();
        let readback = &mut self.engine.readbacks[index];
        readback.copy(&mut encoder, &step.state, Step::slot_bytes(1).start, HEADER);
        let ring = step.ring_len as usize;
        let begin = self.submitted % ring;
        let before_wrap = count.min(ring - begin);
        readback.copy(&mut encoder, &step.ring, 4 * begin as u64, 4 * before_wrap as u64);
        if before_wrap < count {
            readback.copy(&mut encoder, &step.ring, 0, 4 * (count - before_wrap) as u64);
        }
        readback.submit(&self.engine.device, encoder);
        self.bursts.push_back(Burst { readback: index, first: self.submitted, count });
        self.submitted += count;
        Ok(())
    }

    /// Makes bursts about as long as a readback takes: shorter ones would wait for it, longer ones would only delay their
    /// tokens.
    fn pace(&mut self) {
        let now = Instant::now();
        let took = milliseconds(self.collected, now);
        self.collected = now;
        if took < 1.5 * READBACK_MS {
            self.burst = (self.burst * 2).min(self.options.lookahead.div_ceil(self.engine.readbacks.len()));
        } else if took > 3.0 * READBACK_MS {
            self.burst = self.burst.div_ceil(2);
        }
    }

    /// Waits for the oldest burst and takes its tokens.
    async fn collect(&mut self) -> Result<(), Error> {
        let Some(burst) = self.bursts.pop_front() else { return Ok(()) };
        let readback = &mut self.engine.readbacks[burst.readback];
        readback.wait(&self.engine.device).await?;
        self.pace();
        let readback = &mut self.engine.readbacks[burst.readback];
        let ready = &mut self.ready;
        let state = readback.take(|bytes| {
            let (header, ids) = bytes.split_at(HEADER as usize);
            let state: shaders::Slot = bytemuck::pod_read_unaligned(header);
            let valid = (state.sampled as usize).saturating_sub(burst.first).min(burst.count);
            ready.extend(ids.chunks_exact(4).take(valid).map(bytemuck::pod_read_unaligned::<u32>));
            state
        })?;
        // told once the tokens before it are given out
        self.failed = (state.done == NOT_A_NUMBER).then_some((state.position + state.rows) as usize);
        Ok(())
    }

    /// The other door: submits a step whose logits come to the host.
    fn submit_logits(&mut self, mut encoder: wgpu::CommandEncoder, logits: Output) {
        let readback = &mut self.engine.readbacks[0];
        readback.copy(&mut encoder, &logits.buffer, 0, u64::from(logits.tensor.dim4()) * logits.tensor.elem.bytes4());
        readback.submit(&self.engine.device, encoder);
        self.submitted += 1;
        self.row = Some(logits.tensor);
    }

    /// Waits for the logits after the last token, having submitted its step where nobody has.
    async fn fetch_logits(&mut self) -> Result<(), Error> {
        if self.delivered == self.reach {
            let prefilled = self.begin_again(Phase::Logits)?;
            if let Some(logits) = prefilled.logits {
                self.submit_logits(prefilled.encoder, logits);
            }
        } else if self.submitted == self.delivered {
            let position = self.prompt + self.delivered - 1;
            let last = self.engine.cached[position];
            self.engine.set_step(position, &[last], self.delivered);
            let mut encoder = self.engine.device.encoder();
            let recorded = self.engine.program(Phase::Logits, 1, position as u32 + 1)?;
            recorded.program.encode(&mut encoder);
            if let Some(logits) = recorded.logits.clone() {
                self.submit_logits(encoder, logits);
            }
        }
        let readback = &mut self.engine.readbacks[0];
        readback.wait(&self.engine.device).await?;
        let (logits, row) = (&mut self.logits, &self.row);
        logits.clear();
        readback.take(|bytes| row.iter().for_each(|row| unpack_rows(bytes, row, logits)))?;
        Ok(())
    }
}

/// Natural logarithms of the softmax; minus infinity for what is no number.
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let scores = logits.iter().map(|&v| if v.is_finite() { f64::from(v) } else { f64::NEG_INFINITY });
    let logs = reference::sample::log_softmax(&scores.collect::<Vec<_>>());
    logs.into_iter().map(|v| v as f32).collect()
}

/// The `count` greatest, in descending order, of equal ones the lowest id first.
fn most_likely(logs: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logs.iter().copied()).collect();
    let descending = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < all.len() {
        all.select_nth_unstable_by(count, descending);
        all.truncate(count);
    }
    all.sort_unstable_by(descending);
    all
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

/// `step.done` where the logits were no numbers, as `shaders/sample.wgsl` has it.
const NOT_A_NUMBER: u32 = 2;

impl Drop for Generation<'_> {
    /// The last token given out was never fed: its keys and values are not in the cache, or not surely.
    fn drop(&mut self) {
        let kept = self.prompt + self.delivered.saturating_sub(1);
        self.engine.cached.truncate(kept);
    }
}
