//! From byte ranges of a checkpoint to weights on the GPU.
//!
//! A model first asks for everything it needs ([`Weights::matrix`], [`Weights::vector`]): memory is allocated and names and
//! shapes are checked before a byte is read. Then [`Weights::stream`] reads the checkpoint once, in byte order, in bounded
//! chunks, uploads the bytes as they are stored, and a kernel converts or quantizes them into place. Host memory stays bounded by
//! the chunks, whatever the model's size.

use crate::checkpoint::{Checkpoint, Dtype, TensorInfo};
use crate::device::{Buffer, Category, Device, Readback};
use crate::error::{DeviceError, Error, WeightsError};
use crate::shaders::{self, ConvertParams, Kernel};
use crate::source::Source;
use crate::tensor::{Part, Storage, Weight, vec4s};

/// Bytes uploaded at once. Three chunks are under way, each in a buffer here and in one of wgpu's.
const CHUNK: u64 = 4 << 20;
const CHUNKS: usize = 3;
/// Conversions in one submit: bounds the buffer of their parameters.
const MAX_DISPATCHES: usize = 256;

/// A tensor of the checkpoint as rows of a weight.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'n> {
    /// Its layer's name, below the scope.
    pub name: &'n str,
    /// Its rows.
    pub rows: u32,
    /// Rows that belong together (those of a head, or all): each such group is padded with zero rows to a multiple of 4.
    pub group: u32,
}

impl<'n> Rows<'n> {
    /// Rows without groups.
    #[must_use]
    pub const fn plain(name: &'n str, rows: u32) -> Self {
        Self { name, rows, group: rows }
    }

    /// Rows after padding.
    const fn padded(&self) -> u32 {
        self.rows / self.group * (vec4s(self.group) * 4)
    }
}

/// Where one tensor of the checkpoint goes.
#[derive(Debug)]
struct Request {
    /// `[rows, columns]` as stored; a vector is seen as the rows of its groups.
    rows: u32,
    columns: u32,
    row_group: u32,
    row_padded: u32,
    column_group: u32,
    column_padded: u32,
    base: u32,
    to: Weight,
}

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the checkpoint that are on the GPU.
    pub loaded: u64,
    /// Bytes that will be.
    pub total: u64,
}

/// The weights of one model while they are asked for and loaded.
#[derive(Debug)]
pub struct Weights<'a> {
    device: &'a Device,
    checkpoint: &'a Checkpoint,
    scope: String,
    /// by tensor, in the order of `checkpoint.in_byte_order()`
    requests: Vec<(&'a TensorInfo, Request)>,
    missing: Vec<String>,
    misshaped: Vec<(String, Vec<u64>, Vec<u64>)>,
    dtypes: Vec<(String, String)>,
}

impl<'a> Weights<'a> {
    /// Nothing asked for yet.
    #[must_use]
    pub fn new(device: &'a Device, checkpoint: &'a Checkpoint) -> Self {
        Self {
            device,
            checkpoint,
            scope: String::new(),
            requests: Vec::new(),
            missing: Vec::new(),
            misshaped: Vec::new(),
            dtypes: Vec::new(),
        }
    }

