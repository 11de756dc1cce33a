//! From byte ranges of a checkpoint to weights on the GPU.
//!
//! A model first asks for everything it needs ([`Weights::matrix`], [`Weights::vector`]): memory is allocated and names and
//! shapes are checked before a byte is read. Then [`Weights::stream`] reads the checkpoint once, in byte order, in bounded
//! chunks, uploads the bytes as they are stored, and a kernel converts or quantizes them into place. Host memory stays bounded by
//! the chunks, whatever the model's size.

mod arrangement;
mod matrix;
mod offload;
mod packed;
mod request;
mod upload;

use std::collections::HashSet;

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::device::{Buffer, Category, Device, Memory, Plan};
use crate::error::{Error, QuantError, WeightsError};
use crate::quant::{Quantization, Side};
use crate::source::{Source, Stream};
use crate::tensor::Weight;
pub use arrangement::Arrangement;
pub use matrix::Rows;
use offload::Slots;
pub use offload::{OffloadLayout, Offloaded};
pub use packed::Image;
use request::{Request, What};
pub use upload::upload_bytes;
use upload::{CHUNK, Uploader};

/// So many times in a row the GPU must have been found waiting for bytes, to be held for idle.
const WAITS: u32 = 8;

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being read.
    pub file: &'a str,
    /// Where in it, in bytes.
    pub position: u64,
    /// Its bytes.
    pub size: u64,
    /// Bytes of the checkpoint that are on the GPU.
    pub loaded: u64,
    /// Bytes that will be.
    pub total: u64,
}

/// A weight that was asked for.
#[derive(Clone, Debug)]
pub struct Made {
    /// The name that it, or of several that were stacked the first, has in the checkpoint.
    pub name: String,
    /// Where it is.
    pub weight: Weight,
    /// The number of its layer among those that do not stay on the GPU: it is there while that [sits](Offloaded::bring).
    pub offloaded: Option<usize>,
}

/// The weights of one model while they are asked for and loaded.
#[derive(Debug)]
pub struct Weights<'a> {
    memory: Memory<'a>,
    checkpoint: &'a Checkpoint,
    quantization: Quantization,
    side: Option<&'a Side>,
    scope: String,
    /// tensors that were read before, or that say nothing
    known: HashSet<String>,
    /// by tensor, in the order of `checkpoint.in_byte_order()`
    requests: Vec<(&'a TensorInfo, Request)>,
    /// bytes of memory asked for
    bytes: u64,
    /// all that was asked for
    made: Vec<Made>,
    missing: Vec<String>,
    misshaped: Vec<(String, Vec<u64>, Vec<u64>)>,
    dtypes: Vec<(String, String)>,
    /// the layer that is asked for, if one is
    layer: Option<usize>,
    /// bytes of the buffers of each layer, in the order in which they were asked for
    layers: Vec<Vec<u64>>,
    /// where layers are that are not to stay on the GPU
    slots: Option<Slots>,
    /// buffers that were asked for and stay, and their layers
    buffers: Vec<(Option<usize>, Buffer)>,
    /// those that are there already, with what they hold
    there: Option<std::vec::IntoIter<Buffer>>,
}

/// What was asked of [`Weights`].
#[derive(Debug)]
pub struct Asked {
    /// Buffers that stay on the GPU, and their layers, in order.
    buffers: Vec<(Option<usize>, Buffer)>,
    made: Vec<Made>,
    layers: Vec<Vec<u64>>,
}

impl<'a> Weights<'a> {
    /// Nothing asked for yet.
    #[must_use]
    pub fn new(device: &'a Device, checkpoint: &'a Checkpoint) -> Self {
        Self::within(Memory::Device(device), checkpoint)
    }

    /// As [`Weights::new`], of a model that is only planned: the plan's ledger tells what loading would allocate.
    #[must_use]
    pub fn planned(plan: &'a Plan, checkpoint: &'a Checkpoint) -> Self {
        Self::within(Memory::Plan(plan), checkpoint)
    }

    fn within(memory: Memory<'a>, checkpoint: &'a Checkpoint) -> Self {
        Self {
            memory,
            checkpoint,
            quantization: Quantization::None,
            side: None,
            scope: String::new(),
            known: HashSet::new(),
            requests: Vec::new(),
            bytes: 0,
            made: Vec::new(),
            missing: Vec::new(),
            misshaped: Vec::new(),
            dtypes: Vec::new(),
            layer: None,
            layers: Vec::new(),
            slots: None,
            buffers: Vec::new(),
            there: None,
        }
    }

