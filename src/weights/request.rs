//! What becomes of one tensor of the checkpoint, and the kernels that do it.

use std::ops::Range;
use std::rc::Rc;

use crate::checkpoint::{Dtype, TensorInfo};
use crate::device::Buffer;
use crate::quant::{CodeLayout, Codes, Index, Packing, ZeroLayout};
use crate::shaders::{
    self, ConvertDenseParams, ConvertParams, Kernel, RepackCodesParams, RepackGgmlParams, RepackScalesParams,
};
use crate::tensor::{Part, Storage};

/// Rows of a weight that are stored in one way.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub storage: Storage,
    /// Elements of a stored row.
    pub len: u32,
    pub parts: Rc<[Part]>,
}

/// How the rows of a tensor become those of a weight: row r goes to row `base + r / group * padded + r % group`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowMap {
    pub rows: u32,
    pub group: u32,
    pub padded: u32,
    pub base: u32,
}

impl RowMap {
    pub const fn row(&self, r: u32) -> u32 {
        self.base + r / self.group * self.padded + r % self.group
    }
}

/// Where one tensor of the checkpoint goes.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub rows: RowMap,
    pub to: Target,
    pub what: What,
    /// the number of its layer among those that do not stay on the GPU
    pub offloaded: Option<usize>,
}

/// What a tensor is, and how it is read.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Elements, to be converted.
    Elements(Elements),
    /// Rows of so many words, as they are.
    Words(u32, Copied),
    /// Codes; the buffer, if there is one, tells each element's column.
    Codes { layout: CodeLayout, columns: u32, order: Option<Buffer> },
    /// Scales, or their inverses. `side`: the number of each group, or nested statistics (of blocks of so many, around an offset).
    Scales { index: Index, factor: f32, inverse: bool, nested: Option<(u32, f32)>, side: Option<Buffer> },
    /// Zero points. `side`: the number of each group.
    Zeros { layout: ZeroLayout, side: Option<Buffer> },
    /// Nothing: column k must be in group k / this.
    GroupIndex(u32),
    /// Codes and scales in ggml's blocks, so many elements to a row.
    Ggml { columns: u32 },
}

impl What {
    pub const fn is_order(&self) -> bool {
        matches!(self, Self::Words(_, Copied::Order))
    }
}

/// Elements `[rows, columns]`; a vector is seen as the rows of its groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements {
    pub columns: u32,
    pub column_group: u32,
    pub column_padded: u32,
    /// stored column by column
    pub transposed: bool,
}

/// What of a weight a packed tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    Data,
    Scales,
    Order,
}

/// One dispatch that reads bytes of the checkpoint.
pub(super) struct Conversion {
    pub kernel: &'static Kernel,
    pub constants: Vec<(&'static str, f64)>,
    pub params: Vec<u8>,
    /// What is bound after parameters, bytes and status.
    pub buffers: Vec<Buffer>,
    pub groups: u64,
}

/// Elements that the formats made here are made in: two blocks, whose scales without zero points are a word.
const UNIT: u32 = 64;

/// Units that a workgroup of `convert_dense` makes.
const DENSE_UNITS: u64 = 2048;

/// Elements of [`What::Scales`] and [`What::Zeros`] that come in one piece, but for the last: whole words.
const SCALES_TOGETHER: u32 = 8;

pub(super) fn source_flag(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F32 => Some("s_f32"),
        Dtype::F16 => Some("s_f16"),
        Dtype::BF16 => Some("s_bf16"),
        _ => None,
    }
}

fn dest_flag(storage: Storage) -> &'static str {
    match storage {
        Storage::F32 => "d_f32",
        Storage::F16 => "d_f16",
        Storage::Blocks(_) => "d_blocks",
    }
}

impl Request {
    /// Elements of the weight that it makes.
    pub fn parameters(&self) -> u64 {
        let rows = u64::from(self.rows.rows);
        match self.what {
            What::Elements(Elements { columns, .. }) | What::Codes { columns, .. } | What::Ggml { columns } => {
                rows * u64::from(columns)
            }
            What::Words(_, Copied::Data) => rows * u64::from(self.to.len),
            _ => 0,
        }
    }

