//! The best batch size: by workload, within memory, and which sizes are measured for it.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::managers::tune::{Bounds, Key, Point, Tuned, Workload, choose, next};

/// Batch size and milliseconds of a step; 100 bytes for each sequence.
fn points(steps: &[(u32, f64)]) -> Vec<Point> {
    let point = |&(batch, step_ms): &(u32, f64)| {
        let tokens_per_s = f64::from(batch) / step_ms * 1e3;
        Point { batch, step_ms, tokens_per_s, bytes: 100 * u64::from(batch) }
    };
    steps.iter().map(point).collect()
}

const STEPS: [(u32, f64); 6] = [(1, 10.0), (2, 10.5), (4, 12.0), (8, 15.0), (16, 29.0), (32, 60.0)];

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn each_workload_has_its_best() {
    let points = points(&STEPS);
    let batch = |workload, bounds| choose(&points, workload, bounds).map(|choice| choice.batch);
    let all = |bounds| Workload::ALL.map(|workload| batch(workload, bounds));
    // 12.5 ms; 533 of 552 tokens/s; 552 tokens/s
    assert_eq!(all(Bounds::default()), [Some(4), Some(8), Some(16)]);
    let within = |memory| Bounds { memory: Some(memory), target_ms: None };
    assert_eq!(all(within(800)), [Some(4), Some(8), Some(8)]);
    assert_eq!(all(within(100)), [Some(1); 3]);
    assert_eq!(all(within(99)), [None; 3]);
    let realtime = |target_ms| batch(Workload::Realtime, Bounds { memory: None, target_ms: Some(target_ms) });
    assert_eq!([9.0, 10.0, 29.0, 99.0].map(realtime), [1, 1, 16, 32].map(Some));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn choices_say_why() {
    let points = points(&STEPS);
    let reason =
        |workload, target_ms| choose(&points, workload, Bounds { memory: None, target_ms }).expect("a choice").reason;
    assert_eq!(
        reason(Workload::Realtime, None),
        "the largest within 1.25 times a step of 1: 12.5 ms; a step takes 12.0 ms"
    );
    assert_eq!(
        reason(Workload::Realtime, Some(20.0)),
        "the largest within the target of 20.0 ms; a step takes 15.0 ms"
    );
    let none = "the smallest; none is within the target of 5.0 ms; a step takes 10.0 ms";
    assert_eq!(reason(Workload::Realtime, Some(5.0)), none);
    assert_eq!(reason(Workload::Throughput, None), "the smallest within 5 % of the most tokens/s: 97 % of 552");
    assert_eq!(reason(Workload::Batch, None), "the most tokens/s: 552");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn sizes_double_while_it_pays_and_fits() {
    let all = points(&STEPS);
    let measured = |most, memory| {
        let mut sizes = Vec::new();
        while let Some(size) = next(&all[..sizes.len()], most, memory) {
            sizes.push(size);
            assert!(sizes.len() <= all.len());
            if sizes.len() == all.len() {
                break;
            }
        }
        sizes
    };
    assert_eq!(measured(64, None), [1, 2, 4, 8, 16, 32]);
    assert_eq!(measured(16, None), [1, 2, 4, 8, 16]);
    assert_eq!(measured(0, None), [0u32; 0]);
    assert_eq!(measured(64, Some(800)), [1, 2, 4, 8]);
    assert_eq!(next(&all[..3], 6, None), Some(6), "the most, where it is no power of two");
    // one that falls may be noise, or the price of other kernels
    assert_eq!(next(&all, 64, None), Some(64));
    let fallen = points(&[(1, 10.0), (2, 25.0), (4, 45.0)]);
    assert_eq!((next(&fallen[..2], 64, None), next(&fallen, 64, None)), (Some(4), None));
    let recovered = points(&[(1, 10.0), (2, 25.0), (4, 41.0)]);
    assert_eq!(next(&recovered, 64, None), Some(8), "98 tokens/s after 100 are level");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_is_remembered_reads_as_it_was_written() {
    let text = |text: &str| text.to_owned();
    let key = Key {
        model: text("abc"),
        dtype: text("q4"),
        cache_dtype: text("f16"),
        adapter: text("GPU"),
        driver: text("1.2"),
        version: text("0.1.0"),
    };
    let tuned = Tuned { key, points: points(&STEPS) };
    let json = serde_json::to_string(&tuned).unwrap();
    assert_eq!(serde_json::from_str::<Tuned>(&json).unwrap(), tuned);
}
