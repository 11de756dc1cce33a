//! Every kernel in every variant, translated to what Vulkan, Metal and Direct3D 12 take, and held to the limits that every
//! adapter has. Metal and Direct3D need not be here for that.
#![cfg(not(target_arch = "wasm32"))]
#![allow(missing_docs)]

use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants, spv};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use webweft::shaders::{self, Binding, Kernel};

fn kernels() -> impl Iterator<Item = &'static Kernel> {
    shaders::ALL.iter().flat_map(|family| family.kernels)
}

/// The greatest values of overrides that size anything: heads of 256.
fn largest(kernel: &Kernel) -> PipelineConstants {
    let mut constants = PipelineConstants::default();
    if kernel.wgsl.contains("override HEAD4") {
        constants.insert("HEAD4".into(), 64.0);
    }
    constants
}

/// Parsed, with overrides resolved, and validated.
fn module(kernel: &Kernel, constants: &PipelineConstants) -> (Module, ModuleInfo) {
    let label = kernel.label;
    let module = naga::front::wgsl::parse_str(kernel.wgsl).unwrap_or_else(|e| panic!("{label}: {e}"));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{label}: {e:?}"));
    let entry = Some((ShaderStage::Compute, "main"));
    let (module, info) = pipeline_constants::process_overrides(&module, &info, entry, constants)
        .unwrap_or_else(|e| panic!("{label}: {e:?}"));
    (module.into_owned(), info.into_owned())
}

#[test]
fn every_kernel_is_there() {
    assert!(kernels().count() >= 60, "{} kernels", kernels().count());
    for kernel in kernels() {
        assert!(kernel.wgsl.contains("fn main"), "{}", kernel.label);
    }
}

#[test]
fn translates_to_spir_v() {
    for kernel in kernels() {
        let (module, info) = module(kernel, &PipelineConstants::default());
        let options = spv::Options { lang_version: (1, 5), fake_missing_bindings: true, ..Default::default() };
        let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
        let words =
            spv::write_vec(&module, &info, &options, Some(&entry)).unwrap_or_else(|e| panic!("{}: {e}", kernel.label));
        assert_eq!(words[0], 0x0723_0203, "{}: SPIR-V's magic number", kernel.label);
    }
}

#[test]
fn translates_to_metal() {
    for kernel in kernels() {
        let (module, info) = module(kernel, &PipelineConstants::default());
        let options = msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..Default::default() };
        let (text, translated) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{}: {e}", kernel.label));
        for name in &translated.entry_point_names {
            let name = name.as_ref().unwrap_or_else(|e| panic!("{}: {e}", kernel.label));
            assert!(text.contains(&format!("kernel void {name}")), "{}", kernel.label);
        }
    }
}

#[test]
fn translates_to_direct3d() {
    // naga has no matrices for HLSL, and wgpu does not offer them there
    for kernel in kernels().filter(|kernel| !kernel.label.starts_with("matmul_matrices")) {
        let (module, info) = module(kernel, &PipelineConstants::default());
        let options =
            hlsl::Options { shader_model: hlsl::ShaderModel::V6_6, fake_missing_bindings: true, ..Default::default() };
        let mut text = String::new();
        let entry = hlsl::PipelineOptions::default();
        let translated = hlsl::Writer::new(&mut text, &options, &entry)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{}: {e}", kernel.label));
        for name in &translated.entry_point_names {
            let name = name.as_ref().unwrap_or_else(|e| panic!("{}: {e}", kernel.label));
            assert!(text.contains(&format!("void {name}(")), "{}", kernel.label);
        }
    }
}

#[test]
fn keeps_to_the_limits_of_every_adapter() {
    for kernel in kernels() {
        let storage = kernel.bindings.iter().filter(|b| **b != Binding::Uniform).count();
        assert!(storage <= 8, "{}: {storage} storage buffers", kernel.label);

        let (module, _) = module(kernel, &largest(kernel));
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).unwrap_or_else(|e| panic!("{}: {e}", kernel.label));
        let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, v)| layouter[v.ty].size.next_multiple_of(16)).sum();
        assert!(bytes <= 16 << 10, "{}: {bytes} bytes of workgroup memory", kernel.label);

        let [entry] = module.entry_points.as_slice() else { panic!("{}: one entry point", kernel.label) };
        let invocations: u32 = entry.workgroup_size.iter().product();
        assert!(invocations <= 256, "{}: {invocations} invocations", kernel.label);
    }
}