    /// Lines that the tensor consists of: what is not split.
    pub fn lines(&self, info: &TensorInfo) -> u32 {
        match &self.what {
            What::Elements(elements) if elements.transposed => elements.columns,
            What::Codes { layout, columns, .. } => match layout.packing {
                Packing::Rows => self.rows.rows,
                Packing::Columns => columns.div_ceil(32 / self.bits()),
                Packing::Awq => *columns,
                Packing::Quarters => self.rows.rows.div_ceil(4),
            },
            What::Scales { .. } => info.shape.iter().product::<u64>() as u32,
            What::Zeros { layout, .. } => (info.range.end - info.range.start) as u32 * 8 / layout.bits,
            What::GroupIndex(_) => (info.range.end - info.range.start) as u32 / 4,
            What::Elements(_) | What::Words(..) | What::Ggml { .. } => self.rows.rows,
        }
    }

    /// Bytes of `lines` of them.
    pub fn line_bytes(&self, info: &TensorInfo, lines: u32) -> u64 {
        (info.range.end - info.range.start) * u64::from(lines) / u64::from(self.lines(info).max(1))
    }

    /// Lines that a piece must have a multiple of (but for the last).
    pub fn together(&self) -> u32 {
        match &self.what {
            // a row is made in units of up to 64 elements, and each must find all its columns in one piece
            What::Elements(e) if e.transposed => {
                let mut groups = 1;
                while !(groups * e.column_padded).is_multiple_of(UNIT) {
                    groups += 1;
                }
                // whole groups are only needed where they are padded
                if e.column_group == e.column_padded { UNIT } else { groups * e.column_group }
            }
            What::Codes { layout, .. } if layout.packing == Packing::Awq => 8,
            // a row may end within a byte
            What::Codes { layout, .. }
                if layout.packing == Packing::Rows && !(layout.row_stride * self.bits()).is_multiple_of(8) =>
            {
                2
            }
            What::Scales { .. } | What::Zeros { .. } => SCALES_TOGETHER,
            _ => 1,
        }
    }

    fn bits(&self) -> u32 {
        match self.to.storage {
            Storage::Blocks(blocks) => blocks.codes.bits(),
            Storage::F32 | Storage::F16 => 32,
        }
    }

    /// What makes of the lines `lines` (of a tensor of this type, number `tensor`) those rows that are in `part`; `None` where none is.
    pub fn conversion(&self, dtype: Dtype, tensor: u32, lines: &Range<u32>, part: &Part) -> Option<Conversion> {
        let by_rows = match &self.what {
            What::Elements(e) => !e.transposed,
            What::Codes { layout, .. } => layout.packing == Packing::Rows,
            What::Ggml { .. } => true,
            _ => false,
        };
        let rows = if by_rows { lines.clone() } else { 0..self.rows.rows };
        if rows.is_empty() {
            return None;
        }
        let (low, high) = (self.rows.row(rows.start), self.rows.row(rows.end - 1) + 1);
        if part.first >= high || part.first + part.rows <= low {
            return None;
        }
        match &self.what {
            What::Elements(elements) => Some(self.convert(*elements, dtype, tensor, lines, part)),
            What::Codes { layout, columns, order } => {
                Some(self.repack_codes(*layout, *columns, order.as_ref(), tensor, lines, part))
            }
            What::Scales { .. } | What::Zeros { .. } => Some(self.repack_scales(dtype, tensor, lines, part)),
            What::Ggml { columns } => Some(self.repack_ggml(*columns, dtype, tensor, lines, part)),
            What::Words(..) | What::GroupIndex(_) => None,
        }
    }

    /// Elements of a unit of `convert_dense`, where its rows are such: without padding between source and weight, and whole units
    /// long.
    fn dense(&self, e: &Elements) -> Option<u32> {
        let unit = if matches!(self.to.storage, Storage::Blocks(_)) { UNIT } else { 8 };
        let plain = !e.transposed && self.rows.group == self.rows.padded && e.column_group == e.column_padded;
        (plain && e.columns == self.to.len && e.columns.is_multiple_of(unit)).then_some(unit)
    }

