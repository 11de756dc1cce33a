//! Chunks of bytes on their way: uploaded as they are stored, and converted into place by a kernel.

use std::ops::Range;

use crate::checkpoint::Dtype;
use crate::device::{Buffer, Category, Device, Readback, UPLOADS};
use crate::error::DeviceError;
use crate::shaders::RepackScalesParams;

use super::request::{Conversion, Copied, Request, What};

/// Bytes uploaded at once. Several chunks are under way, each in a buffer here and natively in one of wgpu's.
pub(super) const CHUNK: u64 = 4 << 20;

/// What the chunks take on the GPU while a model of `total` stored bytes is loaded: a small one does not need them all.
#[must_use]
pub fn upload_bytes(total: u64) -> u64 {
    CHUNK * total.div_ceil(CHUNK).saturating_add(1).min(UPLOADS as u64)
}

/// Conversions in one submit: bounds the buffer of their parameters.
const MAX_DISPATCHES: usize = 256;

/// Bytes from one conversion's parameters to the next.
fn params_slot(device: &Device) -> usize {
    size_of::<RepackScalesParams>().next_multiple_of(device.limits().min_uniform_buffer_offset_alignment as usize)
}

fn slice(buffer: &Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: buffer.wgpu(),
        offset,
        size: wgpu::BufferSize::new(size),
    })
}

/// Uploads chunks in turn: while the GPU converts one, the next is filled.
pub(super) struct Uploader<'a> {
    device: &'a Device,
    status: &'a Buffer,
    chunks: Vec<Chunk>,
    current: usize,
}

/// One chunk of bytes and what reads it.
struct Chunk {
    bytes: Buffer,
    params: Buffer,
    fence: Readback,
    in_flight: bool,
    used: u64,
    conversions: Vec<Placed>,
    copies: Vec<Copy>,
}

/// A conversion, and which bytes it reads.
struct Placed {
    conversion: Conversion,
    offset: u64,
    size: u64,
}

/// Bytes that go as they are.
struct Copy {
    from: u64,
    to: Buffer,
    offset: u64,
    size: u64,
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

    /// Adds the lines `lines` of a tensor to the current chunk.
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
        for part in request.to.parts.iter() {
            if let What::Words(words, what) = request.what {
                let row_bytes = u64::from(words) * 4;
                // an order has one row
                let first = if what == Copied::Order { 0 } else { part.first };
                let rows = if what == Copied::Order { 1 } else { part.rows };
                let lines = request.rows.base + lines.start..request.rows.base + lines.end;
                let (low, high) = (lines.start.max(first), lines.end.min(first + rows));
                let buffer = match what {
                    Copied::Data => Some(&part.data),
                    Copied::Scales => part.scales.as_ref(),
                    Copied::Order => part.order.as_ref().map(|order| &order.inputs),
                };
                if let (true, Some(buffer)) = (low < high, buffer) {
                    chunk.copies.push(Copy {
                        from: chunk.used + u64::from(low - lines.start) * row_bytes,
                        to: buffer.clone(),
                        offset: u64::from(low - first) * row_bytes,
                        size: u64::from(high - low) * row_bytes,
                    });
                }
            } else if let Some(conversion) = request.conversion(dtype, tensor, &lines, part) {
                let size = (bytes.len() as u64).next_multiple_of(4);
                chunk.conversions.push(Placed { conversion, offset: chunk.used, size });
            }
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
        for (slot, placed) in params.chunks_exact_mut(slot_size).zip(&chunk.conversions) {
            slot[..placed.conversion.params.len()].copy_from_slice(&placed.conversion.params);
        }
        device.write(&chunk.params, 0, &params);
        let mut encoder = device.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (i, Placed { conversion, offset, size }) in chunk.conversions.iter().enumerate() {
                let pipeline = device.pipeline(conversion.kernel, &conversion.constants)?;
                let bytes = slice(&chunk.bytes, *offset, *size);
                let mut resources = vec![
                    slice(&chunk.params, (i * slot_size) as u64, conversion.params.len() as u64),
                    bytes.clone(),
                    self.status.wgpu().as_entire_binding(),
                ];
                resources.extend(conversion.buffers.iter().map(|buffer| buffer.wgpu().as_entire_binding()));
                // what there is none of is shown as the bytes, unread
                resources.resize(conversion.kernel.bindings.len(), bytes);
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

    /// Waits until all that was pushed is in its place.
    pub async fn drain(&mut self) -> Result<(), DeviceError> {
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
