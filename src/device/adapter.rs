//! Which adapters there are, and which one to take.

use std::fmt;

use super::Tiles;
use crate::error::DeviceError;
use crate::site::FiniteCheck;

/// A graphics interface to prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Vulkan (Linux, Windows, Android).
    Vulkan,
    /// Metal (macOS, iOS).
    Metal,
    /// Direct3D 12 (Windows).
    Dx12,
}

impl Backend {
    fn wgpu(self) -> wgpu::Backends {
        match self {
            Self::Vulkan => wgpu::Backends::VULKAN,
            Self::Metal => wgpu::Backends::METAL,
            Self::Dx12 => wgpu::Backends::DX12,
        }
    }
}

/// Finds what an earlier run has kept of an adapter's compiled kernels.
pub type FindPipelineCache = fn(&AdapterInfo) -> Option<Vec<u8>>;

/// Which adapter to open, and how.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// An index into [`list_adapters`], or part of a name in any case. `None`: the most capable adapter.
    pub adapter: Option<String>,
    /// Only adapters of this interface.
    pub backend: Option<Backend>,
    /// WebGPU's default limits and no optional feature: what the weakest conforming adapter would give. For tests.
    pub portable: bool,
    /// Whether to take the kernels for processors ([`Capabilities::processor`](super::Capabilities::processor)); `None`: where the adapter
    /// is one. For tests of the others where there is no GPU.
    pub processor: Option<bool>,
    /// Refuse buffers beyond this many bytes in all.
    pub memory_limit: Option<u64>,
    /// Refuse them beyond this many, as an adapter that has no more and tells nobody. For tests of what happens then.
    pub adapter_memory: Option<u64>,
    /// Finds what [`Device::pipeline_cache`](super::Device::pipeline_cache) gave in an earlier run on this adapter: kernels that are in it
    /// need not be compiled. It must give nothing else: a driver may trust it.
    pub pipeline_cache: Option<FindPipelineCache>,
    /// How activations are looked at for values that they do not hold.
    pub finite_check: FiniteCheck,
}

/// One adapter, as people need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// `NVIDIA GeForce RTX 4090`, `llvmpipe (LLVM 15.0.6, 256 bits)`; in a browser often less.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12`, `BrowserWebGpu`.
    pub backend: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `CPU`, `other`.
    pub kind: &'static str,
    /// Driver and version, where known; in a browser how that names itself, which has a driver of its own and tells of no other.
    pub driver: String,
    /// Largest storage binding, in bytes.
    pub max_binding: u64,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
    /// `f16`, `subgroups`, `matrices`, `timestamps`, `pipeline cache`: the optional features that it has.
    pub features: Vec<&'static str>,
}

impl AdapterInfo {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let limits = adapter.limits();
        let has = adapter.features();
        let features = [
            (wgpu::Features::SHADER_F16, "f16"),
            (wgpu::Features::SUBGROUP, "subgroups"),
            (MATRICES, "matrices"),
            (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            (wgpu::Features::PIPELINE_CACHE, "pipeline cache"),
        ];
        Self {
            name: if info.name.is_empty() { "WebGPU adapter".into() } else { info.name },
            backend: format!("{:?}", info.backend),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete GPU",
                wgpu::DeviceType::IntegratedGpu => "integrated GPU",
                wgpu::DeviceType::VirtualGpu => "virtual GPU",
                wgpu::DeviceType::Cpu => "CPU",
                wgpu::DeviceType::Other => "other",
            },
            driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            features: features
                .into_iter()
                .filter(|(f, _)| has.contains(*f) && !f.is_empty())
                .map(|(_, name)| name)
                .collect(),
        }
    }

    /// Greater is more capable: kind of device first, then how much one buffer holds.
    fn rank(&self) -> (u8, u64) {
        let kind = match self.kind {
            "discrete GPU" => 4,
            "integrated GPU" => 3,
            "virtual GPU" => 2,
            "other" => 1,
            _ => 0,
        };
        (kind, self.max_buffer)
    }
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.backend, self.kind)
    }
}

fn instance(backend: Option<Backend>) -> (wgpu::Instance, wgpu::Backends) {
    let all = wgpu::Backends::PRIMARY;
    let backends = backend.map_or(all, Backend::wgpu);
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    (wgpu::Instance::new(descriptor), backends)
}

/// Whether kernels may use `dot4I8Packed`.
pub(super) fn has_packed_dot() -> bool {
    let (instance, _) = instance(None);
    instance.wgsl_language_features().contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct)
}

/// The feature that kernels with matrices need.
pub(super) const MATRICES: wgpu::Features = if cfg!(target_arch = "wasm32") {
    wgpu::Features::empty()
} else {
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
};

/// What wgpu wants to be told where `features` has [`MATRICES`].
pub(super) fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if features.contains(MATRICES) && !MATRICES.is_empty() {
        // SAFETY: it is to be known that wgpu may have errors there. Only our kernels use it, which the self-test runs before they are trusted;
        // they are compared with a reference where there is such a driver (docs/kernels.md).
        return unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    wgpu::ExperimentalFeatures::disabled()
}

/// The greatest matrices that our kernels know: as wide as high, f16 times f16, with sums in f32.
pub(super) fn matrices(adapter: &wgpu::Adapter, features: wgpu::Features) -> Option<Tiles> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !features.contains(MATRICES | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP) || MATRICES.is_empty() {
        return None;
    }
    let all = adapter.cooperative_matrix_properties();
    let has = |side| {
        all.iter().any(|of| [of.m_size, of.n_size, of.k_size] == [side; 3] && (of.ab_type, of.cr_type) == (F16, F32))
    };
    [(16, Tiles::Matrices16), (8, Tiles::Matrices8)].into_iter().find(|&(side, _)| has(side)).map(|(_, tiles)| tiles)
}

