//! Compiled kernels, kept by kernel and constants.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{Device, lock};
use crate::error::DeviceError;
use crate::shaders::{Binding, Kernel};

/// Values of a kernel's `override`s.
pub type Constants<'a> = &'a [(&'static str, f64)];

/// A compiled kernel and the layout of its bindings.
#[derive(Debug)]
pub struct Pipeline {
    /// The kernel it was made from.
    pub kernel: &'static Kernel,
    pub(crate) wgpu: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// A kernel's address stands for it: kernels are statics.
type Key = (usize, Vec<(&'static str, u64)>);

#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<Key, Arc<Pipeline>>>);

impl Pipelines {
    /// The pipelines of these kernels with these constants; what is missing is compiled, side by side where there are threads.
    pub fn get(
        &self,
        device: &Device,
        wanted: &[(&'static Kernel, Constants<'_>)],
    ) -> Result<Vec<Arc<Pipeline>>, DeviceError> {
        let key = |&(kernel, constants): &(&'static Kernel, Constants<'_>)| -> Key {
            (std::ptr::from_ref(kernel) as usize, constants.iter().map(|&(n, v)| (n, v.to_bits())).collect())
        };
        let keys: Vec<Key> = wanted.iter().map(key).collect();
        let mut missing: HashMap<&Key, (&'static Kernel, Constants<'_>)> = HashMap::new();
        {
            let made = lock(&self.0);
            missing
                .extend(keys.iter().zip(wanted).filter(|(key, _)| !made.contains_key(*key)).map(|(key, w)| (key, *w)));
        }
        if !missing.is_empty() {
            let (missing, kernels): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
            let pipelines = compile_all(device, &kernels);
            device.check()?;
            lock(&self.0).extend(missing.into_iter().cloned().zip(pipelines.into_iter().map(Arc::new)));
        }
        let made = lock(&self.0);
        Ok(keys.iter().map(|key| Arc::clone(&made[key])).collect())
    }

    /// Pipelines so far.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// In the order of `kernels`. A driver takes seconds for some of them.
#[cfg(not(target_arch = "wasm32"))]
fn compile_all(device: &Device, kernels: &[(&'static Kernel, Constants<'_>)]) -> Vec<Pipeline> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < kernels.len()));
        numbers.map(|i| (i, compile(device, kernels[i].0, kernels[i].1))).collect::<Vec<_>>()
    };
    let mut made = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            // what panicked there panics here
            made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|&(i, _)| i);
    made.into_iter().map(|(_, pipeline)| pipeline).collect()
}

/// A browser compiles them by itself, and the first one that runs waits.
#[cfg(target_arch = "wasm32")]
fn compile_all(device: &Device, kernels: &[(&'static Kernel, Constants<'_>)]) -> Vec<Pipeline> {
    kernels.iter().map(|&(kernel, constants)| compile(device, kernel, constants)).collect()
}

#[cfg(not(target_arch = "wasm32"))]
fn source(kernel: &'static Kernel) -> Cow<'static, str> {
    kernel.wgsl.into()
}

/// A browser wants to be told what is made use of.
#[cfg(target_arch = "wasm32")]
fn source(kernel: &'static Kernel) -> Cow<'static, str> {
    if kernel.features.contains(&"sg_on") {
        return [super::subgroups::DIRECTIVE, kernel.wgsl].concat().into();
    }
    kernel.wgsl.into()
}

fn compile(device: &Device, kernel: &'static Kernel, constants: Constants<'_>) -> Pipeline {
    let wgpu = device.wgpu();
    let entries: Vec<_> = (0u32..)
        .zip(kernel.bindings)
        .map(|(binding, kind)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match kind {
                    Binding::Uniform => wgpu::BufferBindingType::Uniform,
                    Binding::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Binding::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let label = Some(kernel.label);
    let layout = wgpu.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let pipeline_layout = wgpu.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let source = wgpu::ShaderSource::Wgsl(source(kernel));
    // SAFETY: the kernels are ours, compiled into this crate and run by the tests at the edges of their shapes; they guard
    // every index themselves, and their loops end. Bounds checks would be paid on each access.
    let module = unsafe {
        wgpu.create_shader_module_trusted(
            wgpu::ShaderModuleDescriptor { label, source },
            wgpu::ShaderRuntimeChecks::unchecked(),
        )
    };
    let made = wgpu.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants,
            // Nothing reads workgroup memory that it has not written.
            zero_initialize_workgroup_memory: false,
        },
        cache: device.0.pipeline_cache.as_ref(),
    });
    Pipeline { kernel, wgpu: made, layout }
}

impl Device {
    /// The compiled kernels with these pipeline constants, from the cache or made now.
    ///
    /// # Errors
    /// [`DeviceError::Validation`] when the driver refuses a kernel.
    pub fn pipelines(&self, kernels: &[(&'static Kernel, Constants<'_>)]) -> Result<Vec<Arc<Pipeline>>, DeviceError> {
        self.0.pipelines.get(self, kernels)
    }

    /// As [`pipelines`](Self::pipelines), of one kernel.
    ///
    /// # Errors
    /// As [`pipelines`](Self::pipelines).
    pub fn pipeline(&self, kernel: &'static Kernel, constants: Constants<'_>) -> Result<Arc<Pipeline>, DeviceError> {
        Ok(self.pipelines(&[(kernel, constants)])?.remove(0))
    }

    /// Pipelines that were made so far.
    #[must_use]
    pub fn pipelines_made(&self) -> usize {
        self.0.pipelines.len()
    }

    /// What the driver wants to be given as [`DeviceOptions::pipeline_cache`](super::DeviceOptions::pipeline_cache) next time, where it has such a thing.
    #[must_use]
    pub fn pipeline_cache(&self) -> Option<Vec<u8>> {
        self.0.pipeline_cache.as_ref()?.get_data()
    }
}