    /// Runs `load` with `name.` before every name.
    pub fn scoped<R>(&mut self, name: &str, load: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.scope.len();
        self.scope.push_str(name);
        self.scope.push('.');
        let result = load(self);
        self.scope.truncate(outer);
        result
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
        let found: Vec<_> = rows.iter().map(|r| self.find(r.name, "weight", &[r.rows, dim])).collect();
        let padded = rows.iter().map(Rows::padded).sum();
        let mut to = self.allocate(rows[0].name, &found, padded, to_dim, storage)?;
        if let [only] = rows
            && only.group == only.rows
        {
            to.rows = only.rows;
        }
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
        let found: Vec<_> = rows.iter().map(|r| self.find(r.name, suffix, &[r.rows])).collect();
        let groups = rows.iter().map(|r| r.rows / group).sum();
        let to = self.allocate(rows[0].name, &found, groups, group, Storage::F32)?;
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
        &self,
        name: &str,
        found: &[Option<&TensorInfo>],
        rows: u32,
        dim: u32,
        storage: Storage,
    ) -> Result<Weight, Error> {
        let label = format!("{}{name}", self.scope);
        if found.contains(&None) {
            let data = self.device.storage(&label, Category::Weights, 0)?;
            let parts = vec![Part { first: 0, rows: 0, data, scales: None }];
            return Ok(Weight { rows, dim, storage, parts });
        }
        let row_bytes = storage.row_bytes(dim);
        let limit = self.device.max_binding();
        // parts begin at whole tiles of the kernels
        let per_part = (limit / row_bytes) as u32 / 64 * 64;
        if per_part == 0 {
            return Err(WeightsError::RowTooLong { tensor: label, bytes: row_bytes, limit: limit / 64 }.into());
        }
        let new = |bytes| self.device.storage(&label, Category::Weights, bytes);
        let mut parts = Vec::new();
        let mut first = 0;
        while first < rows {
            let count = per_part.min(rows - first);
            let scale_bytes = u64::from(storage.scale_stride(dim)) * 4 * u64::from(count);
            let data = new(row_bytes * u64::from(count))?;
            let scales = if scale_bytes > 0 { Some(new(scale_bytes)?) } else { None };
            parts.push(Part { first, rows: count, data, scales });
            first += count;
        }
        Ok(Weight { rows, dim, storage, parts })
    }

    /// Tensors of the checkpoint that nobody asked for: of no use here, and worth a word.
    #[must_use]
    pub fn extra(&self) -> Vec<String> {
        let asked: std::collections::HashSet<_> = self.requests.iter().map(|(info, _)| info.name.as_str()).collect();
        self.checkpoint.names().filter(|name| !asked.contains(name)).map(str::to_owned).collect()
    }

