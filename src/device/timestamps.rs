//! When compute passes begin and end on the GPU's own clock.

use std::ops::Range;

use super::{Buffer, Category, Device, Readback};
use crate::error::DeviceError;

/// Passes whose two timestamps one query set holds.
const PASSES: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;
/// Bytes of a pass's two timestamps.
const PAIR: u64 = 2 * wgpu::QUERY_SIZE as u64;

/// Room for the times of so many passes of one encoder.
#[derive(Debug)]
pub struct Timestamps {
    sets: Vec<wgpu::QuerySet>,
    passes: usize,
    begun: usize,
    resolved: Buffer,
    readback: Readback,
}

impl Timestamps {
    /// Room for `passes`, one at least.
    ///
    /// # Errors
    /// [`DeviceError::NoTimestamps`] where the adapter has none; as [`Device::buffer`].
    pub fn new(device: &Device, passes: usize) -> Result<Self, DeviceError> {
        device.expect_timestamps()?;
        let set = |first: usize| {
            device.wgpu().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * PASSES.min(passes - first) as u32,
            })
        };
        let size = PAIR * passes as u64;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Ok(Self {
            sets: (0..passes).step_by(PASSES).map(set).collect(),
            passes,
            begun: 0,
            resolved: device.buffer("timestamps", Category::Staging, size, usage)?,
            readback: Readback::new(device, "timestamps", size)?,
        })
    }

    /// The next pass, which is timed. There may be no more of them than there is room for, and at the end no fewer.
    pub(crate) fn pass<'e>(&mut self, encoder: &'e mut wgpu::CommandEncoder) -> wgpu::ComputePass<'e> {
        let (set, pass) = (self.begun / PASSES, (self.begun % PASSES) as u32);
        self.begun += 1;
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.sets[set],
                beginning_of_pass_write_index: Some(2 * pass),
                end_of_pass_write_index: Some(2 * pass + 1),
            }),
        })
    }

    /// Submits the encoder, and waits for what it does: beginning and end of each pass, in nanoseconds since some moment that is the same for
    /// all of the device. A browser may round them to 100 microseconds.
    ///
    /// # Errors
    /// As [`Readback::wait`].
    pub async fn finish(
        mut self,
        device: &Device,
        mut encoder: wgpu::CommandEncoder,
    ) -> Result<Vec<Range<u64>>, DeviceError> {
        debug_assert_eq!(self.begun, self.passes);
        for (number, set) in self.sets.iter().enumerate() {
            let first = number * PASSES;
            let count = 2 * PASSES.min(self.passes - first) as u32;
            encoder.resolve_query_set(set, 0..count, self.resolved.wgpu(), PAIR * first as u64);
        }
        self.readback.copy(&mut encoder, &self.resolved, 0, PAIR * self.passes as u64);
        self.readback.submit(device, encoder);
        self.readback.wait(device).await?;
        let period = f64::from(device.0.queue.get_timestamp_period());
        let nanoseconds = |tick: &[u8]| (bytemuck::pod_read_unaligned::<u64>(tick) as f64 * period) as u64;
        self.readback.take(|bytes| {
            let pairs = bytes.chunks_exact(PAIR as usize).map(|pair| pair.split_at(wgpu::QUERY_SIZE as usize));
            pairs.map(|(begin, end)| nanoseconds(begin)..nanoseconds(end)).collect()
        })
    }
}
