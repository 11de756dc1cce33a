//! What every test root shares: devices, numbers, comparisons, files.
#![allow(dead_code)] // no root uses all of it

pub mod gguf;

use webweft::device::{Device, DeviceOptions};

/// The device that tests share, as it comes: for tests that provoke no device errors.
pub async fn device() -> Device {
    shared_device(0).await
}

/// The device that the weakest conforming adapter would give: default limits, no subgroups.
pub async fn portable_device() -> Device {
    shared_device(1).await
}

/// The device with the kernels that GPUs take, also where it is a processor.
pub async fn gpu_device() -> Device {
    shared_device(2).await
}

async fn open(kind: usize) -> Device {
    let options =
        DeviceOptions { portable: kind == 1, processor: (kind == 2).then_some(false), ..DeviceOptions::default() };
    Device::open(&options).await.expect("tests need a Vulkan, Metal, DX12 or WebGPU adapter")
}

#[cfg(not(target_arch = "wasm32"))]
async fn shared_device(kind: usize) -> Device {
    use std::sync::OnceLock;
    static DEVICES: [OnceLock<Device>; 3] = [const { OnceLock::new() }; 3];
    DEVICES[kind].get_or_init(|| pollster::block_on(open(kind))).clone()
}

#[cfg(target_arch = "wasm32")]
async fn shared_device(kind: usize) -> Device {
    use std::cell::OnceCell;
    thread_local! { static DEVICES: [OnceCell<Device>; 3] = const { [const { OnceCell::new() }; 3] }; }
    if let Some(device) = DEVICES.with(|d| d[kind].get().cloned()) {
        return device;
    }
    let device = open(kind).await;
    DEVICES.with(|d| d[kind].get_or_init(|| device).clone())
}

/// `n` numbers in -1 .. 1, the same for the same seed everywhere.
pub fn random(n: usize, seed: u32) -> Vec<f32> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = move || {
        // SplitMix64 (Steele, Lea & Flood 2014)
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..n).map(|_| (next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// Fails where `|got - want| > abs + rel * |want|` somewhere, and names the worst place.
pub fn assert_close(name: &str, got: &[f32], want: &[f64], abs: f64, rel: f64) {
    assert_eq!(got.len(), want.len(), "{name}: number of elements");
    let excess = |(&g, &w): (&f32, &f64)| {
        let by = (f64::from(g) - w).abs() - (abs + rel * w.abs());
        if by.is_nan() { f64::INFINITY } else { by }
    };
    let (mut at, mut worst, mut wrong) = (0, 0.0, 0);
    for (i, pair) in got.iter().zip(want).enumerate() {
        let by = excess(pair);
        wrong += usize::from(by > 0.0);
        if by > worst {
            (at, worst) = (i, by);
        }
    }
    assert!(
        wrong == 0,
        "{name}: {wrong} of {} elements differ; worst at [{at}]: got {}, want {} (abs {abs:e}, rel {rel:e})",
        got.len(),
        got[at],
        want[at]
    );
}

/// Says that a test did not run, and why: such lines are counted.
pub fn skipped(why: &str) {
    report(&format!("SKIPPED: {why}"));
}

/// A figure that a test measured, for the log of every target.
pub fn report(line: &str) {
    #[cfg(not(target_arch = "wasm32"))]
    println!("{line}");
    #[cfg(target_arch = "wasm32")]
    wasm_bindgen_test::console_log!("{line}");
}

/// Of cases that differ little: all of them natively, and the first `n` in browsers, where software adapters take a tenth of a
/// second for a token and seconds for a kernel.
pub fn sample_of<T>(n: usize, cases: &[T]) -> &[T] {
    if cfg!(target_arch = "wasm32") { &cases[..n.min(cases.len())] } else { cases }
}

/// Whether tests of minutes run whole (`./test --long`); never in browsers, which have no environment.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("WEBWEFT_LONG").is_some_and(|value| value == "1")
}

/// How many: fewer in browsers, for the same reason.
pub const fn here(natively: usize, in_browsers: usize) -> usize {
    if cfg!(target_arch = "wasm32") { in_browsers } else { natively }
}

/// Whether a file is in `tests`.
fn is_own(path: &str) -> bool {
    ["references/", "quantized/", "gguf/"].iter().any(|folder| path.starts_with(folder))
}

/// A file of the shared test material, `fixtures/...` or `models/...`, or of this project's own, `references/...`,
/// `quantized/...` and `gguf/...`; `None` where it is absent.
#[cfg(not(target_arch = "wasm32"))]
#[allow(clippy::unused_async)] // in a browser it waits
pub async fn read_shared(path: &str) -> Option<Vec<u8>> {
    let own = |folder: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let shared = || std::env::var_os("WEBWEFT_SHARED").map_or_else(|| own("../shared"), Into::into);
    let root = if is_own(path) { own("tests") } else { shared() };
    // what `./test` fetched lies where it copies the material for browsers
    let fetched = own("target/fixtures");
    for path in [root.join(path), fetched.join(path)] {
        match std::fs::read(&path) {
            Ok(bytes) => return Some(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => panic!("{}: {e}", path.display()),
        }
    }
    None
}

/// As natively; `./test` copied the material to where the test runner serves it.
#[cfg(target_arch = "wasm32")]
pub async fn read_shared(path: &str) -> Option<Vec<u8>> {
    use js_sys::{Reflect, Uint8Array, global};
    use wasm_bindgen::JsCast;
    use wasm_bindgen_futures::JsFuture;

    // relative addresses do not resolve in a worker that was made from a blob
    let get = |of: &wasm_bindgen::JsValue, name: &str| Reflect::get(of, &name.into()).expect("a property of the scope");
    let origin = get(&get(&global(), "location"), "origin").as_string().expect("an origin");
    let url = match is_own(path) {
        true => format!("{origin}/tests/{path}"),
        false => format!("{origin}/target/fixtures/{}", path.strip_prefix("fixtures/").unwrap_or(path)),
    };
    let scope: web_sys::WorkerGlobalScope = global().unchecked_into();
    let response = JsFuture::from(scope.fetch_with_str(&url)).await.expect("the test server answers");
    let response: web_sys::Response = response.unchecked_into();
    if response.status() == 404 {
        return None;
    }
    assert!(response.ok(), "{url}: {}", response.status());
    let buffer = JsFuture::from(response.array_buffer().expect("a body")).await.expect("a body");
    Some(Uint8Array::new(&buffer).to_vec())
}
