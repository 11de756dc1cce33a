//! Caches that outlive the session, and sequences that fork.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Session;
use crate::error::Error;
use crate::generate::{GenerateOptions, SavedCache, SequenceId};
use crate::source::Source;
use crate::weights::Made;

/// Of a weight's buffer, so many pieces of so many bytes are looked at.
const PIECES: u64 = 4;
const PIECE: u64 = 64;

impl Session {
    /// What the cache holds of the longest beginning of `ids`, as a file that [`restore_cache`](Self::restore_cache) takes.
    ///
    /// # Errors
    /// As [`Engine::save`](crate::generate::Engine::save); those of the device.
    pub async fn save_cache(&mut self, ids: &[u32]) -> Result<SavedCache<'_>, Error> {
        let model = self.fingerprint().await?;
        self.engine.save(ids, &model)
    }

    /// Puts back what [`save_cache`](Self::save_cache) gave, here or elsewhere, as the file `file` of `source`: a prompt that begins with its
    /// tokens does not compute them again. Returns how many there are.
    ///
    /// # Errors
    /// As [`Engine::restore`](crate::generate::Engine::restore).
    pub async fn restore_cache(&mut self, source: &Source, file: &str) -> Result<usize, Error> {
        let model = self.fingerprint().await?;
        self.engine.restore(source, file, &model).await
    }

    /// A text that goes on from where `id` is, with settings of its own (another seed, say), beside it: as if it had been asked for the
    /// same, and given out the same tokens. Both share what is cached; nothing is computed again but the last token.
    ///
    /// # Errors
    /// [`GenerateError::Setting`](crate::error::GenerateError::Setting) where `id` has ended: [`add`](Self::add) its tokens then, which the
    /// cache still has. Else as [`add`](Self::add).
    pub fn fork(&mut self, id: SequenceId, options: GenerateOptions) -> Result<SequenceId, Error> {
        self.texts.fork(&mut self.engine, self.tokenizer.as_ref(), id, options)
    }

    /// SHA-256 over what keys and values follow from: `config.json`, the types, and samples of each weight as it lies on the GPU. Other
    /// weights have another one nearly always; a few rows that differ need not show.
    async fn fingerprint(&mut self) -> Result<String, Error> {
        if let Some(known) = &self.fingerprint {
            return Ok(known.clone());
        }
        let mut hash = Sha256::new();
        hash.update(self.config);
        hash.update(self.precision().activations.to_string());
        let mut samples = Vec::new();
        for Made { name, weight, offloaded } in self.engine.made() {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            for part in &weight.parts {
                hash.update(part.storage.name());
                let row = part.storage.row_bytes(weight.dim);
                let row_scales = 4 * u64::from(part.storage.scale_stride(weight.dim));
                let rows = u64::from(part.rows);
                let order = part.order.as_ref().map(|order| (&order.inputs, 4 * u64::from(order.len)));
                let scales = part.scales.as_ref().map(|buffer| (buffer, rows * row_scales));
                for (buffer, bytes) in [Some((&part.data, rows * row)), scales, order].into_iter().flatten() {
                    hash.update(bytes.to_le_bytes());
                    samples.extend(pieces(bytes).map(|range| (*offloaded, buffer.clone(), range)));
                }
            }
        }
        // of layers that do not stay on the GPU, each in its turn
        for samples in samples.chunk_by(|a, b| a.0 == b.0) {
            let layer = samples.first().and_then(|(layer, ..)| *layer);
            if let (Some(layer), Some(offloaded)) = (layer, self.engine.offloaded_mut()) {
                offloaded.bring(layer).await?;
            }
            let ranges: Vec<_> = samples.iter().map(|(_, buffer, range)| (buffer, range.clone())).collect();
            hash.update(self.engine.device().read_ranges(&ranges).await?);
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.fingerprint.insert(hex).clone())
    }
}

/// Pieces of the first `bytes` of a buffer, evenly spread, in whole words.
fn pieces(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let size = PIECE.min(bytes);
    let step = (bytes - size) / (PIECES - 1);
    (0..PIECES).map(move |i| i * step / 4 * 4..i * step / 4 * 4 + size)
}