    /// Of a checkpoint that is quantized so. `side`: the tensors that are read before; `None` where a model is only planned.
    #[must_use]
    pub fn quantized_by(self, quantization: &Quantization, side: Option<&'a Side>) -> Self {
        Self { quantization: quantization.clone(), side, ..self }
    }

    /// With layers that pass through two slots: [`stream`](Self::stream) then gives them.
    #[must_use]
    pub fn offloading(self, layout: Option<OffloadLayout>) -> Self {
        Self { slots: layout.map(Slots::new), ..self }
    }

    /// As [`scoped`](Self::scoped), of all that layer number `layer` is made of.
    pub fn layer<R>(&mut self, layer: usize, name: &str, load: impl FnOnce(&mut Self) -> R) -> R {
        self.layer = Some(layer);
        self.layers.resize(self.layers.len().max(layer + 1), Vec::new());
        let result = self.scoped(name, load);
        self.layer = None;
        result
    }

    /// Bytes of the buffers of each layer, in the order in which they were asked for.
    #[must_use]
    pub fn layers(&self) -> &[Vec<u64>] {
        &self.layers
    }

    /// The first layer that does not stay on the GPU.
    #[must_use]
    pub fn first_offloaded(&self) -> Option<usize> {
        self.slots.as_ref().map(|slots| slots.layout().resident)
    }

    /// Runs `load` with `name.` before every name; with nothing before them where `name` is empty.
    pub fn scoped<R>(&mut self, name: &str, load: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.scope.len();
        if !name.is_empty() {
            self.scope.push_str(name);
            self.scope.push('.');
        }
        let result = load(self);
        self.scope.truncate(outer);
        result
    }

