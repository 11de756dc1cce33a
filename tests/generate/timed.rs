//! Steps whose kernels are timed: nothing is missing, nothing is made up, and nothing else changes.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::Device;
use webweft::error::{DeviceError, Error};
use webweft::graph::{Timed, TimedDispatch};
use webweft::managers::{KernelProfile, chrome_trace};
use webweft::session::{LoadOptions, Session};

use super::{F32, model, options};
use crate::common::{device, portable_device, skipped};
use crate::models::{generate, open};

const PROMPT: u64 = 20;

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| (37 * i + 11) % 300).collect()
}

/// What [`model`]'s steps consist of: 8 dispatches a layer where they decode, or 6 where products normalize what they read; of many rows the
/// activation is one, too.
fn kernels(device: &Device, rows: u64, end: &[&str]) -> Vec<String> {
    let layer: &[_] = match rows {
        1 if device.kernels().norm_in_products > 0 => {
            &["matmul", "rope_append", "attention", "matmul", "matmul", "matmul"]
        }
        1 => &["norm", "matmul", "rope_append", "attention", "matmul", "norm", "matmul", "matmul"],
        _ => &["norm", "matmul", "rope_append", "attention", "matmul", "norm", "matmul", "activation", "matmul"],
    };
    let all = [&["embed"], layer, layer, &["norm", "matmul"], end].concat();
    all.into_iter().map(str::to_owned).collect()
}

/// The shaders of a step, without variants.
fn names(step: &Timed) -> Vec<String> {
    let name = |d: &TimedDispatch| d.kernel.split(['[', '_']).next().unwrap().to_owned();
    step.dispatches.iter().map(name).map(|name| if name == "rope" { "rope_append".to_owned() } else { name }).collect()
}

async fn has_timestamps() -> bool {
    let has = device().await.capabilities().timestamps;
    if !has {
        skipped("the adapter has no timestamps");
    }
    has
}

/// Three tokens after the prompt, every kernel timed.
async fn timed(session: &mut Session) -> (Vec<u32>, Vec<Timed>) {
    session.engine_mut().reset();
    session.engine_mut().time_kernels(true).unwrap();
    let ids = generate(session, &prompt(), options(3)).await;
    let steps = session.engine_mut().take_timed();
    session.engine_mut().time_kernels(false).unwrap();
    (ids, steps)
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_dispatch_is_timed_and_stated() {
    if !has_timestamps().await {
        return;
    }
    let device = device().await;
    let mut session = open(&model().source(), &F32).await;
    let want = generate(&mut session, &prompt(), options(3)).await;
    let (ids, steps) = timed(&mut session).await;
    assert_eq!(ids, want, "how it is timed changes nothing");
    assert_eq!(steps.iter().map(|s| (s.rows, s.sequences)).collect::<Vec<_>>(), [(20, 1), (1, 1), (1, 1)]);
    for step in &steps {
        assert_eq!(names(step), kernels(&device, step.rows.into(), &["sample"]));
        // a browser rounds to 100 us
        let is_coarse = cfg!(target_arch = "wasm32");
        assert!(step.dispatches.iter().all(|d| d.end_ns > d.begin_ns || is_coarse && d.end_ns == d.begin_ns));
        assert!(step.dispatches.is_sorted_by(|a, b| a.end_ns <= b.begin_ns), "{step:?}");
        let slack = if is_coarse { 200.0 } else { 0.0 };
        assert!(step.kernels_us() <= step.wall_us + slack && step.encode_us > 0.0, "{step:?}");
    }

    // in, out: q, k, v of 4 + 2 + 2 heads of 12; o; gate and up; down
    let layer = [[48, 96], [48, 48], [48, 160], [80, 48]];
    for (step, (rows, keys)) in steps.iter().zip([(PROMPT, (1..=PROMPT).sum()), (1, PROMPT + 1), (1, PROMPT + 2)]) {
        let of = |name: &str| -> Vec<(Option<[u32; 2]>, u64)> {
            let of_name = step.dispatches.iter().filter(|d| d.kernel.starts_with(name));
            of_name.map(|d| (d.shape, d.amount.unwrap().operations)).collect()
        };
        let product = |rows: u64, [from, to]: [u32; 2]| (Some([from, to]), 2 * rows * u64::from(from) * u64::from(to));
        let mut products: Vec<_> = [layer, layer].concat().into_iter().map(|shape| product(rows, shape)).collect();
        products.push(product(1, [48, 300])); // only the last row has logits
        assert_eq!(of("matmul"), products);
        // a product with each key and one with each value, of 4 heads of 12
        assert_eq!(of("attention"), [(Some([48, 48]), 2 * 2 * 48 * keys); 2]);
        let head = step.dispatches.iter().rfind(|d| d.kernel.starts_with("matmul")).unwrap();
        assert_eq!(head.amount.unwrap().bytes, 4 * (300 * 48 + 48 + 300));
        assert!(step.dispatches.iter().all(|d| d.amount.is_some_and(|amount| amount.bytes > 0)), "{step:?}");
    }

    let profile = KernelProfile::of(&steps.iter().collect::<Vec<_>>(), None).unwrap();
    let dispatches = [PROMPT, 1, 1].map(|rows| kernels(&device, rows, &["sample"]).len());
    assert_eq!((profile.dispatches, profile.steps), (dispatches.iter().sum(), 3));
    assert_eq!(profile.kernels.iter().map(|k| k.dispatches).sum::<usize>(), profile.dispatches);
    let trace = chrome_trace(&steps);
    assert_eq!(trace.as_array().unwrap().len(), profile.dispatches + 3, "each dispatch, and each step");

    generate(&mut session, &prompt(), options(3)).await;
    assert!(session.engine_mut().take_timed().is_empty(), "it ends when it is told to");
}

/// Copies stand between passes, and layers come between parts of a program.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn copies_and_layers_that_come_and_go_are_as_ever() {
    if !has_timestamps().await {
        return;
    }
    let device = device().await;
    let mut session = open(&model().source(), &F32).await;
    let want = session.engine_mut().forward_with_hidden_states(&prompt()).await.unwrap();
    session.engine_mut().time_kernels(true).unwrap();
    let got = session.engine_mut().forward_with_hidden_states(&prompt()).await.unwrap();
    assert_eq!(got, want);
    let steps = session.engine_mut().take_timed();
    assert_eq!(steps.iter().map(names).collect::<Vec<_>>(), [kernels(&device, PROMPT, &[])]);

    let (ids, _) = timed(&mut session).await;
    let mut offloaded = open(&model().source(), &LoadOptions { gpu_layers: Some(0), ..F32 }).await;
    assert!(offloaded.engine().offloaded().is_some());
    let (same, steps) = timed(&mut offloaded).await;
    assert_eq!(same, ids);
    assert_eq!(
        steps.iter().map(names).collect::<Vec<_>>(),
        [PROMPT, 1, 1].map(|rows| kernels(&device, rows, &["sample"]))
    );
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn without_timestamps_it_says_so() {
    let mut session = Session::open(&portable_device().await, &model().source(), &F32, |_| ()).await.unwrap();
    let refused = session.engine_mut().time_kernels(true);
    assert!(matches!(refused, Err(Error::Device(DeviceError::NoTimestamps { .. }))), "{refused:?}");
    assert_eq!(generate(&mut session, &prompt(), options(2)).await.len(), 2, "and goes on");
    assert!(session.engine_mut().take_timed().is_empty());
}
