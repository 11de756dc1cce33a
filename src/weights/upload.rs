//! Chunks of bytes on their way: uploaded as they are stored, and converted into place by a kernel.

use std::ops::Range;

use crate::checkpoint::Dtype;
use crate::device::{Buffer, Category, Device, Readback, UPLOADS};
use crate::error::DeviceError;
use crate::shaders::{self, ConvertDenseParams, ConvertParams, Kernel};
use crate::tensor::{Part, Storage, Weight};

/// Bytes uploaded at once. Several chunks are under way, each in a buffer here and natively in one of wgpu's.
pub(super) const CHUNK: u64 = 4 << 20;

/// What the chunks take on the GPU while a model of `total` stored bytes is loaded: a small one does not need them all.
#[must_use]
pub fn upload_bytes(total: u64) -> u64 {
    CHUNK * total.div_ceil(CHUNK).saturating_add(1).min(UPLOADS as u64)
}

/// Conversions in one submit: bounds the buffer of their parameters.
const MAX_DISPATCHES: usize = 256;

/// Where one tensor of the checkpoint goes.
#[derive(Debug)]
pub(super) struct Request {
    /// `[rows, columns]` as stored; a vector is seen as the rows of its groups.
    pub rows: u32,
    pub columns: u32,
    pub row_group: u32,
    pub row_padded: u32,
    pub column_group: u32,
    pub column_padded: u32,
    pub base: u32,
    /// stored column by column
    pub transposed: bool,
    /// Rows of words that go as they are.
    pub copied: Option<Copied>,
    pub to: Weight,
}

/// What of a weight a packed tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    Data,
    Scales,
}

impl Request {
    /// Rows of so many words each, as they are.
    pub fn copy(rows: u32, words: u32, what: Copied, to: Weight) -> Self {
        Self {
            rows,
            columns: words,
            row_group: rows,
            row_padded: rows,
            column_group: words,
            column_padded: words,
            base: 0,
            transposed: false,
            copied: Some(what),
            to,
        }
    }

    /// Elements of the weight that it makes.
    pub fn parameters(&self) -> u64 {
        match self.copied {
            None => u64::from(self.rows) * u64::from(self.columns),
            Some(Copied::Data) => u64::from(self.rows) * u64::from(self.to.dim),
            Some(Copied::Scales) => 0,
        }
    }

    /// Rows, or columns, that stand one after another in the file.
    pub const fn lines(&self) -> u32 {
        if self.transposed { self.columns } else { self.rows }
    }

    /// Elements of one.
    pub const fn line(&self) -> u32 {
        if self.transposed { self.rows } else { self.columns }
    }

    /// Lines that a piece must have a multiple of (but for the last): a row is made in units of up to 64 elements, and each must
    /// find all its columns in one piece.
    pub fn together(&self) -> u32 {
        if !self.transposed {
            return 1;
        }
        let mut groups = 1;
        while !(groups * self.column_padded).is_multiple_of(UNIT) {
            groups += 1;
        }
        // whole groups are only needed where they are padded
        if self.column_group == self.column_padded { UNIT } else { groups * self.column_group }
    }

    /// Elements of a unit of `convert_dense`, where its rows are such: without padding between source and weight, and whole units
    /// long.
    fn dense(&self, dtype: Dtype) -> Option<u32> {
        let unit = if self.to.storage == Storage::Q4 { UNIT } else { 8 };
        let plain = !self.transposed && self.row_group == self.row_padded && self.column_group == self.column_padded;
        (plain && source_flag(dtype).is_some() && self.columns == self.to.dim && self.columns.is_multiple_of(unit))
            .then_some(unit)
    }

    /// Units of a stored row (vec4s; q4: words of scales) before column `column` of the tensor, the first of a piece.
    const fn units_before(&self, column: u32) -> u32 {
        let padded = column / self.column_group * self.column_padded + column % self.column_group;
        match self.to.storage {
            Storage::Q4 => padded / UNIT,
            Storage::F32 | Storage::F16 => padded / 4,
        }
    }

    /// Units of a whole stored row.
    const fn units(&self) -> u32 {
        match self.to.storage {
            Storage::Q4 => self.to.storage.scale_stride(self.to.dim),
            Storage::F32 | Storage::F16 => self.to.storage.stride4(self.to.dim),
        }
    }
}

/// Elements behind one word of q4 scales.
const UNIT: u32 = 64;

/// Units that a workgroup of `convert_dense` makes.
const DENSE_UNITS: u64 = 2048;

/// Bytes from one conversion's parameters to the next.
fn params_slot(device: &Device) -> usize {
    size_of::<ConvertParams>().next_multiple_of(device.limits().min_uniform_buffer_offset_alignment as usize)
}

