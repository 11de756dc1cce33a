//! In steady decode the engine allocates nothing of its own: only wgpu's calls do, and no more of it as the cache grows.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used)] // a test may panic

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use webweft::device::{Device, DeviceOptions};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};

mod common;
#[allow(dead_code)]
#[path = "models/reference_llama.rs"]
mod reference_llama;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALL: AtomicU64 = AtomicU64::new(0);
/// Allocations that no call of wgpu made, by the function of ours that did; "undecided" where the stack does not tell.
static OURS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// This thread is the one that decodes, and is not inside the bookkeeping below.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) && WATCHED.get() {
            WATCHED.set(false);
            note();
            WATCHED.set(true);
        }
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts an allocation, and looks up the stack for whose it is: wgpu's if one of its frames comes before one of ours.
fn note() {
    ALL.fetch_add(1, Ordering::Relaxed);
    let mut ours = None;
    let mut decided = false;
    backtrace::trace(|frame| {
        backtrace::resolve_frame(frame, |symbol| {
            let name = symbol.name().map(|n| n.to_string()).unwrap_or_default();
            if decided || name.contains("Counting") || name.starts_with("allocations::note") {
                return;
            }
            if ["wgpu", "naga", "ash::", "gpu_"].iter().any(|w| name.trim_start_matches('<').starts_with(w)) {
                decided = true;
            } else if name.contains("webweft::") {
                decided = true;
                ours = Some(name);
            }
        });
        !decided
    });
    if let Some(name) = ours.or((!decided).then(|| "undecided".to_owned())) {
        *OURS.lock().unwrap().entry(name).or_default() += 1;
    }
}

#[pollster::test]
async fn steady_decode_allocates_nothing_of_ours() {
    let shape = reference_llama::Shape {
        hidden: 64,
        ff: 96,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 200,
        tied: true,
        attention_bias: false,
        mlp_bias: false,
    };
    let model = reference_llama::Synthetic::new(&shape, webweft::checkpoint::Dtype::F32, 5);
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
    let mut session = Session::open(&device, &model.source(), &options, |_| ()).await.unwrap();
    let request = GenerateOptions { max_new_tokens: 1000, ..GenerateOptions::default() };
    let mut generation = session.generate(&[1, 2, 3], request).await.unwrap();
    let mut per_window = Vec::new();
    // windows inside one bucket of the live cache each: 256..512 and 512..1024
    for (from, to) in [(300, 400), (700, 800)] {
        while generation.timing().decode_tokens < from {
            generation.next().await.unwrap().unwrap();
        }
        WATCHED.set(true);
        ALL.store(0, Ordering::Relaxed);
        let submits = device.submits();
        COUNTING.store(true, Ordering::Relaxed);
        for _ in from..to {
            generation.next().await.unwrap().unwrap();
        }
        COUNTING.store(false, Ordering::Relaxed);
        WATCHED.set(false);
        assert!(device.submits() - submits <= (to - from) as u64, "more than one command buffer per token");
        per_window.push(ALL.load(Ordering::Relaxed) / (to - from) as u64);
    }
    println!("allocations per token, wgpu's included: {per_window:?}");
    // what is known of a block of the cache, with every 32nd token
    let ours = OURS.lock().unwrap();
    let (of_blocks, others): (BTreeMap<_, _>, BTreeMap<_, _>) = ours
        .iter()
        .map(|(name, count)| (name.clone(), *count))
        .partition(|(name, _)| name.contains("managers::blocks"));
    assert_eq!(others, BTreeMap::new(), "allocations of ours in 200 tokens");
    assert!(of_blocks.values().sum::<u64>() <= 8 * 200 / 32 + 8, "{of_blocks:?}");
    assert!(per_window[0] > 0, "nothing was counted: the test is blind");
    // wgpu allocates for each submit, too, and how many steps one has follows the machine's load
    assert!(per_window[1] <= per_window[0] * 3 / 2, "allocations grow with the cache: {per_window:?}");
}
