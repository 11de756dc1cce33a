//! What the cache holds of a beginning, as a file and back: it is not computed again in another process, or after a page's reload.
//!
//! A safetensors file: `tokens`, `[n]`; of each layer `L` the blocks `keys.L` and `values.L`, `[blocks, bytes]`, in logical order and as they
//! lie on the GPU (`shaders/shared/cache.wgsl`); in a quantized cache `keys.L.hot` and `values.L.hot`, the block that is not full. A
//! layer with a window has the blocks that later queries see. The metadata says for which model and cache they are.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::engine::Engine;
use crate::checkpoint::{Checkpoint, Dtype, header};
use crate::device::{Buffer, Readback};
use crate::error::{CacheError, CheckpointError, DeviceError, Error, GenerateError};
use crate::managers::blocks::{self, Pool};
use crate::managers::cache_groups;
use crate::nn::Block;
use crate::ops::{block_bytes, hot_block_bytes};
use crate::source::{Source, shorten};
use crate::step::BLOCK;

/// To be raised with any change to the file, to how blocks are laid out, or to what they are computed of.
const VERSION: &str = "1";
/// What the metadata calls it.
const VERSION_KEY: &str = "webweft_cache";
/// Bytes read back, or read of a file, at once, ...
const PIECE: u64 = 4 << 20;
/// ... and written before the GPU is waited for: wgpu keeps them that long.
const UNDER_WAY: u64 = 64 << 20;

/// A tensor of the file: blocks of one layer's keys or values.
struct Blocks {
    name: String,
    layer: usize,
    values: bool,
    pool: Pool,
    /// logical ones
    range: Range<usize>,
    /// of one of them
    bytes: u64,
}

/// A cache on its way to a file, piece by piece. Until it is dropped, the engine keeps what is saved.
#[derive(Debug)]
pub struct SavedCache<'e> {
    engine: &'e mut Engine,
    place: blocks::SequenceId,
    header: Option<Vec<u8>>,
    /// of every block: buffer, first byte, bytes
    blocks: std::vec::IntoIter<(Buffer, u64, u64)>,
    size: u64,
    tokens: usize,
}

