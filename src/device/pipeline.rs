//! Compiled kernels, kept by kernel and constants.

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
    pub fn get(
        &self,
        device: &Device,
        kernel: &'static Kernel,
        constants: Constants<'_>,
    ) -> Result<Arc<Pipeline>, DeviceError> {
        let key = (std::ptr::from_ref(kernel) as usize, constants.iter().map(|&(n, v)| (n, v.to_bits())).collect());
        let mut made = lock(&self.0);
        if let Some(pipeline) = made.get(&key) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(compile(device, kernel, constants)?);
        made.insert(key, Arc::clone(&pipeline));
        Ok(pipeline)
    }
}

fn compile(device: &Device, kernel: &'static Kernel, constants: Constants<'_>) -> Result<Pipeline, DeviceError> {
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
    let source = wgpu::ShaderSource::Wgsl(kernel.wgsl.into());
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
        cache: None,
    });
    device.check()?;
    Ok(Pipeline { kernel, wgpu: made, layout })
}