    fn convert(&self, e: Elements, dtype: Dtype, tensor: u32, lines: &Range<u32>, part: &Part) -> Conversion {
        let flags = [source_flag(dtype).unwrap_or("s_f32"), dest_flag(self.to.storage)];
        let (rows, columns) =
            if e.transposed { (0..self.rows.rows, lines.clone()) } else { (lines.clone(), 0..e.columns) };
        let (kernel, params, groups) = if let Some(unit) = self.dense(&e) {
            let per_row = e.columns / unit;
            let params = ConvertDenseParams {
                units: (rows.end - rows.start) * per_row,
                first: (self.rows.base + rows.start).wrapping_sub(part.first).wrapping_mul(per_row),
                limit: part.rows * per_row,
                tensor,
            };
            let groups = u64::from(params.units).div_ceil(DENSE_UNITS);
            (&shaders::CONVERT_DENSE, bytemuck::bytes_of(&params).to_vec(), groups)
        } else {
            // units (vec4s; in blocks: pairs of them) before a column, the first of a piece
            let unit = if matches!(self.to.storage, Storage::Blocks(_)) { UNIT } else { 4 };
            let before = |c: u32| (c / e.column_group * e.column_padded + c % e.column_group) / unit;
            let first_unit = before(columns.start);
            let end = if columns.end == e.columns { self.to.len.div_ceil(unit) } else { before(columns.end) };
            let params = ConvertParams {
                rows: rows.end - rows.start,
                first: rows.start,
                columns: e.columns,
                first_column: columns.start,
                row_stride: if e.transposed { 1 } else { e.columns },
                column_stride: if e.transposed { self.rows.rows } else { 1 },
                units: end - first_unit,
                first_unit,
                row_group: self.rows.group,
                row_padded: self.rows.padded,
                base: self.rows.base,
                column_group: e.column_group,
                column_padded: e.column_padded,
                low: part.first,
                high: part.first + part.rows,
                stride4: self.to.storage.stride4(self.to.len),
                scale_stride: self.to.storage.scale_stride(self.to.len),
                tensor,
            };
            let groups = (u64::from(params.rows) * u64::from(params.units)).div_ceil(64);
            (&shaders::CONVERT, bytemuck::bytes_of(&params).to_vec(), groups)
        };
        let buffers = [&part.data].into_iter().chain(&part.scales).cloned().collect();
        let constants = match self.to.storage {
            Storage::Blocks(blocks) => {
                vec![("CODES", f64::from(blocks.codes.number())), ("SCALES", f64::from(blocks.scales.number()))]
            }
            Storage::F32 | Storage::F16 => Vec::new(),
        };
        Conversion { kernel: kernel.variant(&flags), constants, params, buffers, groups }
    }

    fn repack_codes(
        &self,
        layout: CodeLayout,
        columns: u32,
        order: Option<&Buffer>,
        tensor: u32,
        lines: &Range<u32>,
        part: &Part,
    ) -> Conversion {
        let Storage::Blocks(blocks) = self.to.storage else { unreachable!("codes are of blocks") };
        let (bits, stride) = (blocks.codes.bits(), blocks.words(self.to.len));
        let per = 32 / bits;
        let filled = self.to.len.div_ceil(per);
        // words of a row that these lines have a part in, and rows
        let (rows, words) = match layout.packing {
            Packing::Rows => (lines.clone(), 0..filled),
            // a line's four rows, one line after another
            Packing::Quarters => (4 * lines.start..4 * lines.end, 0..filled),
            _ if order.is_some() => (0..self.rows.rows, 0..filled),
            Packing::Columns => (0..self.rows.rows, lines.start..lines.end.min(filled)),
            Packing::Awq => (0..self.rows.rows, lines.start / per..lines.end.div_ceil(per).min(filled)),
        };
        let params = RepackCodesParams {
            lines: lines.end - lines.start,
            first: lines.start,
            rows: self.rows.rows,
            columns,
            row_stride: layout.row_stride,
            flip: layout.flip,
            invert: layout.invert,
            visited: rows.end - rows.start,
            first_row: rows.start,
            words: words.end - words.start,
            first_word: words.start,
            len: self.to.len,
            stride,
            row_group: self.rows.group,
            row_padded: self.rows.padded,
            base: self.rows.base,
            low: part.first,
            high: part.first + part.rows,
            tensor,
        };
        let packing = match layout.packing {
            Packing::Rows => 0.0,
            Packing::Columns => 1.0,
            Packing::Awq => 2.0,
            Packing::Quarters => 3.0,
        };
        let flag = |on: bool| f64::from(u8::from(on));
        let constants = vec![
            ("BITS", f64::from(bits)),
            ("PACKING", packing),
            ("ORDER", flag(order.is_some())),
            ("FLOATS", flag(blocks.codes == Codes::E4m3)),
        ];
        let buffers = [&part.data].into_iter().chain(order).cloned().collect();
        let groups = (u64::from(params.visited) * u64::from(params.words)).div_ceil(64);
        let kernel = shaders::REPACK_CODES.variant(&[]);
        Conversion { kernel, constants, params: bytemuck::bytes_of(&params).to_vec(), buffers, groups }
    }

