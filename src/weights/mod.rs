//! From byte ranges of a checkpoint to weights on the GPU.
//!
//! A model first asks for everything it needs ([`Weights::matrix`], [`Weights::vector`]): memory is allocated and names and
//! shapes are checked before a byte is read. Then [`Weights::stream`] reads the checkpoint once, in byte order, in bounded
//! chunks, uploads the bytes as they are stored, and a kernel converts or quantizes them into place. Host memory stays bounded by
//! the chunks, whatever the model's size.

mod packed;
mod upload;

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::device::{Buffer, Category, Device, Memory, Plan};
use crate::error::{Error, WeightsError};
use crate::source::{Source, Stream};
use crate::tensor::{Part, Storage, Weight, vec4s};
pub use packed::Image;
pub use upload::upload_bytes;
use upload::{CHUNK, Request, Uploader, source_flag};

/// A tensor of the checkpoint as rows of a weight.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'n> {
    /// Its layer's name, below the scope.
    pub name: &'n str,
    /// Its rows.
    pub rows: u32,
    /// Rows that belong together (those of a head, or all): each such group is padded with zero rows to a multiple of 4.
    pub group: u32,
    /// Whether the checkpoint has the matrix as `[dim, rows]` (GPT-2's `Conv1D`).
    pub transposed: bool,
}

impl<'n> Rows<'n> {
    /// Rows without groups.
    #[must_use]
    pub const fn plain(name: &'n str, rows: u32) -> Self {
        Self::grouped(name, rows, rows)
    }

    /// Rows in groups.
    #[must_use]
    pub const fn grouped(name: &'n str, rows: u32, group: u32) -> Self {
        Self { name, rows, group, transposed: false }
    }

    /// The same, stored `[dim, rows]` where `transposed`.
    #[must_use]
    pub const fn transposed(self, transposed: bool) -> Self {
        Self { transposed, ..self }
    }

    /// Rows after padding.
    const fn padded(&self) -> u32 {
        self.rows / self.group * (vec4s(self.group) * 4)
    }
}

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