#[cfg(not(target_arch = "wasm32"))]
async fn adapters(backend: Option<Backend>) -> Vec<wgpu::Adapter> {
    let (instance, backends) = instance(backend);
    instance.enumerate_adapters(backends).await
}

/// A browser has no list: it gives the one adapter that it thinks best.
#[cfg(target_arch = "wasm32")]
async fn adapters(backend: Option<Backend>) -> Vec<wgpu::Adapter> {
    let (instance, _) = instance(backend);
    let options =
        wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    instance.request_adapter(&options).await.into_iter().collect()
}

/// Every adapter, in the order that an index of [`DeviceOptions::adapter`] counts in.
pub async fn list_adapters(backend: Option<Backend>) -> Vec<AdapterInfo> {
    infos(&adapters(backend).await).await
}

/// The adapter that [`Device::open`](super::Device::open) would open, with the limits that it would have.
///
/// # Errors
/// As [`Device::open`](super::Device::open).
pub async fn find_adapter(options: &DeviceOptions) -> Result<AdapterInfo, DeviceError> {
    let (_, mut info) = choose(options).await?;
    if options.portable {
        let limits = wgpu::Limits::default();
        info.max_binding = limits.max_storage_buffer_binding_size;
        info.max_buffer = limits.max_buffer_size;
    }
    Ok(info)
}

async fn infos(adapters: &[wgpu::Adapter]) -> Vec<AdapterInfo> {
    let mut all = Vec::new();
    for adapter in adapters {
        all.push(info(adapter).await);
    }
    all
}

/// What is known of an adapter.
#[cfg(not(target_arch = "wasm32"))]
async fn info(adapter: &wgpu::Adapter) -> AdapterInfo {
    AdapterInfo::of(adapter)
}

/// What is known of an adapter. Browsers mostly leave its description empty, and wgpu asks for nothing else: vendor and
/// architecture (`nvidia ampere`, `apple metal-3`) stand in for it. Nor does wgpu see subgroups there.
#[cfg(target_arch = "wasm32")]
async fn info(adapter: &wgpu::Adapter) -> AdapterInfo {
    let mut info = AdapterInfo::of(adapter);
    if let Some((name, subgroups)) = web_facts().await {
        info.name = name.filter(|_| adapter.get_info().name.is_empty()).unwrap_or(info.name);
        if subgroups {
            info.features.push("subgroups");
        }
    }
    info.driver = web_browser().unwrap_or_default();
    info
}

#[cfg(target_arch = "wasm32")]
fn web_get(of: &wasm_bindgen::JsValue, name: &str) -> Option<wasm_bindgen::JsValue> {
    js_sys::Reflect::get(of, &name.into()).ok()
}

/// How the browser names itself, with its version.
#[cfg(target_arch = "wasm32")]
fn web_browser() -> Option<String> {
    web_get(&web_get(&js_sys::global(), "navigator")?, "userAgent")?.as_string()
}

/// A name for the adapter, and whether it has subgroups.
#[cfg(target_arch = "wasm32")]
async fn web_facts() -> Option<(Option<String>, bool)> {
    use js_sys::{Function, Object, Promise, Reflect};
    use wasm_bindgen::JsCast;
    let gpu = web_get(&web_get(&js_sys::global(), "navigator")?, "gpu")?;
    let request: Function = web_get(&gpu, "requestAdapter")?.dyn_into().ok()?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let adapter: Promise = request.call1(&gpu, &options).ok()?.dyn_into().ok()?;
    let adapter = wasm_bindgen_futures::JsFuture::from(adapter).await.ok()?;
    let info = web_get(&adapter, "info")?;
    let words = ["vendor", "architecture", "device"].map(|name| web_get(&info, name).and_then(|word| word.as_string()));
    let words: Vec<_> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    Some(((!words.is_empty()).then(|| words.join(" ")), super::subgroups::has(&adapter)))
}

/// The device of an adapter, in a browser with subgroups where it has them and nobody wants a `portable` one.
pub(super) async fn request_device(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
    portable: bool,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    #[cfg(target_arch = "wasm32")]
    if !portable {
        return super::subgroups::asking(|| adapter.request_device(descriptor)).await;
    }
    let _ = portable;
    adapter.request_device(descriptor).await
}

/// Whether a device was opened with subgroups.
pub(super) fn has_subgroups(device: &wgpu::Device) -> bool {
    #[cfg(target_arch = "wasm32")]
    return device.as_webgpu().is_some_and(|device| super::subgroups::has(device));
    #[cfg(not(target_arch = "wasm32"))]
    device.features().contains(wgpu::Features::SUBGROUP)
}

pub(super) async fn choose(options: &DeviceOptions) -> Result<(wgpu::Adapter, AdapterInfo), DeviceError> {
    let mut all = adapters(options.backend).await;
    let mut infos = infos(&all).await;
    if infos.is_empty() {
        return Err(DeviceError::NoAdapter { backend: options.backend });
    }
    let chosen = match &options.adapter {
        None => (0..infos.len()).max_by_key(|&i| (infos[i].rank(), usize::MAX - i)),
        Some(wanted) => match wanted.parse::<usize>() {
            Ok(index) => (index < infos.len()).then_some(index),
            Err(_) => infos.iter().position(|i| i.name.to_lowercase().contains(&wanted.to_lowercase())),
        },
    };
    match chosen {
        Some(index) => Ok((all.swap_remove(index), infos.swap_remove(index))),
        None => Err(DeviceError::AdapterNotFound {
            wanted: options.adapter.clone().unwrap_or_default(),
            available: infos.iter().enumerate().map(|(i, a)| format!("{i}: {a}")).collect(),
        }),
    }
}
