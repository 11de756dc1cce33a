//! The GPU: which adapter, what it can do, its buffers and their ledger, compiled kernels, readback.

mod adapter;
#[cfg(target_arch = "wasm32")]
mod ending;
mod kernels;
mod ledger;
mod pipeline;
mod plan;
mod readback;
#[cfg(target_arch = "wasm32")]
mod subgroups;
mod timeline;
mod timestamps;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use adapter::{AdapterInfo, Backend, DeviceOptions, FindPipelineCache, find_adapter, list_adapters};
pub use kernels::{Kernels, Sums, Tiles};
pub use ledger::{Category, Entry, Labelled, Ledger, LedgerReport, LedgerSnapshot, Ownership};
pub use pipeline::{Constants, Pipeline};
pub use plan::{Memory, Plan};
pub use readback::Readback;
pub use timeline::{Sample, Timeline};
pub use timestamps::Timestamps;

use crate::error::DeviceError;
use crate::site::FiniteCheck;
use ledger::Owner;
use pipeline::Pipelines;

/// How many steps the GPU may run ahead of what was read back, unless a caller says otherwise: in a browser a readback may
/// take 100 ms (Firefox), natively far less than a step.
pub const LOOKAHEAD: usize = if cfg!(target_arch = "wasm32") { 32 } else { 8 };

/// How long an awaited readback may take, in milliseconds; natively, how long a burst of steps may be without being felt.
pub const READBACK_MS: f64 = if cfg!(target_arch = "wasm32") { 100.0 } else { 10.0 };

/// How many chunks of bytes may be on their way to the GPU: a browser tells that one has arrived after [`READBACK_MS`] only.
pub const UPLOADS: usize = if cfg!(target_arch = "wasm32") { 6 } else { 3 };

/// What the opened device can do beyond WebGPU's defaults. Read once; nothing here is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `shader-f16`: f16 arithmetic in kernels. Storage in f16 needs no feature.
    pub shader_f16: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// Products of packed 8-bit integers (the WGSL extension `packed_4x8_integer_dot_product`).
    pub packed_dot: bool,
    /// Matrices in f16 that subgroups multiply together, with sums in f32: the greatest that there are of those that kernels know (wgpu's
    /// cooperative matrices, never in a browser).
    pub matrices: Option<Tiles>,
    /// The adapter is a processor that plays a GPU (lavapipe, SwiftShader). What invocations of a workgroup do together takes it long: a
    /// barrier as long as hundreds of multiplications.
    pub processor: bool,
    /// Timestamps at pass boundaries.
    pub timestamps: bool,
    /// Compiled pipelines can be kept between runs.
    pub pipeline_cache: bool,
}

/// An opened adapter, and whom the buffers belong to that are made through this handle. Cloning it is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct Device(Arc<Inner>, Option<Arc<Owner>>);

#[derive(Debug)]
struct Inner {
    wgpu: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterInfo,
    limits: wgpu::Limits,
    capabilities: Capabilities,
    kernels: Mutex<Kernels>,
    ledger: Arc<Ledger>,
    memory_limit: Option<u64>,
    adapter_memory: Option<u64>,
    refused: Mutex<Range<u64>>,
    allocations: AtomicU64,
    finite_check: FiniteCheck,
    pipelines: Pipelines,
    pipeline_cache: Option<wgpu::PipelineCache>,
    submits: AtomicU64,
    failure: Arc<Mutex<Failure>>,
}

#[cfg(target_arch = "wasm32")]
impl Drop for Inner {
    fn drop(&mut self) {
        ending::keep(self.wgpu.clone(), self.queue.clone());
    }
}

/// What wgpu told us out of band, until somebody asks.
#[derive(Debug, Default)]
struct Failure {
    /// The first error since the last `check`.
    error: Option<DeviceError>,
    /// Why the device is gone; stays.
    lost: Option<String>,
}