fn slice(buffer: &Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: buffer.wgpu(),
        offset,
        size: wgpu::BufferSize::new(size),
    })
}

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
        Storage::Q4 => "d_q4",
    }
}

/// Uploads chunks in turn: while the GPU converts one, the next is filled.
pub(super) struct Uploader<'a> {
    device: &'a Device,
    status: &'a Buffer,
    chunks: Vec<Chunk>,
    current: usize,
}

/// One chunk of bytes and the conversions that read it.
struct Chunk {
    bytes: Buffer,
    params: Buffer,
    fence: Readback,
    in_flight: bool,
    used: u64,
    conversions: Vec<Conversion>,
    copies: Vec<Copy>,
}

/// Bytes that go as they are.
struct Copy {
    from: u64,
    to: Buffer,
    offset: u64,
    size: u64,
}

struct Conversion {
    kernel: &'static Kernel,
    params: Vec<u8>,
    offset: u64,
    size: u64,
    part: Part,
    groups: u64,
}

impl<'a> Uploader<'a> {
    /// For `total` bytes.
    pub fn new(device: &'a Device, status: &'a Buffer, total: u64) -> Result<Self, DeviceError> {
        let slot = params_slot(device) as u64;
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let chunk = |_| {
            Ok(Chunk {
                bytes: device.storage("upload", Category::Staging, CHUNK)?,
                params: device.buffer("conversions", Category::Staging, slot * MAX_DISPATCHES as u64, uniform)?,
                fence: Readback::new(device, "fence", 4)?,
                in_flight: false,
                used: 0,
                conversions: Vec::new(),
                copies: Vec::new(),
            })
        };
        let chunks = (0..upload_bytes(total) / CHUNK).map(chunk).collect::<Result<_, DeviceError>>()?;
        Ok(Self { device, status, chunks, current: 0 })
    }

    /// Bytes free in the current chunk: at least `needed` (which no chunk is smaller than).
    pub async fn room(&mut self, needed: u64) -> Result<u64, DeviceError> {
        let chunk = &self.chunks[self.current];
        // a tensor may fall into as many parts as there are bindings for it; leave room for them
        if chunk.used + needed > CHUNK || chunk.conversions.len() + MAX_DISPATCHES / 4 > MAX_DISPATCHES {
            self.flush()?;
            self.current = (self.current + 1) % self.chunks.len();
            self.chunks[self.current].wait(self.device).await?;
        }
        Ok(CHUNK - self.chunks[self.current].used)
    }

    /// Whether everything that was submitted so far is done, and something was.
    pub fn is_idle(&self) -> bool {
        let mut under_way = self.chunks.iter().filter(|chunk| chunk.in_flight).peekable();
        under_way.peek().is_some() && under_way.all(|chunk| chunk.fence.ready(self.device))
    }

