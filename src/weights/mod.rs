//! From byte ranges of a checkpoint to weights on the GPU.
//!
//! A model first asks for everything it needs ([`Weights::matrix`], [`Weights::vector`]): memory is allocated and names and
//! shapes are checked before a byte is read. Then [`Weights::stream`] reads the checkpoint once, in byte order, in bounded
//! chunks, uploads the bytes as they are stored, and a kernel converts or quantizes them into place. Host memory stays bounded by
//! the chunks, whatever the model's size.

mod packed;
mod request;
mod upload;

use std::collections::HashSet;
use std::rc::Rc;

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::device::{Buffer, Category, Device, Memory, Plan};
use crate::error::{Error, QuantError, WeightsError};
use crate::quant::{BLOCK, GroupOrder, Lookup, NO_COLUMN, Quantization, Reading, ScaleLayout, Side};
use crate::source::{Source, Stream};
use crate::tensor::{NO_INPUT, Order, Part, Storage, Weight, vec4s};
pub use packed::Image;
use request::{Elements, Request, RowMap, Target, What, source_flag};
pub use upload::upload_bytes;
use upload::{CHUNK, Uploader};

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

    /// Where they go, the first to row `base`.
    const fn map(&self, base: u32) -> RowMap {
        RowMap { rows: self.rows, group: self.group, padded: vec4s(self.group) * 4, base }
    }
}

/// Columns of a matrix: groups of them, each padded.
#[derive(Clone, Copy, Debug)]
struct Columns {
    count: u32,
    group: u32,
    padded: u32,
}

impl Columns {
    /// Where column `c` is once groups are padded.
    const fn padded_column(self, c: u32) -> u32 {
        c / self.group * self.padded + c % self.group
    }

    /// How many that are: padding at the end of a row does not count.
    const fn padded_count(self) -> u32 {
        if self.group == self.count { self.count } else { self.count / self.group * self.padded }
    }
}

/// Rows of a weight that are stored in one way, and where they come from.
#[derive(Debug)]
struct Run<'a> {
    /// Of the first tensor.
    name: String,
    storage: Storage,
    /// Elements of a stored row.
    len: u32,
    /// Whether they are in an order of their own.
    has_order: bool,
    /// For each its input; empty where the checkpoint has that.
    inputs: Vec<u32>,
    /// First row, and how many.
    first: u32,
    rows: u32,
    /// Whether inputs are rounded to 8 bits.
    int8_inputs: bool,
    /// Whether all tensors were found.
    is_whole: bool,
    requests: Vec<(&'a TensorInfo, RowMap, What)>,
}

impl<'a> Run<'a> {
    fn new(name: String, storage: Storage, len: u32, first: u32) -> Self {
        Self {
            name,
            storage,
            len,
            has_order: false,
            inputs: Vec::new(),
            first,
            rows: 0,
            int8_inputs: false,
            is_whole: true,
            requests: Vec::new(),
        }
    }

    /// Whether `next` can be stored with it.
    fn goes_on_with(&self, next: &Self) -> bool {
        // an order in the checkpoint is not known yet
        let same_inputs = self.int8_inputs == next.int8_inputs;
        let same_order = self.inputs == next.inputs && self.has_order == next.has_order;
        let known = !self.has_order || !self.inputs.is_empty();
        self.storage == next.storage && self.len == next.len && same_inputs && same_order && known
    }

