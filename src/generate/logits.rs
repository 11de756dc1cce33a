//! Logits that come to the host: for tokens that it chooses itself.

use super::Logprobs;
use super::engine::Engine;
use super::programs::{Output, Phase};
use super::sequence::SequenceId;
use super::submit::{Encoded, Submit};
use crate::device::Readback;
use crate::error::{Error, GenerateError};
use crate::reference;
use crate::tensor::vec4s;

impl Engine {
    /// Has the logits after a sequence's last token come to the host. It runs alone, once the others are done.
    pub(super) async fn fetch_logits(&mut self, id: SequenceId) -> Result<(), Error> {
        while !self.fetch_logits_once(id).await? {}
        Ok(())
    }

    /// As [`fetch_logits`](Self::fetch_logits), unless a step overflowed: then `false`, and the logits are not to be used.
    async fn fetch_logits_once(&mut self, id: SequenceId) -> Result<bool, Error> {
        loop {
            self.begin_again();
            self.admit().await?;
            let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(true) };
            if sequence.slot.is_some() || sequence.failed.is_some() {
                self.check(id)?;
                break;
            }
            self.run_ahead().await?;
            self.collect().await?;
        }
        // what sequences that are gone left under way
        self.drain().await?;
        if self.sequences.get(&id).is_some_and(|s| s.submitted == 0) {
            self.discard_logits().await?;
        }
        while self.sequences.get(&id).is_some_and(|s| s.submitted == 0) {
            if self.batch.is_forgotten {
                self.tell_again()?;
            }
            let pieces = self.pieces(&[id], &self.plan(&[id]));
            // before anything is encoded, as above
            let size = u64::from(vec4s(self.vocab_size())) * 16 + 4;
            if self.batch.readbacks.first().is_none_or(|readback| readback.size() < size) {
                self.batch.readbacks = vec![Readback::new(&self.device, "logits", size)?];
            }
            let is_last = pieces.iter().any(|piece| piece.is_last);
            let phase = if is_last { Phase::Logits } else { Phase::Fill };
            let Encoded { mut encoder, logits, gathering } = match self.encode(&pieces, phase, 1).await {
                Ok(encoded) => encoded,
                Err(Submit::Short(short)) => return Err(self.no_room(&short)),
                Err(Submit::Failed(error)) => return Err(error),
            };
            self.batch.told = (0, 0);
            let Some(Output { tensor, buffer }) = logits else {
                self.device.submit(encoder);
                gathering.map_or(Ok(()), |(id, gathering)| self.gather(id, gathering))?;
                continue;
            };
            let overflow = self.workspace().step.overflow.clone();
            let readback = &mut self.batch.readbacks[0];
            readback.copy(&mut encoder, &buffer, 0, u64::from(tensor.dim4()) * tensor.elem.bytes4());
            readback.copy(&mut encoder, &overflow, 0, 4);
            readback.submit(&self.device, encoder);
            self.batch.row = Some(tensor);
            self.sequences.entry(id).and_modify(|s| s.submitted = 1);
            gathering.map_or(Ok(()), |(id, gathering)| self.gather(id, gathering))?;
        }
        self.batch.readbacks[0].wait(&self.device).await?;
        self.sequences.entry(id).and_modify(|s| s.submitted = 0);
        let batch = &mut self.batch;
        let (logits, row) = (&mut batch.logits, &batch.row);
        logits.clear();
        let found = batch.readbacks[0].take(|bytes| {
            let (bytes, found) = bytes.split_at(bytes.len() - 4);
            row.iter().for_each(|row| row.unpack(bytes, logits));
            bytemuck::pod_read_unaligned(found)
        })?;
        batch.row = None;
        let position = self.sequences.get(&id).map_or(0, |sequence| sequence.ids.len());
        Ok(self.is_finite(found, 1, position))
    }

    /// Waits for logits that nobody wants any more: their sequence went while they came.
    pub(super) async fn discard_logits(&mut self) -> Result<(), Error> {
        if self.batch.row.is_some() {
            self.batch.readbacks[0].discard(&self.device).await?;
            self.batch.row = None;
        }
        Ok(())
    }

    /// Chooses the token after those so far from the logits that were fetched; `process` is given both.
    pub(super) fn choose(&mut self, id: SequenceId, process: impl FnOnce(&[u32], &mut [f32])) -> Result<(), Error> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
        let logits = &mut self.batch.logits;
        let raw = sequence.options.logprobs.map(|top| (top, log_softmax(logits)));
        let ids = &sequence.ids;
        if let Some(processors) = &sequence.processors {
            processors.process(logits, &sequence.sampling, ids, sequence.sampled());
        }
        process(ids, logits);
        let position = ids.len();
        let id = reference::sample(logits, &sequence.sampling, position as u32);
        let id = id.ok_or(GenerateError::NotANumber { position })?;
        self.begun_anew = false;
        sequence.logprobs =
            raw.map(|(top, logs)| Logprobs { logprob: logs[id as usize], top: most_likely(&logs, top) });
        sequence.sample([id]);
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