    /// Reads everything that was asked for, in byte order, and puts it into place.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] before anything is read; [`WeightsError::NotFinite`], [`WeightsError::Overflow`] for what the
    /// tensors hold; those of the source and the device.
    pub async fn stream(mut self, source: &Source, mut progress: impl FnMut(Progress)) -> Result<(), Error> {
        if !(self.missing.is_empty() && self.misshaped.is_empty() && self.dtypes.is_empty()) {
            let (missing, misshaped, dtypes) = (self.missing, self.misshaped, self.dtypes);
            return Err(WeightsError::Mismatch { missing, misshaped, dtypes }.into());
        }
        self.requests.sort_by_key(|(info, _)| (info.file, info.range.start));
        let mut at =
            Progress { loaded: 0, total: self.requests.iter().map(|(i, _)| i.range.end - i.range.start).sum() };
        progress(at);
        let status = self.device.storage_with("load status", Category::Staging, &[u32::MAX; 2])?;
        let mut uploader = Uploader::new(self.device, &status)?;
        for (number, (info, request)) in self.requests.iter().enumerate() {
            let row_bytes = u64::from(request.columns) * (info.dtype.size_bits() / 8);
            if row_bytes > CHUNK {
                return Err(
                    WeightsError::RowTooLong { tensor: info.name.clone(), bytes: row_bytes, limit: CHUNK }.into()
                );
            }
            let file = &self.checkpoint.files()[info.file];
            let mut first = 0;
            while first < request.rows {
                let room = uploader.room(row_bytes).await?;
                let rows = ((room / row_bytes) as u32).min(request.rows - first);
                let start = info.range.start + u64::from(first) * row_bytes;
                let bytes = source.read(file, start..start + u64::from(rows) * row_bytes).await?;
                uploader.push(&bytes, info.dtype, request, number as u32, first, rows)?;
                first += rows;
                at.loaded += bytes.len() as u64;
                progress(at);
            }
        }
        uploader.finish().await?;
        let status = self.device.read(&status, 0..8).await?;
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

fn source_flag(dtype: Dtype) -> Option<&'static str> {
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
struct Uploader<'a> {
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
}

struct Conversion {
    kernel: &'static Kernel,
    params: ConvertParams,
    offset: u64,
    size: u64,
    part: Part,
    groups: u64,
}

impl<'a> Uploader<'a> {
    fn new(device: &'a Device, status: &'a Buffer) -> Result<Self, DeviceError> {
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
            })
        };
        let chunks = (0..CHUNKS).map(chunk).collect::<Result<_, DeviceError>>()?;
        Ok(Self { device, status, chunks, current: 0 })
    }

    /// Bytes free in the current chunk: at least `needed` (which no chunk is smaller than).
    async fn room(&mut self, needed: u64) -> Result<u64, DeviceError> {
        let chunk = &self.chunks[self.current];
        // a tensor may fall into as many parts as there are bindings for it; leave room for them
        if chunk.used + needed > CHUNK || chunk.conversions.len() + MAX_DISPATCHES / 4 > MAX_DISPATCHES {
            self.flush()?;
            self.current = (self.current + 1) % CHUNKS;
            self.chunks[self.current].wait(self.device).await?;
        }
        Ok(CHUNK - self.chunks[self.current].used)
    }

    /// Adds rows `first .. first + rows` of a tensor to the current chunk.
    fn push(
        &mut self,
        bytes: &[u8],
        dtype: Dtype,
        request: &Request,
        tensor: u32,
        first: u32,
        rows: u32,
    ) -> Result<(), DeviceError> {
        let chunk = &mut self.chunks[self.current];
        self.device.write(&chunk.bytes, chunk.used, bytes);
        let to = &request.to;
        let flags = [source_flag(dtype).unwrap_or("s_f32"), dest_flag(to.storage)];
        let row =
            |source: u32| request.base + source / request.row_group * request.row_padded + source % request.row_group;
        let (low, high) = (row(first), row(first + rows - 1) + 1);
        for part in &to.parts {
            if part.first >= high || part.first + part.rows <= low {
                continue;
            }
            let params = ConvertParams {
                rows,
                first,
                columns: request.columns,
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
            let per_row = if to.storage == Storage::Q4 { params.scale_stride } else { params.stride4 };
            chunk.conversions.push(Conversion {
                kernel: shaders::CONVERT.variant(&flags),
                params,
                offset: chunk.used,
                size: (bytes.len() as u64).next_multiple_of(4),
                part: part.clone(),
                groups: (u64::from(rows) * u64::from(per_row)).div_ceil(64),
            });
        }
        let align = u64::from(self.device.limits().min_storage_buffer_offset_alignment);
        chunk.used = (chunk.used + bytes.len() as u64).next_multiple_of(align.max(4)).min(CHUNK);
        Ok(())
    }

    /// Submits the current chunk.
    fn flush(&mut self) -> Result<(), DeviceError> {
        let device = self.device;
        let chunk = &mut self.chunks[self.current];
        let slot_size = params_slot(device);
        let mut params = vec![0; slot_size * chunk.conversions.len()];
        for (slot, conversion) in params.chunks_exact_mut(slot_size).zip(&chunk.conversions) {
            slot[..size_of::<ConvertParams>()].copy_from_slice(bytemuck::bytes_of(&conversion.params));
        }
        device.write(&chunk.params, 0, &params);
        let mut encoder = device.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (i, conversion) in chunk.conversions.iter().enumerate() {
                let pipeline = device.pipeline(conversion.kernel, &[])?;
                let mut resources = vec![
                    slice(&chunk.params, (i * slot_size) as u64, size_of::<ConvertParams>() as u64),
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
        chunk.fence.submit(device, encoder);
        chunk.in_flight = true;
        chunk.used = 0;
        chunk.conversions.clear();
        Ok(())
    }

    async fn finish(mut self) -> Result<(), DeviceError> {
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