    fn append(&mut self, next: Self) {
        self.rows += next.rows;
        self.is_whole &= next.is_whole;
        self.requests.extend(next.requests);
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
    quantization: Quantization,
    side: Option<&'a Side>,
    scope: String,
    /// tensors that were read before, or that say nothing
    known: HashSet<String>,
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
        }
    }

    /// Of a checkpoint that is quantized so. `side`: the tensors that are read before; `None` where a model is only planned.
    #[must_use]
    pub fn quantized_by(self, quantization: &Quantization, side: Option<&'a Side>) -> Self {
        Self { quantization: quantization.clone(), side, ..self }
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
    /// multiple of 4. Tensors that another tool quantized stay in the bits that it gave them; others become `storage`.
    ///
    /// # Errors
    /// As [`Device::buffer`]; what is wrong with quantized tensors; other wrong names and shapes are told by [`Weights::stream`], all
    /// at once.
    pub fn matrix(
        &mut self,
        rows: &[Rows<'_>],
        dim: u32,
        column_group: u32,
        storage: Storage,
    ) -> Result<Weight, Error> {
        let columns = Columns { count: dim, group: column_group, padded: vec4s(column_group) * 4 };
        let mut runs: Vec<Run<'a>> = Vec::new();
        let mut rest = rows;
        let mut base = 0;
        while let [block, ..] = rest {
            let run = match self.packed(block, "weight", columns.padded_count(), base) {
                Some(run) => run,
                None => match self.quantized(block, columns, base)? {
                    Some(run) => run,
                    None => self.plain(block, columns, storage, base),
                },
            };
            base += run.rows;
            let mut covered = run.rows;
            while let [block, later @ ..] = rest
                && covered >= block.padded()
            {
                covered -= block.padded();
                rest = later;
            }
            if covered > 0 {
                // packed with other tensors than it should be
                self.misshaped.push((run.name.clone(), vec![u64::from(run.rows - covered)], vec![u64::from(run.rows)]));
                rest = &[];
            }
            match runs.last_mut() {
                Some(last) if last.goes_on_with(&run) => last.append(run),
                _ => runs.push(run),
            }
        }
        let mut weight = Weight { rows: base, dim: columns.padded_count(), parts: Vec::new() };
        for run in runs {
            weight.parts.extend(self.place(run)?.iter().cloned());
        }
        // without what pads rows at the end, where there is no group of them: a table has so many entries, a matrix so many outputs
        if let [only] = rows
            && only.group == only.rows
        {
            weight.rows = only.rows;
        }
        Ok(weight)
    }

    /// A vector in f32: the tensors `NAME.suffix`, `[rows]` each, one after another, all with groups of one width, padded as
    /// [`Weights::matrix`] pads rows.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn vector(&mut self, rows: &[Rows<'_>], suffix: &str) -> Result<Buffer, Error> {
        let group = rows[0].group;
        debug_assert!(rows.iter().all(|r| r.group == group));
        if let Some(packed) = self.packed(&rows[0], suffix, group, 0) {
            return Ok(self.place(packed)?[0].data.clone());
        }
        let elements =
            Elements { columns: group, column_group: group, column_padded: vec4s(group) * 4, transposed: false };
        let mut run = Run::new(format!("{}{}.{suffix}", self.scope, rows[0].name), Storage::F32, group, 0);
        for block in rows {
            let count = block.rows / group;
            let map = RowMap { rows: count, group: 1, padded: 1, base: run.rows };
            match self.find(block.name, suffix, &[block.rows]) {
                Some(info) => run.requests.push((info, map, What::Elements(elements))),
                None => run.is_whole = false,
            }
            run.rows += count;
        }
        Ok(self.place(run)?[0].data.clone())
    }

    /// The rows of a tensor that is not quantized.
    fn plain(&mut self, block: &Rows<'_>, columns: Columns, storage: Storage, base: u32) -> Run<'a> {
        let shape = if block.transposed { [columns.count, block.rows] } else { [block.rows, columns.count] };
        let found = self.find(block.name, "weight", &shape);
        let name = format!("{}{}.weight", self.scope, block.name);
        let mut run = Run::new(name, storage, columns.padded_count(), base);
        run.rows = block.padded();
        run.is_whole = found.is_some();
        let elements = Elements {
            columns: columns.count,
            column_group: columns.group,
            column_padded: columns.padded,
            transposed: block.transposed,
        };
        run.requests.extend(found.map(|info| (info, block.map(base), What::Elements(elements))));
        run
    }

    /// The rows of a layer that another tool quantized.
    fn quantized(&mut self, block: &Rows<'_>, columns: Columns, base: u32) -> Result<Option<Run<'a>>, Error> {
        let name = format!("{}{}", self.scope, block.name);
        let (checkpoint, side) = (self.checkpoint, self.side);
        let at = Lookup { checkpoint, side, name: &name, rows: block.rows, dim: columns.count };
        let Some(layer) = self.quantization.find(&at)? else { return Ok(None) };
        self.known.extend(layer.known.iter().map(|info| info.name.clone()));
        let mut run = Run::new(name + ".weight", Storage::Blocks(layer.blocks), columns.count, base);
        run.rows = block.padded();
        run.int8_inputs = layer.int8_inputs;
        if layer.order.is_some() || columns.group != columns.padded {
            let input = |c: u32| if c == NO_COLUMN { NO_INPUT } else { columns.padded_column(c) };
            let mut inputs: Vec<u32> = match &layer.order {
                Some(order) => order.columns.iter().map(|&c| input(c)).collect(),
                None => (0..columns.count).map(input).collect(),
            };
            inputs.resize(inputs.len().next_multiple_of(BLOCK as usize), NO_INPUT);
            run.len = inputs.len() as u32;
            run.has_order = true;
            run.inputs = inputs;
        }
        let memory = self.memory;
        let buffer = |words: &[u32]| memory.storage_with("how codes are read", Category::Staging, words);
        let order = match &layer.order {
            Some(order) => {
                let mut columns = order.columns.clone();
                columns.resize(run.len as usize, NO_COLUMN);
                Some(buffer(&columns)?)
            }
            None => None,
        };
        let in_order = |order: &GroupOrder| order.groups.iter().zip(0..).all(|(&g, i)| g == i);
        let numbers = match &layer.order {
            Some(order) if !in_order(order) => Some(buffer(&order.groups)?),
            _ => None,
        };
        for (info, reading) in layer.tensors {
            let what = match reading {
                Reading::Codes(layout) => What::Codes { layout, columns: columns.count, order: order.clone() },
                Reading::Scales(ScaleLayout { index, factor, nested }) => {
                    let side = match &nested {
                        Some(nested) => {
                            Some(buffer(bytemuck::cast_slice(&[&nested.map[..], &nested.absmax[..]].concat()))?)
                        }
                        None => numbers.clone(),
                    };
                    What::Scales { index, factor, nested: nested.map(|n| (n.block, n.offset)), side }
                }
                Reading::Zeros(layout) => What::Zeros { layout, side: numbers.clone() },
                Reading::GroupIndex(group) => What::GroupIndex(group),
            };
            run.requests.push((info, block.map(base), what));
        }
        Ok(Some(run))
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

    /// Memory for a run, zeroed, in as many parts as bindings need, and the requests that fill it. Where a tensor was not found,
    /// next to none: a config may claim any size, a file only what it holds, and `stream` is going to fail.
    fn place(&mut self, run: Run<'a>) -> Result<Rc<[Part]>, Error> {
        let Run { name, storage, len, has_order, mut inputs, first: begin, rows, int8_inputs, is_whole, requests } =
            run;
        let label = name.rsplit_once('.').map_or(name.as_str(), |(label, _)| label);
        if !is_whole {
            let data = self.memory.storage(label, Category::Weights, 0)?;
            return Ok(Rc::new([Part {
                first: begin,
                rows: 0,
                storage,
                data,
                scales: None,
                order: None,
                int8_inputs: false,
            }]));
        }
        let row_bytes = storage.row_bytes(len);
        let scale_bytes = u64::from(storage.scale_stride(len)) * 4;
        let limit = self.memory.max_binding();
        // parts begin at whole tiles of the kernels
        let per_part = u32::try_from(limit / row_bytes.max(scale_bytes)).unwrap_or(u32::MAX) / 64 * 64;
        if per_part == 0 {
            return Err(
                WeightsError::RowTooLong { tensor: label.to_owned(), bytes: row_bytes, limit: limit / 64 }.into()
            );
        }
        let order = if has_order {
            inputs.resize(len as usize, NO_INPUT);
            let inputs = self.memory.storage_with(label, Category::Weights, &inputs)?;
            self.bytes += inputs.size();
            Some(Order { len, inputs })
        } else {
            None
        };
        let new = |bytes| self.memory.storage(label, Category::Weights, bytes);
        let mut parts = Vec::new();
        let mut first = 0;
        while first < rows {
            let count = per_part.min(rows - first);
            let data = new(row_bytes * u64::from(count))?;
            let scales = if scale_bytes > 0 { Some(new(scale_bytes * u64::from(count))?) } else { None };
            self.bytes += data.size() + scales.as_ref().map_or(0, Buffer::size);
            parts.push(Part {
                first: begin + first,
                rows: count,
                storage,
                data,
                scales,
                order: order.clone(),
                int8_inputs,
            });
            first += count;
        }
        let parts: Rc<[Part]> = parts.into();
        self.made.push((name.clone(), Weight { rows, dim: len, parts: parts.to_vec() }));
        let to = Target { storage, len, parts: Rc::clone(&parts) };
        self.requests
            .extend(requests.into_iter().map(|(info, rows, what)| (info, Request { rows, to: to.clone(), what })));
        Ok(parts)
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