    /// Adds the rows (of a transposed tensor: columns) `lines` of a tensor to the current chunk.
    pub fn push(
        &mut self,
        bytes: &[u8],
        dtype: Dtype,
        request: &Request,
        tensor: u32,
        lines: Range<u32>,
    ) -> Result<(), DeviceError> {
        let chunk = &mut self.chunks[self.current];
        self.device.write(&chunk.bytes, chunk.used, bytes);
        let to = &request.to;
        if let Some(what) = request.copied {
            let row_bytes = u64::from(request.columns) * 4;
            for part in &to.parts {
                let (low, high) = (lines.start.max(part.first), lines.end.min(part.first + part.rows));
                let buffer = if what == Copied::Data { Some(&part.data) } else { part.scales.as_ref() };
                if let (true, Some(buffer)) = (low < high, buffer) {
                    chunk.copies.push(Copy {
                        from: chunk.used + u64::from(low - lines.start) * row_bytes,
                        to: buffer.clone(),
                        offset: u64::from(low - part.first) * row_bytes,
                        size: u64::from(high - low) * row_bytes,
                    });
                }
            }
            chunk.used += bytes.len() as u64;
            self.align();
            return Ok(());
        }
        let flags = [source_flag(dtype).unwrap_or("s_f32"), dest_flag(to.storage)];
        let (rows, columns) =
            if request.transposed { (0..request.rows, lines.clone()) } else { (lines.clone(), 0..request.columns) };
        let first_unit = request.units_before(columns.start);
        let end = if columns.end == request.columns { request.units() } else { request.units_before(columns.end) };
        let units = end - first_unit;
        let row =
            |source: u32| request.base + source / request.row_group * request.row_padded + source % request.row_group;
        let (low, high) = (row(rows.start), row(rows.end - 1) + 1);
        for part in &to.parts {
            if part.first >= high || part.first + part.rows <= low {
                continue;
            }
            let (kernel, params, groups) = if let Some(unit) = request.dense(dtype) {
                let per_row = request.columns / unit;
                let params = ConvertDenseParams {
                    units: (rows.end - rows.start) * per_row,
                    first: (request.base + rows.start).wrapping_sub(part.first).wrapping_mul(per_row),
                    limit: part.rows * per_row,
                    tensor,
                };
                let groups = u64::from(params.units).div_ceil(DENSE_UNITS);
                (&shaders::CONVERT_DENSE, bytemuck::bytes_of(&params).to_vec(), groups)
            } else {
                let params = ConvertParams {
                    rows: rows.end - rows.start,
                    first: rows.start,
                    columns: request.columns,
                    first_column: columns.start,
                    row_stride: if request.transposed { 1 } else { request.columns },
                    column_stride: if request.transposed { request.rows } else { 1 },
                    units,
                    first_unit,
                    row_group: request.row_group,
                    row_padded: request.row_padded,
                    base: request.base,
                    column_group: request.column_group,
                    column_padded: request.column_padded,
                    low: part.first,
                    high: part.first + part.rows,
                    stride4: to.storage.stride4(to.dim),
                    scale_stride: to.storage.scale_stride(to.dim),
                    tensor,
                };
                let groups = (u64::from(params.rows) * u64::from(units)).div_ceil(64);
                (&shaders::CONVERT, bytemuck::bytes_of(&params).to_vec(), groups)
            };
            chunk.conversions.push(Conversion {
                kernel: kernel.variant(&flags),
                params,
                offset: chunk.used,
                size: (bytes.len() as u64).next_multiple_of(4),
                part: part.clone(),
                groups,
            });
        }
        chunk.used += bytes.len() as u64;
        self.align();
        Ok(())
    }

    /// The next bytes of the current chunk begin where a binding may.
    fn align(&mut self) {
        let align = u64::from(self.device.limits().min_storage_buffer_offset_alignment);
        let used = &mut self.chunks[self.current].used;
        *used = used.next_multiple_of(align.max(4)).min(CHUNK);
    }

    /// Submits the current chunk.
    fn flush(&mut self) -> Result<(), DeviceError> {
        let device = self.device;
        let chunk = &mut self.chunks[self.current];
        let slot_size = params_slot(device);
        let mut params = vec![0; slot_size * chunk.conversions.len()];
        for (slot, conversion) in params.chunks_exact_mut(slot_size).zip(&chunk.conversions) {
            slot[..conversion.params.len()].copy_from_slice(&conversion.params);
        }
        device.write(&chunk.params, 0, &params);
        let mut encoder = device.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (i, conversion) in chunk.conversions.iter().enumerate() {
                let pipeline = device.pipeline(conversion.kernel, &[])?;
                let mut resources = vec![
                    slice(&chunk.params, (i * slot_size) as u64, conversion.params.len() as u64),
                    slice(&chunk.bytes, conversion.offset, conversion.size),
                    self.status.wgpu().as_entire_binding(),
                    conversion.part.data.wgpu().as_entire_binding(),
                ];
                resources.extend(conversion.part.scales.as_ref().map(|s| s.wgpu().as_entire_binding()));
                let entries: Vec<_> = (0..)
                    .zip(resources)
                    .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                    .collect();
                let group = device.wgpu().create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("convert"),
                    layout: &pipeline.layout,
                    entries: &entries,
                });
                pass.set_pipeline(&pipeline.wgpu);
                pass.set_bind_group(0, &group, &[]);
                let [x, y, z] = device.fold(conversion.groups);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        for copy in chunk.copies.drain(..) {
            encoder.copy_buffer_to_buffer(chunk.bytes.wgpu(), copy.from, copy.to.wgpu(), copy.offset, copy.size);
        }
        chunk.fence.submit(device, encoder);
        chunk.in_flight = true;
        chunk.used = 0;
        chunk.conversions.clear();
        Ok(())
    }

    pub async fn finish(mut self) -> Result<(), DeviceError> {
        self.flush()?;
        for chunk in &mut self.chunks {
            chunk.wait(self.device).await?;
        }
        Ok(())
    }
}

impl Chunk {
    async fn wait(&mut self, device: &Device) -> Result<(), DeviceError> {
        if std::mem::take(&mut self.in_flight) {
            self.fence.wait(device).await?;
            self.fence.take(|_| ())?;
        }
        Ok(())
    }
}