    /// Whether the checkpoint has the tensor `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.get(&format!("{}{name}", self.scope)).is_some()
    }

    /// The first of `scopes` that has a tensor `name`; the first of all where none has. Checkpoints of a bare model lack the scope
    /// that one with a head puts around it, and multimodal ones put another around that.
    #[must_use]
    pub fn scope_of<'s>(&self, scopes: &[&'s str], name: &str) -> &'s str {
        let has = |scope: &&&str| {
            let dot = if scope.is_empty() { "" } else { "." };
            self.has(&format!("{scope}{dot}{name}"))
        };
        scopes.iter().find(has).or(scopes.first()).copied().unwrap_or_default()
    }

    /// All that was asked for: what an [`Arrangement`] is made of.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked { buffers: self.buffers.clone(), made: self.made.clone(), layers: self.layers.clone() }
    }

    /// Bytes on the GPU of all that was asked for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Elements of the tensors that were asked for.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.requests.iter().map(|(_, request)| request.parameters()).sum()
    }

    /// Bytes of the tensors that were asked for, as they are stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.requests.iter().map(|(info, _)| info.range.end - info.range.start).sum()
    }

    /// Tensors of the checkpoint that nobody asked for: of no use here, and worth a word.
    #[must_use]
    pub fn extra(&self) -> Vec<String> {
        let asked: HashSet<_> = self.requests.iter().map(|(info, _)| info.name.as_str()).collect();
        let used = |name: &&str| asked.contains(name) || self.known.contains(*name);
        self.checkpoint.names().filter(|name| !used(name)).map(str::to_owned).collect()
    }

    /// Whether the checkpoint has all that was asked for, in shapes and types as it should be.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`], with all that is wrong.
    pub fn check(&self) -> Result<(), WeightsError> {
        if self.missing.is_empty() && self.misshaped.is_empty() && self.dtypes.is_empty() {
            return Ok(());
        }
        let (missing, misshaped, dtypes) = (self.missing.clone(), self.misshaped.clone(), self.dtypes.clone());
        Err(WeightsError::Mismatch { missing, misshaped, dtypes })
    }

    /// Reads everything that was asked for, in byte order, and puts it into place. What does not stay on the GPU is given back. A plan's
    /// weights are left as they are. `idle` is called when the GPU does little but wait for bytes.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] before anything is read; [`SourceError::Corrupt`](crate::error::SourceError::Corrupt) for a
    /// file that is not what its digest says; [`WeightsError::NotFinite`], [`WeightsError::Overflow`] for what the
    /// tensors hold; those of the source and the device.
    pub async fn stream(
        mut self,
        source: &Source,
        mut progress: impl FnMut(Progress<'_>),
        mut idle: impl FnMut() -> Result<(), Error>,
    ) -> Result<Option<Offloaded>, Error> {
        self.check()?;
        let Memory::Device(device) = self.memory else { return Ok(None) };
        let mut offloaded = match self.slots.take() {
            Some(slots) => Some(Offloaded::new(device, slots).await?),
            None => None,
        };
        self.requests.sort_by_key(|(info, _)| (info.file, info.range.start));
        let total = self.stored_bytes();
        let (mut loaded, mut waited) = (0, 0);
        let status = device.storage_with("load status", Category::Staging, &[u32::MAX; 2])?;
        let mut uploader = Uploader::new(device, &status, total)?;
        // One stream per file, from the first tensor that is wanted to the last: from an address, one long answer.
        let mut stream: Option<(usize, u64, Stream<'_>)> = None;
        for (number, (info, request)) in self.requests.iter().enumerate() {
            if let (Some(offloaded), Some(layer)) = (&mut offloaded, request.offloaded)
                && !offloaded.is_seated(layer)
            {
                // whoever sat there before is whole, as far as it has come
                uploader.drain().await?;
                offloaded.seat(layer).await?;
            }
            let lines = request.lines(info);
            let together = request.together().min(lines);
            let needed = request.line_bytes(info, together);
            if needed > CHUNK {
                let (tensor, limit) = (info.name.clone(), CHUNK / u64::from(together));
                return Err(WeightsError::RowTooLong { tensor, bytes: needed / u64::from(together), limit }.into());
            }
            // a tensor that is wanted twice is read twice
            let mut open = match stream.take() {
                Some((file, at, open)) if file == info.file && at <= info.range.start => (at, open),
                before => {
                    if let Some((.., open)) = before {
                        open.finish().await?;
                    }
                    let of_file = self.requests.iter().filter(|(other, _)| other.file == info.file);
                    let end = of_file.map(|(other, _)| other.range.end).max().unwrap_or(info.range.end);
                    let file = &self.checkpoint.files()[info.file];
                    (info.range.start, source.stream(file, info.range.start..end))
                }
            };
            open.1.skip(info.range.start - open.0).await?;
            let mut first = 0;
            let file = self.checkpoint.files()[info.file].as_str();
            let file_size = source.size(file).await?.unwrap_or(0);
            while first < lines {
                let rest = lines - first;
                let room = uploader.room(needed.min(request.line_bytes(info, rest))).await?;
                let fits = (room / needed.max(1)) as u32 * together;
                let count = if request.line_bytes(info, rest) <= room { rest } else { fits };
                let size = request.line_bytes(info, count);
                waited = if uploader.is_idle() { waited + 1 } else { 0 };
                if waited == WAITS {
                    idle()?;
                }
                let bytes =
                    open.1.next(size as usize).await.expect("the stream goes to the end of its file's last tensor")?;
                if let What::GroupIndex(group) = request.what {
                    check_groups(info, bytes, first, group)?;
                } else {
                    uploader.push(bytes, info.dtype, request, number as u32, first..first + count)?;
                }
                first += count;
                loaded += size;
                let position = info.range.start + request.line_bytes(info, first);
                progress(Progress { file, position, size: file_size, loaded, total });
            }
            stream = Some((info.file, info.range.start + request.line_bytes(info, lines), open.1));
        }
        // Where a digest is known, the verdict on the last file.
        if let Some((.., open)) = stream {
            open.finish().await?;
        }
        uploader.drain().await?;
        if let Some(offloaded) = &mut offloaded {
            offloaded.keep_all().await?;
        }
        let status = device.read(&status, 0..8).await?;
        let status: [u32; 2] = bytemuck::pod_read_unaligned(&status);
        let tensor = |number: u32| self.requests.get(number as usize).map(|(info, _)| info.name.clone());
        if let Some(tensor) = tensor(status[0]) {
            return Err(WeightsError::NotFinite { tensor }.into());
        }
        if let Some(tensor) = tensor(status[1]) {
            return Err(WeightsError::Overflow { tensor }.into());
        }
        Ok(offloaded)
    }
}

/// Columns from `first` on must be in groups of `group` neighbours.
fn check_groups(info: &TensorInfo, bytes: &[u8], first: u32, group: u32) -> Result<(), QuantError> {
    for (column, b) in (first..).zip(bytes.chunks_exact(4)) {
        let got = i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let expected = column / group;
        if i64::from(got) != i64::from(expected) {
            return Err(QuantError::Unordered { tensor: info.name.clone(), column: column as usize, got, expected });
        }
    }
    Ok(())
}
