//! `model.safetensors.index.json`: which shard holds which tensor.

use crate::checkpoint::safetensors::{Pairs, duplicate};
use crate::error::CheckpointError;
use crate::source::{Source, shorten};
use serde::Deserialize;
use std::collections::HashMap;

/// An index of 100 bytes per tensor passes this only with half a million tensors.
const CAP: u64 = 64 << 20;

/// The index, checked in itself.
pub(super) struct Index {
    /// Names of the shards, sorted, each once.
    pub(super) shards: Vec<String>,
    /// Tensor and shard, the latter as a place in `shards`.
    pub(super) weight_map: Vec<(String, usize)>,
}

#[derive(Deserialize)]
struct Raw {
    weight_map: Pairs<String>,
}

/// Reads and checks the index; `None` where there is none.
pub(super) async fn read(source: &Source, file: &str) -> Result<Option<Index>, CheckpointError> {
    let Some(bytes) = source.read_all(file, CAP).await? else {
        return Ok(None);
    };
    let bad = |detail: String| CheckpointError::IndexJson { file: file.to_owned(), detail };
    let raw: Raw = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let map = raw.weight_map.0;
    if map.is_empty() {
        return Err(bad("its `weight_map` is empty".to_owned()));
    }
    if let Some(tensor) = duplicate(map.iter().map(|(tensor, _)| tensor.as_str())) {
        return Err(CheckpointError::DuplicateTensor { file: file.to_owned(), tensor: shorten(tensor) });
    }
    let mut shards: Vec<String> = map.iter().map(|(_, shard)| shard.clone()).collect();
    shards.sort_unstable();
    shards.dedup();
    if let Some(shard) = shards.iter().find(|shard| !is_plain(shard)) {
        return Err(CheckpointError::ShardName { file: file.to_owned(), shard: shorten(shard) });
    }
    let place: HashMap<&str, usize> = shards.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let weight_map =
        map.into_iter().filter_map(|(tensor, shard)| place.get(shard.as_str()).map(|at| (tensor, *at))).collect();
    Ok(Some(Index { shards, weight_map }))
}

/// A name and no path, on any system.
fn is_plain(name: &str) -> bool {
    !name.contains('/') && crate::source::check_name(name).is_ok()
}