    fn repack_ggml(&self, columns: u32, dtype: Dtype, tensor: u32, lines: &Range<u32>, part: &Part) -> Conversion {
        let Storage::Blocks(blocks) = self.to.storage else { unreachable!("ggml's blocks stay in few bits") };
        let params = RepackGgmlParams {
            rows: lines.end - lines.start,
            first: lines.start,
            columns,
            stride: blocks.words(self.to.len),
            scale_stride: blocks.scale_words(self.to.len),
            row_group: self.rows.group,
            row_padded: self.rows.padded,
            base: self.rows.base,
            low: part.first,
            high: part.first + part.rows,
            tensor,
        };
        let constants = vec![
            ("TYPE", f64::from(dtype.ggml_number().unwrap_or_default())),
            ("BYTES", dtype.block().1 as f64),
            ("BITS", f64::from(blocks.codes.bits())),
        ];
        let buffers = [&part.data].into_iter().chain(&part.scales).cloned().collect();
        let groups = (u64::from(params.rows) * u64::from(columns.div_ceil(UNIT))).div_ceil(64);
        let kernel = shaders::REPACK_GGML.variant(&[]);
        Conversion { kernel, constants, params: bytemuck::bytes_of(&params).to_vec(), buffers, groups }
    }

    fn repack_scales(&self, dtype: Dtype, tensor: u32, elements: &Range<u32>, part: &Part) -> Conversion {
        let Storage::Blocks(blocks) = self.to.storage else { unreachable!("scales are of blocks") };
        let mut params = RepackScalesParams {
            count: elements.end - elements.start,
            first: elements.start,
            rows: self.rows.rows,
            groups: self.to.len.div_ceil(blocks.group),
            factor: 1.0,
            nested_block: 1,
            bits: 8,
            stride: blocks.scale_words(self.to.len),
            row_group: self.rows.group,
            row_padded: self.rows.padded,
            base: self.rows.base,
            low: part.first,
            high: part.first + part.rows,
            tensor,
            ..Default::default()
        };
        let (index, source, side, has_order) = match &self.what {
            What::Scales { index, factor, inverse, nested, side } => {
                params.factor = *factor;
                params.inverse = u32::from(*inverse);
                if let Some((block, offset)) = nested {
                    (params.nested_block, params.offset) = (*block, *offset);
                }
                let source = match (nested, dtype) {
                    (Some(_), _) => 3,
                    (None, Dtype::F16) => 1,
                    (None, Dtype::BF16) => 2,
                    (None, _) => 0,
                };
                (*index, source, side, nested.is_none() && side.is_some())
            }
            What::Zeros { layout, side } => {
                params.bits = layout.bits;
                params.awq = u32::from(layout.awq);
                params.add = layout.add;
                params.sub = layout.sub;
                params.is_signed = u32::from(layout.signed);
                (layout.index, 4, side, side.is_some())
            }
            _ => unreachable!("scales or zeros"),
        };
        params.row_div = index.row_div;
        params.row_stride = index.row_stride;
        params.row_step = index.row_step;
        params.group_stride = index.group_stride;
        params.div = index.div;
        let constants = vec![
            ("SOURCE", f64::from(source)),
            ("SCALES", f64::from(blocks.scales.number())),
            ("ORDER", f64::from(u8::from(has_order))),
        ];
        let buffers = part.scales.iter().chain(side).cloned().collect();
        let groups = (u64::from(params.rows) * u64::from(params.stride)).div_ceil(64);
        let kernel = shaders::REPACK_SCALES.variant(&[]);
        Conversion { kernel, constants, params: bytemuck::bytes_of(&params).to_vec(), buffers, groups }
    }
}