impl Engine {
    /// What the cache holds of the longest beginning of `ids` of which it holds all, as a file; `model` is what
    /// [`restore`](Self::restore) compares. Of texts that still run, only whole blocks of 32 tokens count.
    ///
    /// # Errors
    /// [`CacheError::Empty`] where it holds nothing of it.
    pub fn save(&mut self, ids: &[u32], model: &str) -> Result<SavedCache<'_>, Error> {
        let (place, length) = self.blocks.find(ids);
        if length == 0 {
            self.blocks.end(place);
            return Err(CacheError::Empty.into());
        }
        self.copy_blocks_now();
        let mut tensors = Map::new();
        let metadata = self.metadata(model, &self.regimes).into_iter().map(|(name, value)| (name.into(), value.into()));
        tensors.insert("__metadata__".into(), Value::Object(metadata.collect()));
        let mut end = 0;
        let mut add = |name: &str, dtype: &str, shape: &[u64], bytes: u64| {
            let tensor = json!({ "dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes] });
            tensors.insert(name.into(), tensor);
            end += bytes;
        };
        let tokens: &[u8] = bytemuck::cast_slice(&ids[..length]);
        add("tokens", "U32", &[length as u64], tokens.len() as u64);
        let mut all = Vec::new();
        for blocks in self.saved_blocks(length) {
            let count = blocks.range.len() as u64;
            add(&blocks.name, "U8", &[count, blocks.bytes], count * blocks.bytes);
            let physical = self.blocks.table(place, blocks.pool).get(blocks.range.clone()).unwrap_or_default();
            all.extend(physical.iter().map(|number| {
                let (buffer, offset) = self.block_at(&blocks, *number);
                (buffer.clone(), offset, blocks.bytes)
            }));
        }
        let mut header = header(tensors);
        let size = header.len() as u64 + end;
        header.extend_from_slice(tokens);
        Ok(SavedCache { engine: self, place, header: Some(header), blocks: all.into_iter(), size, tokens: length })
    }

    /// Puts back what [`save`](Self::save) gave as the file `file` of `source`, for the same `model`: a prompt that begins with these
    /// tokens finds them. Returns how many there are. Where the cache is too small for all, it forgets other beginnings.
    ///
    /// # Errors
    /// [`CacheError`] for a file that does not fit, [`GenerateError`] for tokens that do not, or that the cache has no room for: nothing
    /// is forgotten then. Those of the device.
    pub async fn restore(&mut self, source: &Source, file: &str, model: &str) -> Result<usize, Error> {
        let saved = Checkpoint::open_file(source, file).await.map_err(CacheError::from)?;
        let tokens = self.check_saved(source, &saved, model).await?;
        let length = tokens.len();
        let all = self.saved_blocks(length);
        check_tensors(&saved, &all)?;
        self.make_regimes_of(&saved)?;
        let (place, known) = self.blocks.find(&tokens);
        self.blocks.end(place);
        if known == length {
            self.cached = tokens;
            return Ok(length);
        }
        self.make_room_for(length).await?;

        // one that was broken off has left its place
        if let Some(place) = self.under_way.take() {
            self.blocks.forget(place);
        }
        let place = self.blocks.begin_filled(length).map_err(|short| self.no_room(&short))?;
        self.under_way = Some(place);
        self.copy_blocks_now();
        let filled = self.fill(source, &saved, &all, place).await;
        self.under_way = None;
        if filled.is_err() {
            self.blocks.forget(place);
            filled?;
        }
        self.blocks.confirm(place, &tokens);
        self.blocks.end(place);
        self.cached = tokens;
        Ok(length)
    }

    /// What of the cache must be the same.
    fn metadata(&self, model: &str, regimes: &[u32]) -> [(&'static str, String); 6] {
        let rope: Vec<_> = regimes.iter().map(u32::to_string).collect();
        [
            (VERSION_KEY, VERSION.into()),
            ("model", model.into()),
            ("cache_dtype", self.precision.cache.name().into()),
            ("cache_policy", self.policy.name()),
            ("block", BLOCK.to_string()),
            ("rope", rope.join(" ")),
        ]
    }

    /// The tensors that hold `length` tokens.
    fn saved_blocks(&self, length: usize) -> Vec<Blocks> {
        let heads = &self.config.heads;
        let dtype = self.precision.cache;
        let (_, groups) = cache_groups(&self.config, self.policy);
        let mut all = Vec::new();
        for (layer, group) in groups.into_iter().enumerate() {
            for values in [false, true] {
                let what = if values { "values" } else { "keys" };
                for (pool, bytes, hot) in [
                    (Pool::Main(group as usize), block_bytes(heads, dtype), ""),
                    (Pool::Hot(group as usize), hot_block_bytes(heads, dtype), ".hot"),
                ] {
                    let range = self.blocks.held(pool, length);
                    let name = format!("{what}.{layer}{hot}");
                    all.push(Blocks { name, layer, values, pool, range, bytes });
                }
            }
        }
        all.retain(|blocks| !blocks.range.is_empty());
        all
    }

    /// Where a physical block of a tensor lies.
    fn block_at(&self, blocks: &Blocks, physical: u32) -> (&Buffer, u64) {
        let cache = &self.workspace().cache;
        let layer = cache.layer(blocks.layer);
        let block = match blocks.pool {
            Pool::Main(_) => Block::Full(physical),
            Pool::Hot(_) => Block::Hot(physical),
        };
        (if blocks.values { &layer.v } else { &layer.k }, cache.range(layer, block).0)
    }

    /// Makes what is still to be copied, before blocks are read or written here.
    pub(super) fn copy_blocks_now(&mut self) {
        let mut encoder = self.device.encoder();
        self.copy_blocks(&mut encoder);
        self.device.submit(encoder);
    }

    /// The tokens of a file whose metadata fits.
    async fn check_saved(&self, source: &Source, saved: &Checkpoint, model: &str) -> Result<Vec<u32>, Error> {
        let file = || saved.files().first().cloned().unwrap_or_default();
        for (name, expected) in self.metadata(model, &[]) {
            let got = saved.metadata(name);
            match name {
                _ if got == Some(&expected) => {}
                VERSION_KEY => {
                    let Some(got) = got else { return Err(CacheError::NotACache { file: file() }.into()) };
                    return Err(CacheError::Version { file: file(), got: shorten(got), expected: VERSION }.into());
                }
                "model" => return Err(CacheError::Model { file: file() }.into()),
                // may be another one
                "rope" => {}
                _ => {
                    let got = shorten(got.unwrap_or("missing"));
                    return Err(CacheError::Setting { file: file(), name, got, expected }.into());
                }
            }
        }
        let wrong = |expected: &str| {
            let (tensor, expected) = ("tokens".into(), expected.into());
            CacheError::Tensor { file: file(), tensor, expected }
        };
        let info = saved.get("tokens").filter(|info| info.dtype == Dtype::U32);
        let info = info.ok_or_else(|| wrong("a list of token ids in U32"))?;
        let tokens = ((info.range.end - info.range.start) / 4) as usize;
        if tokens > self.context() {
            return Err(GenerateError::PromptTooLong { tokens, context: self.context() }.into());
        }
        if tokens > self.kept(tokens) {
            return Err(wrong("within the window of the cache").into());
        }
        let bytes = source.read(&file(), info.range.clone()).await.map_err(of_source)?;
        let tokens: Vec<u32> = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        self.check_ids(&tokens)?;
        Ok(tokens)
    }

    /// Takes over the rotary frequencies that saved keys were rotated by, where these follow the length. What is cached by others is
    /// forgotten, as before any prompt of that length.
    fn make_regimes_of(&mut self, saved: &Checkpoint) -> Result<(), Error> {
        let tokens = saved.get("tokens").map_or(0, |info| (info.range.end - info.range.start) as usize / 4);
        let name = |regimes: &[u32]| self.metadata("", regimes).into_iter().next_back().unwrap_or_default().1;
        let got = saved.metadata("rope").unwrap_or_default();
        if got == name(&self.regimes) {
            return Ok(());
        }
        let regimes = self.regimes_of(tokens + 1);
        if got != name(&regimes) {
            let file = saved.files().first().cloned().unwrap_or_default();
            let (got, expected) = (shorten(got), name(&regimes));
            return Err(CacheError::Setting { file, name: "rope", got, expected }.into());
        }
        if !self.batch.is_empty() {
            let (name, expected) = ("restore", "no other sequences, where rotary frequencies follow the length");
            return Err(GenerateError::Setting { name, got: "others that run".into(), expected }.into());
        }
        self.set_regimes(&regimes);
        Ok(())
    }

    /// Room for a sequence of `length` tokens, besides what is cached if there may be as much.
    async fn make_room_for(&mut self, length: usize) -> Result<(), Error> {
        let block = BLOCK as usize;
        let taken = self.blocks.used(Pool::Main(0)) as usize * block;
        let cache = (taken + length.next_multiple_of(block)).min(self.most_blocks() as usize * block);
        if self.has_room(length, cache, 1) {
            return Ok(());
        }
        self.drain().await?;
        match self.make_room(length, cache, 1) {
            Ok(()) => self.tell_again(),
            // what only prefixes hold gives way
            Err(Error::Device(DeviceError::OutOfMemory { .. } | DeviceError::BufferTooLarge { .. }))
                if self.has_room(length, length, 1) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the file's blocks to a sequence's places.
    async fn fill(
        &self,
        source: &Source,
        saved: &Checkpoint,
        all: &[Blocks],
        place: blocks::SequenceId,
    ) -> Result<(), Error> {
        let mut under_way = 0;
        for blocks in all {
            let (Some(info), Some(file)) = (saved.get(&blocks.name), saved.files().first()) else { continue };
            let physical = self.blocks.table(place, blocks.pool).get(blocks.range.clone()).unwrap_or_default();
            let mut begin = info.range.start;
            for some in physical.chunks((PIECE / blocks.bytes).max(1) as usize) {
                let end = begin + some.len() as u64 * blocks.bytes;
                let bytes = source.read(file, begin..end).await.map_err(of_source)?;
                for (number, bytes) in some.iter().zip(bytes.chunks_exact(blocks.bytes as usize)) {
                    let (buffer, offset) = self.block_at(blocks, *number);
                    self.device.write(buffer, offset, bytes);
                }
                under_way += end - begin;
                begin = end;
                if under_way >= UNDER_WAY {
                    self.device.idle().await?;
                    under_way = 0;
                }
            }
        }
        Ok(self.device.check()?)
    }
}

fn of_source(error: crate::error::SourceError) -> CacheError {
    CheckpointError::from(error).into()
}

/// Checks that a file has these tensors besides its tokens, and no others.
fn check_tensors(saved: &Checkpoint, all: &[Blocks]) -> Result<(), CacheError> {
    let wrong = |tensor: &str, expected: String| {
        let file = saved.files().first().cloned().unwrap_or_default();
        CacheError::Tensor { file, tensor: shorten(tensor), expected }
    };
    for Blocks { name, range, bytes, .. } in all {
        let shape = [range.len() as u64, *bytes];
        if saved.get(name).is_none_or(|info| info.dtype != Dtype::U8 || info.shape != shape) {
            return Err(wrong(name, format!("there as {shape:?} in U8")));
        }
    }
    let known = |name: &str| name == "tokens" || all.iter().any(|blocks| blocks.name == name);
    match saved.names().find(|name| !known(name)) {
        Some(other) if saved.len() > all.len() + 1 => Err(wrong(other, "one of this cache".into())),
        _ => Ok(()),
    }
}

impl SavedCache<'_> {
    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many of the tokens it holds.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The next bytes, some MiB at most; `None` at the end.
    ///
    /// # Errors
    /// Those of the device.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if let Some(header) = self.header.take() {
            return Ok(Some(header));
        }
        let (mut some, mut size) = (Vec::new(), 0);
        while size < PIECE
            && let Some(block) = self.blocks.next()
        {
            size += block.2;
            some.push(block);
        }
        if some.is_empty() {
            return Ok(None);
        }
        let device = &self.engine.device;
        let mut readback = Readback::new(device, "saved cache", size)?;
        let mut encoder = device.encoder();
        for (buffer, offset, bytes) in &some {
            readback.copy(&mut encoder, buffer, *offset, *bytes);
        }
        readback.submit(device, encoder);
        readback.wait(device).await?;
        Ok(Some(readback.take(<[u8]>::to_vec)?))
    }
}

impl Drop for SavedCache<'_> {
    fn drop(&mut self) {
        self.engine.blocks.end(self.place);
    }
}
