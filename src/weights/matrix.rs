//! What a model asks for: matrices and vectors, of tensors as they are, as another tool quantized them, or as they lie on the GPU.

use std::rc::Rc;

use super::request::{Elements, Request, RowMap, Target, What, source_flag};
use super::{Made, Weights};
use crate::checkpoint::TensorInfo;
use crate::device::{Buffer, Category};
use crate::error::{Error, WeightsError};
use crate::quant::{BLOCK, GroupOrder, Lookup, NO_COLUMN, Reading, ScaleLayout};
use crate::tensor::{NO_INPUT, Order, Part, Storage, Weight, vec4s};

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
    pub(super) const fn padded(&self) -> u32 {
        self.rows / self.group * (vec4s(self.group) * 4)
    }

    /// Where they go, the first to row `base`.
    const fn map(&self, base: u32) -> RowMap {
        RowMap { rows: self.rows, group: self.group, padded: vec4s(self.group) * 4, base }
    }
}

/// Columns of a matrix: groups of them, each padded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
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
pub(super) struct Run<'a> {
    /// Of the first tensor.
    pub(super) name: String,
    pub(super) storage: Storage,
    /// Elements of a stored row.
    pub(super) len: u32,
    /// Whether they are in an order of their own.
    pub(super) has_order: bool,
    /// For each its input; empty where the checkpoint has that.
    pub(super) inputs: Vec<u32>,
    /// First row, and how many.
    pub(super) first: u32,
    pub(super) rows: u32,
    /// Whether inputs are rounded to 8 bits.
    pub(super) int8_inputs: bool,
    /// Whether all tensors were found.
    pub(super) is_whole: bool,
    pub(super) requests: Vec<(&'a TensorInfo, RowMap, What)>,
}

impl<'a> Run<'a> {
    pub(super) fn new(name: String, storage: Storage, len: u32, first: u32) -> Self {
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

impl<'a> Weights<'a> {
    /// A matrix `[sum of rows, dim]` of the tensors `NAME.weight`, `[rows, dim]` each, stacked on one another. Columns belong
    /// together in groups of `column_group` (the heads of an attention's output, or `dim`), each of which is padded to a
    /// multiple of 4. Tensors that another tool quantized stay in the bits that it gave them; others become `storage`.
    ///
    /// # Errors
    /// As [`Device::buffer`](crate::device::Device::buffer); what is wrong with quantized tensors; other wrong names and shapes are told
    /// by [`Weights::stream`], all at once.
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
            // what a file claims may be any number
            base = base.saturating_add(run.rows);
            let mut covered = run.rows;
            while let [block, later @ ..] = rest
                && covered >= block.padded()
            {
                covered -= block.padded();
                rest = later;
            }
            if covered > 0 || run.rows == 0 {
                // packed with other tensors than it should be, or with none
                let fits = if run.rows == 0 { block.padded() } else { run.rows - covered };
                self.misshaped.push((run.name.clone(), vec![fits.into()], vec![run.rows.into()]));
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
                Reading::Scales(ScaleLayout { index, factor, inverse, nested }) => {
                    let side = match &nested {
                        Some(nested) => {
                            Some(buffer(bytemuck::cast_slice(&[&nested.map[..], &nested.absmax[..]].concat()))?)
                        }
                        None => numbers.clone(),
                    };
                    What::Scales { index, factor, inverse, nested: nested.map(|n| (n.block, n.offset)), side }
                }
                Reading::Zeros(layout) => What::Zeros { layout, side: numbers.clone() },
                Reading::GroupIndex(group) => What::GroupIndex(group),
                Reading::Ggml => What::Ggml { columns: columns.count },
            };
            run.requests.push((info, block.map(base), what));
        }
        Ok(Some(run))
    }

    /// The tensor `NAME.suffix`, if it is there as it should be; else what is wrong with it is noted.
    fn find(&mut self, name: &str, suffix: &str, shape: &[u32]) -> Option<&'a TensorInfo> {
        // as TensorFlow's norms are called, in checkpoints that were converted from there
        let old = if suffix == "bias" { "beta" } else { "gamma" };
        let [old, name] = [old, suffix].map(|suffix| format!("{}{name}.{suffix}", self.scope));
        let Some(info) = self.checkpoint.get(&name).or_else(|| self.checkpoint.get(&old)) else {
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
            let data = self.allocate(label, 0)?;
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
            self.bytes += 4 * inputs.len() as u64;
            Some(Order { len, inputs: self.allocate_with(label, inputs)? })
        } else {
            None
        };
        let mut parts = Vec::new();
        let mut first = 0;
        while first < rows {
            let count = per_part.min(rows - first);
            let [data, scales] = [row_bytes, scale_bytes].map(|bytes| bytes * u64::from(count));
            self.bytes += data + scales;
            let data = self.allocate(label, data)?;
            let scales = if scales > 0 { Some(self.allocate(label, scales)?) } else { None };
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
        let offloaded = self.offloaded();
        let weight = Weight { rows, dim: len, parts: parts.to_vec() };
        self.made.push(Made { name: name.clone(), weight, offloaded });
        let to = Target { storage, len, parts: Rc::clone(&parts) };
        let request = |(info, rows, what)| (info, Request { rows, to: to.clone(), what, offloaded });
        self.requests.extend(requests.into_iter().map(request));
        Ok(parts)
    }
}