/// The weights of one model while they are asked for and loaded.
#[derive(Debug)]
pub struct Weights<'a> {
    memory: Memory<'a>,
    checkpoint: &'a Checkpoint,
    scope: String,
    /// by tensor, in the order of `checkpoint.in_byte_order()`
    requests: Vec<(&'a TensorInfo, Request)>,
    /// bytes of memory asked for
    bytes: u64,
    /// all that was asked for, by name
    made: Vec<(String, Weight)>,
    missing: Vec<String>,
    misshaped: Vec<(String, Vec<u64>, Vec<u64>)>,
    dtypes: Vec<(String, String)>,
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
            scope: String::new(),
            requests: Vec::new(),
            bytes: 0,
            made: Vec::new(),
            missing: Vec::new(),
            misshaped: Vec::new(),
            dtypes: Vec::new(),
        }
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

    /// The first of `scopes` that has a tensor `name`; the first of all where none has. Checkpoints of a bare model lack the scope
    /// that one with a head puts around it, and multimodal ones put another around that.
    #[must_use]
    pub fn scope_of<'s>(&self, scopes: &[&'s str], name: &str) -> &'s str {
        let has = |scope: &&&str| {
            let dot = if scope.is_empty() { "" } else { "." };
            self.checkpoint.get(&format!("{}{scope}{dot}{name}", self.scope)).is_some()
        };
        scopes.iter().find(has).or(scopes.first()).copied().unwrap_or_default()
    }

    /// A matrix `[sum of rows, dim]` of the tensors `NAME.weight`, `[rows, dim]` each, stacked on one another. Columns belong
    /// together in groups of `column_group` (the heads of an attention's output, or `dim`), each of which is padded to a
    /// multiple of 4.
    ///
    /// # Errors
    /// As [`Device::buffer`]; wrong names and shapes are told by [`Weights::stream`], all at once.
    pub fn matrix(
        &mut self,
        rows: &[Rows<'_>],
        dim: u32,
        column_group: u32,
        storage: Storage,
    ) -> Result<Weight, Error> {
        let column_padded = vec4s(column_group) * 4;
        let to_dim = if column_group == dim { dim } else { dim / column_group * column_padded };
        let padded = rows.iter().map(Rows::padded).sum();
        if let Some(packed) = self.packed(&rows[0], "weight", padded, to_dim, storage) {
            return packed.map(|to| plain(rows, to));
        }
        let shape = |r: &Rows<'_>| if r.transposed { [dim, r.rows] } else { [r.rows, dim] };
        let found: Vec<_> = rows.iter().map(|r| self.find(r.name, "weight", &shape(r))).collect();
        let to = self.allocate(rows[0].name, "weight", found.contains(&None), padded, to_dim, storage)?;
        let to = plain(rows, to);
        let mut base = 0;
        for (block, info) in rows.iter().zip(found) {
            let request = Request {
                rows: block.rows,
                columns: dim,
                row_group: block.group,
                row_padded: vec4s(block.group) * 4,
                column_group,
                column_padded,
                base,
                transposed: block.transposed,
                copied: None,
                to: to.clone(),
            };
            self.requests.extend(info.map(|info| (info, request)));
            base += block.padded();
        }
        Ok(to)
    }

    /// A vector in f32: the tensors `NAME.suffix`, `[rows]` each, one after another, all with groups of one width, padded as
    /// [`Weights::matrix`] pads rows.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn vector(&mut self, rows: &[Rows<'_>], suffix: &str) -> Result<Buffer, Error> {
        let group = rows[0].group;
        debug_assert!(rows.iter().all(|r| r.group == group));
        let groups = rows.iter().map(|r| r.rows / group).sum();
        if let Some(packed) = self.packed(&rows[0], suffix, groups, group, Storage::F32) {
            return packed.map(|to| to.parts[0].data.clone());
        }
        let found: Vec<_> = rows.iter().map(|r| self.find(r.name, suffix, &[r.rows])).collect();
        let to = self.allocate(rows[0].name, suffix, found.contains(&None), groups, group, Storage::F32)?;
        let mut base = 0;
        for (block, info) in rows.iter().zip(found) {
            let request = Request {
                rows: block.rows / group,
                columns: group,
                row_group: 1,
                row_padded: 1,
                column_group: group,
                column_padded: vec4s(group) * 4,
                base,
                transposed: false,
                copied: None,
                to: to.clone(),
            };
            self.requests.extend(info.map(|info| (info, request)));
            base += block.rows / group;
        }
        Ok(to.parts[0].data.clone())
    }

    /// The tensor `NAME.suffix`, if it is there as it should be; else what is wrong with it is noted.
    fn find(&mut self, name: &str, suffix: &str, shape: &[u32]) -> Option<&'a TensorInfo> {
        let name = format!("{}{name}.{suffix}", self.scope);
        let Some(info) = self.checkpoint.get(&name) else {
            self.missing.push(name);
            return None;
        };
        if !info.shape.iter().copied().eq(shape.iter().map(|&n| u64::from(n))) {
            let expected = shape.iter().map(|&n| u64::from(n)).collect();
            self.misshaped.push((name, expected, info.shape.clone()));
            return None;
        }
        if source_flag(info.dtype).is_none() {
            self.dtypes.push((name, info.dtype.name().to_owned()));
            return None;
        }
        Some(info)
    }

    /// Zeroed memory for `[rows, dim]`, in as many parts as bindings need. Where a tensor was not found, next to none: a
    /// config may claim any size, a file only what it holds, and `stream` is going to fail.
    fn allocate(
        &mut self,
        name: &str,
        suffix: &str,
        not_found: bool,
        rows: u32,
        dim: u32,
        storage: Storage,
    ) -> Result<Weight, Error> {
        let label = format!("{}{name}", self.scope);
        if not_found {
            let data = self.memory.storage(&label, Category::Weights, 0)?;
            let parts = vec![Part { first: 0, rows: 0, data, scales: None }];
            return Ok(Weight { rows, dim, storage, parts });
        }
        let row_bytes = storage.row_bytes(dim);
        let limit = self.memory.max_binding();
        // parts begin at whole tiles of the kernels
        let per_part = u32::try_from(limit / row_bytes).unwrap_or(u32::MAX) / 64 * 64;
        if per_part == 0 {
            return Err(WeightsError::RowTooLong { tensor: label, bytes: row_bytes, limit: limit / 64 }.into());
        }
        let new = |bytes| self.memory.storage(&label, Category::Weights, bytes);
        let mut parts = Vec::new();
        let (mut first, mut bytes) = (0, 0);
        while first < rows {
            let count = per_part.min(rows - first);
            let scale_bytes = u64::from(storage.scale_stride(dim)) * 4 * u64::from(count);
            let data = new(row_bytes * u64::from(count))?;
            let scales = if scale_bytes > 0 { Some(new(scale_bytes)?) } else { None };
            bytes += data.size() + scales.as_ref().map_or(0, Buffer::size);
            parts.push(Part { first, rows: count, data, scales });
            first += count;
        }
        self.bytes += bytes;
        let to = Weight { rows, dim, storage, parts };
        self.made.push((format!("{label}.{suffix}"), to.clone()));
        Ok(to)
    }

    /// All that was asked for, by name: what an [`Image`] is made of.
    #[must_use]
    pub fn made(&self) -> Vec<(String, Weight)> {
        self.made.clone()
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
        let asked: std::collections::HashSet<_> = self.requests.iter().map(|(info, _)| info.name.as_str()).collect();
        self.checkpoint.names().filter(|name| !asked.contains(name)).map(str::to_owned).collect()
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

    /// Reads everything that was asked for, in byte order, and puts it into place. A plan's weights are left as they are. `idle` is
    /// called when the GPU does little but wait for bytes.
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
    ) -> Result<(), Error> {
        self.check()?;
        let Memory::Device(device) = self.memory else { return Ok(()) };
        self.requests.sort_by_key(|(info, _)| (info.file, info.range.start));
        let total = self.stored_bytes();
        let (mut loaded, mut waited) = (0, 0);
        let status = device.storage_with("load status", Category::Staging, &[u32::MAX; 2])?;
        let mut uploader = Uploader::new(device, &status, total)?;
        // One stream per file, from the first tensor that is wanted to the last: from an address, one long answer.
        let mut stream: Option<(usize, u64, Stream<'_>)> = None;
        for (number, (info, request)) in self.requests.iter().enumerate() {
            let line_bytes = u64::from(request.line()) * (info.dtype.size_bits() / 8);
            let together = request.together().min(request.lines());
            let needed = line_bytes * u64::from(together);
            if needed > CHUNK {
                let (tensor, limit) = (info.name.clone(), CHUNK / u64::from(together));
                return Err(WeightsError::RowTooLong { tensor, bytes: line_bytes, limit }.into());
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
            while first < request.lines() {
                let room = uploader.room(needed.min(line_bytes * u64::from(request.lines() - first))).await?;
                let fits = (room / line_bytes) as u32;
                let rest = request.lines() - first;
                let count = if fits >= rest { rest } else { fits / together * together };
                let size = u64::from(count) * line_bytes;
                waited = if uploader.is_idle() { waited + 1 } else { 0 };
                if waited == WAITS {
                    idle()?;
                }
                let bytes =
                    open.1.next(size as usize).await.expect("the stream goes to the end of its file's last tensor")?;
                uploader.push(bytes, info.dtype, request, number as u32, first..first + count)?;
                first += count;
                loaded += size;
                let position = info.range.start + u64::from(first) * line_bytes;
                progress(Progress { file, position, size: file_size, loaded, total });
            }
            stream = Some((info.file, info.range.start + u64::from(request.lines()) * line_bytes, open.1));
        }
        // Where a digest is known, the verdict on the last file.
        if let Some((.., open)) = stream {
            open.finish().await?;
        }
        uploader.finish().await?;
        let status = device.read(&status, 0..8).await?;
        let status: [u32; 2] = bytemuck::pod_read_unaligned(&status);
        let tensor = |number: u32| self.requests.get(number as usize).map(|(info, _)| info.name.clone());
        if let Some(tensor) = tensor(status[0]) {
            return Err(WeightsError::NotFinite { tensor }.into());
        }
        if let Some(tensor) = tensor(status[1]) {
            return Err(WeightsError::Overflow { tensor }.into());
        }
        Ok(())
    }
}

/// Without what pads rows at the end, where there is no group of them: a table has so many entries, a matrix so many outputs.
fn plain(rows: &[Rows<'_>], mut to: Weight) -> Weight {
    if let [only] = rows
        && only.group == only.rows
    {
        to.rows = only.rows;
    }
    to
}