/// Locks in spite of a panic elsewhere: what these locks guard is valid between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// Opens the adapter that `options` choose, with its own limits and the optional features that it has.
    ///
    /// # Errors
    /// [`DeviceError::NoAdapter`] when there is none, with what to install; [`DeviceError::AdapterNotFound`] when the choice
    /// names none, with the list; [`DeviceError::Open`] when the driver refuses.
    pub async fn open(options: &DeviceOptions) -> Result<Self, DeviceError> {
        let (adapter, info) = adapter::choose(options).await?;
        let has = adapter.features();
        let wanted = if options.portable {
            wgpu::Features::empty()
        } else {
            wgpu::Features::SHADER_F16
                | wgpu::Features::SUBGROUP
                | wgpu::Features::TIMESTAMP_QUERY
                | wgpu::Features::PIPELINE_CACHE
                | adapter::MATRICES
        };
        let mut features = has & wanted;
        let matrices = adapter::matrices(&adapter, features);
        if matrices.is_none() {
            features.remove(adapter::MATRICES);
        }
        let limits = if options.portable { wgpu::Limits::default() } else { adapter.limits() };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("webweft"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: adapter::experimental(features),
            ..Default::default()
        };
        let (wgpu, queue) = adapter::request_device(&adapter, &descriptor, options.portable)
            .await
            .map_err(|e| DeviceError::Open { adapter: info.name.clone(), reason: e.to_string() })?;

        let failure = Arc::new(Mutex::new(Failure::default()));
        let of_errors = Arc::clone(&failure);
        wgpu.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let error = match error {
                wgpu::Error::OutOfMemory { source } => {
                    DeviceError::OutOfMemory { label: String::new(), size: 0, reason: source.to_string() }
                }
                other => DeviceError::Validation { message: other.to_string() },
            };
            tracing::error!(%error, "wgpu");
            lock(&of_errors).error.get_or_insert(error);
        }));
        let of_loss = Arc::clone(&failure);
        wgpu.set_device_lost_callback(move |reason, message| {
            // A device that we dropped ourselves reports its end as well; nobody is left to hear of it.
            lock(&of_loss).lost.get_or_insert(format!("{reason:?}: {message}"));
        });

        let capabilities = Capabilities {
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: !options.portable && adapter::has_subgroups(&wgpu),
            packed_dot: !options.portable && adapter::has_packed_dot(),
            matrices,
            processor: options.processor.unwrap_or(!options.portable && info.kind == "CPU"),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
        };
        let pipeline_cache = capabilities.pipeline_cache.then(|| {
            let earlier = options.pipeline_cache.and_then(|find| find(&info));
            // SAFETY: what comes from elsewhere than an earlier device's cache is the caller's to answer for, as the option says. Drivers and
            // wgpu check that it is of this adapter and driver, and begin anew where it is not.
            unsafe {
                wgpu.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                    label: Some("webweft"),
                    data: earlier.as_deref(),
                    fallback: true,
                })
            }
        });
        tracing::info!(adapter = %info.name, backend = %info.backend, ?capabilities, "device opened");
        let inner = Inner {
            wgpu,
            queue,
            info,
            limits,
            capabilities,
            kernels: Mutex::new(Kernels::of(&capabilities)),
            ledger: Arc::default(),
            memory_limit: options.memory_limit,
            adapter_memory: options.adapter_memory,
            refused: Mutex::default(),
            allocations: AtomicU64::new(0),
            finite_check: options.finite_check,
            pipelines: Pipelines::default(),
            pipeline_cache,
            submits: AtomicU64::new(0),
            failure,
        };
        Ok(Self(Arc::new(inner), None))
    }

    /// The adapter behind this device.
    #[must_use]
    pub fn info(&self) -> &AdapterInfo {
        &self.0.info
    }

    /// The limits that the device was opened with.
    #[must_use]
    pub fn limits(&self) -> &wgpu::Limits {
        &self.0.limits
    }

    /// What the device can do beyond WebGPU's defaults.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.0.capabilities
    }

    /// Whether passes can be timed.
    ///
    /// # Errors
    /// [`DeviceError::NoTimestamps`] where they cannot.
    pub fn expect_timestamps(&self) -> Result<(), DeviceError> {
        if self.0.capabilities.timestamps {
            return Ok(());
        }
        Err(DeviceError::NoTimestamps { adapter: self.0.info.name.clone() })
    }

    /// The most bytes that its buffers may take together, where that was said ([`DeviceOptions::memory_limit`]).
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.0.memory_limit
    }

    /// How activations are looked at for values that they do not hold ([`DeviceOptions::finite_check`]).
    #[must_use]
    pub fn finite_check(&self) -> FiniteCheck {
        self.0.finite_check
    }

    /// The account of every buffer made through this device.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// The same device, on which every buffer belongs to `owner` from now on, and who that is: the ledger knows what outlives it.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> (Self, Ownership) {
        let (ownership, owner) = Ownership::new(owner, &self.0.ledger);
        (Self(Arc::clone(&self.0), Some(owner)), ownership)
    }

    /// Whether buffers of one can be used with the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Allocations so far, those that were refused included.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.0.allocations.load(Ordering::Relaxed)
    }

    /// Refuses allocations from now on, those of these numbers, as a driver without memory does; the next one is number 0. For tests of
    /// what happens then.
    pub fn refuse_allocations(&self, numbers: Range<u64>) {
        let next = self.allocations();
        *lock(&self.0.refused) = next.saturating_add(numbers.start)..next.saturating_add(numbers.end);
    }

    /// Largest buffer that one binding of a kernel can show, in bytes: longer weights are split.
    #[must_use]
    pub fn max_binding(&self) -> u64 {
        self.0.limits.max_storage_buffer_binding_size.min(self.0.limits.max_buffer_size)
    }

    /// The device of wgpu.
    pub(crate) fn wgpu(&self) -> &wgpu::Device {
        &self.0.wgpu
    }

    /// A new command buffer, to be encoded.
    #[must_use]
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.0.wgpu.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Submits one command buffer: the only place that does.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.0.submits.fetch_add(1, Ordering::Relaxed);
        self.0.queue.submit([encoder.finish()])
    }

    /// Command buffers submitted so far.
    #[must_use]
    pub fn submits(&self) -> u64 {
        self.0.submits.load(Ordering::Relaxed)
    }

    /// Ends the device, as a driver reset would: what follows gets [`DeviceError::Lost`]. For tests of recovery.
    pub fn destroy(&self) {
        self.0.wgpu.destroy();
        lock(&self.0.failure).lost.get_or_insert_with(|| "destroyed".into());
    }

    /// What went wrong since the last call, if anything: errors of wgpu arrive out of band.
    ///
    /// # Errors
    /// [`DeviceError::Lost`], from then on always; [`DeviceError::OutOfMemory`] and [`DeviceError::Validation`] once each.
    pub fn check(&self) -> Result<(), DeviceError> {
        let mut failure = lock(&self.0.failure);
        if let Some(reason) = &failure.lost {
            return Err(DeviceError::Lost { reason: reason.clone() });
        }
        failure.error.take().map_or(Ok(()), Err)
    }

    /// A buffer of `size` bytes, rounded up to whole words, zeroed, and entered in the ledger until it is dropped.
    ///
    /// # Errors
    /// [`DeviceError::BufferTooLarge`] beyond the adapter's limit; [`DeviceError::OutOfMemory`] beyond the budget, or where
    /// the driver refuses (a browser says so only at the next [`Device::check`]).
    pub fn buffer(
        &self,
        label: &str,
        category: Category,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer, DeviceError> {
        let size = buffer_size(label, size, self.0.limits.max_buffer_size)?;
        self.check()?;
        self.admit(label, size)?;
        let wgpu = self.0.wgpu.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        });
        match self.check() {
            Ok(()) => {}
            Err(DeviceError::OutOfMemory { reason, .. }) => {
                return Err(DeviceError::OutOfMemory { label: label.into(), size, reason });
            }
            Err(other) => return Err(other),
        }
        let entry = self.0.ledger.enter(label, category, size, self.1.as_ref());
        Ok(Buffer(Arc::new(Owned { wgpu: Some(wgpu), size, entry, ledger: Arc::clone(&self.0.ledger) })))
    }

    /// Bytes that others hold for us, entered in the ledger as a buffer would be: nothing can read or write them.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] beyond the budget.
    pub(crate) fn reserve(&self, label: &str, category: Category, size: u64) -> Result<Buffer, DeviceError> {
        self.admit(label, size)?;
        let entry = self.0.ledger.enter(label, category, size, self.1.as_ref());
        Ok(Buffer(Arc::new(Owned { wgpu: None, size, entry, ledger: Arc::clone(&self.0.ledger) })))
    }

    /// Counts an allocation. Refuses it beyond the budget, and where a test wants that.
    fn admit(&self, label: &str, size: u64) -> Result<(), DeviceError> {
        let number = self.0.allocations.fetch_add(1, Ordering::Relaxed);
        let in_use = self.0.ledger.snapshot().total;
        let exceeds = |limit: &u64| in_use.saturating_add(size) > *limit;
        let reason = match (self.0.memory_limit.filter(exceeds), self.0.adapter_memory.filter(exceeds)) {
            _ if lock(&self.0.refused).contains(&number) => format!("allocation {number} is to be refused"),
            (Some(limit), _) => format!("{in_use} bytes of the {limit} allowed are in use"),
            (None, Some(_)) => "the adapter has no more".into(),
            (None, None) => return Ok(()),
        };
        Err(DeviceError::OutOfMemory { label: label.into(), size, reason })
    }

    /// A storage buffer that kernels, uploads and copies may use.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn storage(&self, label: &str, category: Category, size: u64) -> Result<Buffer, DeviceError> {
        use wgpu::BufferUsages as U;
        self.buffer(label, category, size, U::STORAGE | U::COPY_SRC | U::COPY_DST)
    }

    /// A storage buffer that holds `data`.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn storage_with<T: bytemuck::NoUninit>(
        &self,
        label: &str,
        category: Category,
        data: &[T],
    ) -> Result<Buffer, DeviceError> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer = self.storage(label, category, bytes.len() as u64)?;
        self.write(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// Writes `bytes` at `offset` (a multiple of 4) before whatever is submitted next. A last partial word is filled with zeros.
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let whole = bytes.len() & !3;
        if whole > 0 {
            self.0.queue.write_buffer(buffer.wgpu(), offset, &bytes[..whole]);
        }
        if whole < bytes.len() {
            let mut word = [0; 4];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.0.queue.write_buffer(buffer.wgpu(), offset + whole as u64, &word);
        }
    }

    /// Reads bytes back, after everything submitted so far. `range` is in bytes, in whole words.
    ///
    /// # Errors
    /// What the device met since the last check, or [`DeviceError::Readback`].
    pub async fn read(&self, buffer: &Buffer, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.read_ranges(&[(buffer, range)]).await
    }

    /// As [`read`](Self::read), of several buffers at once, one after another: a browser may take 100 ms each time, however few bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_ranges(&self, ranges: &[(&Buffer, Range<u64>)]) -> Result<Vec<u8>, DeviceError> {
        let size = ranges.iter().map(|(_, range)| range.end - range.start).sum();
        let mut readback = Readback::new(self, "readback", size)?;
        let mut encoder = self.encoder();
        for (buffer, range) in ranges {
            readback.copy(&mut encoder, buffer, range.start, range.end - range.start);
        }
        readback.submit(self, encoder);
        readback.wait(self).await?;
        readback.take(<[u8]>::to_vec)
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub async fn idle(&self) -> Result<(), DeviceError> {
        let mut fence = Readback::new(self, "fence", 4)?;
        let mut encoder = self.encoder();
        // Chromium waits for what a mapped buffer is used by, and for nothing else
        fence.touch(&mut encoder);
        fence.submit(self, encoder);
        fence.wait(self).await?;
        fence.take(|_| ())
    }

    /// `groups` workgroups in two dimensions where one does not hold them: at most a few too many, which find that they are
    /// past the end.
    pub(crate) fn fold(&self, groups: u64) -> [u32; 3] {
        let most = u64::from(self.0.limits.max_compute_workgroups_per_dimension);
        let y = groups.div_ceil(most).max(1);
        [groups.div_ceil(y) as u32, y as u32, 1]
    }
}

