//! Bytes back from the GPU through a buffer that is made once and used again: reading allocates nothing of ours.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::{Buffer, Category, Device, lock};
use crate::error::DeviceError;

/// A mappable buffer and the state of its mapping.
///
/// One round is: [`copy`](Self::copy) into it while encoding, [`submit`](Self::submit), [`wait`](Self::wait),
/// [`take`](Self::take). Several readbacks may be under way at once.
#[derive(Debug)]
pub struct Readback {
    buffer: Buffer,
    filled: u64,
    map: Arc<Mutex<Map>>,
    submission: Option<wgpu::SubmissionIndex>,
}

#[derive(Debug, Default)]
struct Map {
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Pending,
    Ready,
    Failed,
}

impl Readback {
    /// Room for `size` bytes.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, label: &str, size: u64) -> Result<Self, DeviceError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let buffer = device.buffer(label, Category::Staging, size, usage)?;
        Ok(Self { buffer, filled: 0, map: Arc::default(), submission: None })
    }

    /// Has `encoder` use the buffer: who waits for it then waits for what was submitted before, too.
    pub(super) fn touch(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(self.buffer.wgpu(), 0, None);
    }

    /// Bytes that there is room for.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.buffer.size()
    }

    /// Waits for a round that nobody wants any more, and makes the buffer free.
    ///
    /// # Errors
    /// As [`Readback::wait`].
    pub async fn discard(&mut self, device: &Device) -> Result<(), DeviceError> {
        self.filled = 0;
        if lock(&self.map).state != State::Idle {
            self.wait(device).await?;
            self.take(|_| ())?;
        }
        Ok(())
    }

    /// Copies `size` bytes (whole words) of `from` behind what was copied in this round.
    pub fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, from: &Buffer, offset: u64, size: u64) {
        encoder.copy_buffer_to_buffer(from.wgpu(), offset, self.buffer.wgpu(), self.filled, size);
        self.filled += size;
    }

    /// Submits the encoder and begins to map.
    pub fn submit(&mut self, device: &Device, encoder: wgpu::CommandEncoder) {
        self.submission = Some(device.submit(encoder));
        lock(&self.map).state = State::Pending;
        let map = Arc::clone(&self.map);
        self.buffer.wgpu().slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let mut map = lock(&map);
            map.state = if result.is_ok() { State::Ready } else { State::Failed };
            if let Some(waker) = map.waker.take() {
                waker.wake();
            }
        });
    }

    /// Whether [`take`](Self::take) would succeed at once. Natively this lets wgpu look for finished work.
    #[must_use]
    pub fn ready(&self, device: &Device) -> bool {
        #[cfg(not(target_arch = "wasm32"))]
        let _ = device.wgpu().poll(wgpu::PollType::Poll);
        #[cfg(target_arch = "wasm32")]
        let _ = device;
        lock(&self.map).state == State::Ready
    }

    /// Waits for the bytes. Natively the thread blocks, and only for this submission: later ones run on.
    ///
    /// # Errors
    /// As [`Device::check`], or [`DeviceError::Readback`] when the mapping failed.
    pub async fn wait(&mut self, device: &Device) -> Result<(), DeviceError> {
        let state = poll_fn(|context| {
            #[cfg(not(target_arch = "wasm32"))]
            if lock(&self.map).state == State::Pending {
                let wait = wgpu::PollType::Wait { submission_index: self.submission.clone(), timeout: None };
                if device.wgpu().poll(wait).is_err() {
                    return Poll::Ready(State::Failed);
                }
            }
            let mut map = lock(&self.map);
            if map.state == State::Pending {
                map.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(map.state)
        })
        .await;
        device.check()?;
        if state == State::Ready { Ok(()) } else { Err(DeviceError::Readback) }
    }

    /// Shows the bytes that were copied, and makes the buffer free for the next round.
    ///
    /// # Errors
    /// [`DeviceError::Readback`] when nothing was waited for.
    pub fn take<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R, DeviceError> {
        if lock(&self.map).state != State::Ready {
            return Err(DeviceError::Readback);
        }
        let result = {
            let view = self.buffer.wgpu().slice(..).get_mapped_range().map_err(|_| DeviceError::Readback)?;
            read(&view[..self.filled as usize])
        };
        self.buffer.wgpu().unmap();
        lock(&self.map).state = State::Idle;
        self.filled = 0;
        Ok(result)
    }
}
