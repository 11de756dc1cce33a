//! Small tensors that are read before all others, since they say how those are read: orders of columns, statistics of statistics.

use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;

use super::Quantization;
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::error::{Error, QuantError};
use crate::source::Source;

/// What lies between two of them is read with them, up to so many bytes...
const GAP: u64 = 64 << 10;
/// ... and as long as all of it is at most this.
const RUN: u64 = 1 << 20;
/// So many are asked for at a time: from an address each is an answer of its own.
const AT_ONCE: usize = 6;
/// The most that all of them may take.
const MOST: u64 = 48 << 20;

/// The bytes of small tensors, by name.
#[derive(Debug, Default)]
pub struct Side(HashMap<String, Vec<u8>>);

impl Side {
    /// Reads them.
    ///
    /// # Errors
    /// Those of the source; [`QuantError::TooLarge`].
    pub async fn read(source: &Source, checkpoint: &Checkpoint, quantization: &Quantization) -> Result<Self, Error> {
        let wanted: Vec<&TensorInfo> =
            checkpoint.in_byte_order().filter(|info| quantization.is_side(&info.name)).collect();
        let bytes: u64 = wanted.iter().map(|info| info.range.end - info.range.start).sum();
        if bytes > MOST {
            let tensor = wanted.iter().max_by_key(|info| info.range.end - info.range.start);
            let tensor = tensor.map(|info| info.name.clone()).unwrap_or_default();
            return Err(QuantError::TooLarge { tensor, bytes, limit: MOST }.into());
        }
        let mut runs = Vec::new();
        let mut rest = wanted.as_slice();
        while let [first, ..] = rest {
            let near = |pair: &&[&TensorInfo]| {
                pair[0].file == pair[1].file
                    && pair[1].range.start.saturating_sub(pair[0].range.end) <= GAP
                    && pair[1].range.end - first.range.start <= RUN
            };
            let (run, later) = rest.split_at(1 + rest.windows(2).take_while(near).count());
            runs.push(run);
            rest = later;
        }
        let mut found = HashMap::new();
        for some in runs.chunks(AT_ONCE) {
            let range = |run: &[&TensorInfo]| run[0].range.start..run[run.len() - 1].range.end;
            let reads = some.iter().map(|run| source.read(&checkpoint.files()[run[0].file], range(run)));
            for (run, read) in some.iter().zip(all(reads).await) {
                let read = read?;
                for info in *run {
                    let of = |at: u64| (at - run[0].range.start) as usize;
                    let bytes = read.get(of(info.range.start)..of(info.range.end)).unwrap_or_default();
                    found.insert(info.name.clone(), bytes.to_vec());
                }
            }
        }
        Ok(Self(found))
    }

    /// The bytes of that tensor.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

/// What all of them give, waited for together.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Some(Box::pin(future)), None)).collect();
    poll_fn(|context| {
        for (future, output) in &mut waiting {
            if let Some(Poll::Ready(ready)) = future.as_mut().map(|future| future.as_mut().poll(context)) {
                (*future, *output) = (None, Some(ready));
            }
        }
        if waiting.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}