/// What a buffer of `size` bytes takes: whole words.
fn buffer_size(label: &str, size: u64, limit: u64) -> Result<u64, DeviceError> {
    let size = size.max(4).checked_next_multiple_of(4).unwrap_or(u64::MAX);
    if size > limit { Err(DeviceError::BufferTooLarge { label: label.into(), size, limit }) } else { Ok(size) }
}

/// A buffer on the GPU. Cloning shares it; its bytes leave the ledger with the last clone.
#[derive(Clone, Debug)]
pub struct Buffer(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    /// `None` in a [`Plan`]
    wgpu: Option<wgpu::Buffer>,
    size: u64,
    entry: u64,
    ledger: Arc<Ledger>,
}

impl Drop for Owned {
    /// The memory is free when what was submitted with it is done; a browser would keep it until its next garbage collection.
    fn drop(&mut self) {
        if let Some(buffer) = &self.wgpu {
            buffer.destroy();
        }
        self.ledger.leave(self.entry);
    }
}

impl Buffer {
    /// Bytes, as allocated.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The buffer of wgpu.
    pub(crate) fn wgpu(&self) -> &wgpu::Buffer {
        self.0
            .wgpu
            .as_ref()
            .expect("a plan's buffers stay with it: whatever binds or copies has a device that made them")
    }

    /// Whether two handles are the same memory.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
