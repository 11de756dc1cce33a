//! What the ledger tells of buffers over time, by label, and of those that outlive their owner.

use serde_json::json;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions, Sample, Timeline};

async fn own_device() -> Device {
    Device::open(&DeviceOptions::default()).await.unwrap()
}

/// However long it goes on, a timeline stays short, in order, and has the first and the last sample and every peak of its time.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_timeline_is_short_and_keeps_its_peaks() {
    let mut timeline = Timeline::default();
    let of = |i: u64| {
        // up and down, and a peak that lasts for one sample
        let bytes = if i == 77_777 { 1_000_000 } else { i % 100 };
        Sample { ms: i as f64 * 0.3, bytes: [bytes, i, 0, 0] }
    };
    let mut most = 0;
    for i in 0..100_000 {
        timeline.record(of(i));
        if i.is_multiple_of(997) {
            most = most.max(timeline.samples().len());
        }
    }
    let samples = timeline.samples();
    assert!(most.max(samples.len()) <= Timeline::MOST, "{most}");
    assert!(samples.len() > Timeline::MOST / 4, "{}: not thinner than it has to be", samples.len());
    assert!(samples.windows(2).all(|pair| pair[0].ms < pair[1].ms));
    assert!(samples.contains(&of(77_777)), "the peak");
    assert_eq!(samples.last(), Some(&of(99_999)));
    assert!(samples[0].ms < 200.0, "{:?}", samples[0]);
    // after a long silence, the time before it is still there
    timeline.record(Sample { ms: 1e9, bytes: [1, 0, 0, 0] });
    let samples = timeline.samples();
    assert!(samples.contains(&of(77_777)) && samples.last().unwrap().ms == 1e9);
}

/// Two at once on one device: each buffer is told with the one that it belongs to, and what is left of the one that is gone is a leak.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_outlives_its_owner_is_a_leak() {
    let device = own_device().await;
    let nobodys = device.storage("nobody's", Category::Staging, 4).unwrap();
    let (of_a, a) = device.owned_by("a");
    let (of_b, b) = device.owned_by("b");
    let one = of_a.storage("one", Category::Weights, 100).unwrap();
    let two = of_b.storage("two", Category::Cache, 200).unwrap();
    let three = of_a.clone().storage("three", Category::Cache, 300).unwrap();
    let owners =
        |device: &Device| device.ledger().entries().into_iter().map(|e| (e.label, e.owner)).collect::<Vec<_>>();
    let owned = |label: &str, owner: &str| (label.to_owned(), Some(owner.to_owned()));
    assert_eq!(owners(&device)[1..], [owned("one", "a"), owned("two", "b"), owned("three", "a")]);
    assert!(device.ledger().leaks().is_empty());

    drop(one);
    drop(a);
    let leaks = device.ledger().leaks();
    let told = leaks.iter().map(|leak| (leak.label.as_str(), leak.size, leak.owner.as_deref()));
    assert_eq!(told.collect::<Vec<_>>(), [("three", 300, Some("a"))]);
    assert_eq!(device.ledger().report().leaks, leaks);
    // in the name of one that is gone
    let late = of_a.storage("late", Category::Activations, 4).unwrap();
    assert_eq!(device.ledger().leaks().len(), 2);
    drop((three, late));
    assert!(device.ledger().leaks().is_empty());
    drop((two, b, nobodys));
    assert_eq!((device.ledger().leaks().len(), device.ledger().snapshot().total), (0, 0));
}

/// The report adds up, and its JSON has these names: pages and scripts read them.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_report_adds_up() {
    let device = own_device().await;
    let layers: Vec<_> =
        (0..12).map(|i| device.storage(&format!("layers.{i}.up"), Category::Weights, 100).unwrap()).collect();
    let large = device.storage("large", Category::Staging, 5000).unwrap();
    let mut report = device.ledger().report();
    assert_eq!((report.total, report.peak), (6200, 6200));
    let last = *report.timeline.last().unwrap();
    assert_eq!((last.total(), last.bytes), (6200, report.categories));
    assert!(last.ms <= report.ms);

    drop(large);
    let now = device.ledger().report();
    assert_eq!((now.total, now.peak, now.peak_categories[Category::Staging as usize]), (1200, 6200, 5000));
    assert!(now.timeline.iter().any(|sample| sample.total() == 6200), "{:?}", now.timeline);
    assert_eq!(now.timeline.last().unwrap().total(), 1200);

    (report.ms, report.timeline) = (3.5, vec![Sample { ms: 1.5, bytes: [1, 2, 3, 4] }]);
    let want = json!({
        "total": 6200,
        "peak": 6200,
        "categories": { "weights": 1200, "cache": 0, "activations": 0, "staging": 5000 },
        "peak_categories": { "weights": 1200, "cache": 0, "activations": 0, "staging": 5000 },
        "labels": [
            { "label": "large", "category": "staging", "buffers": 1, "bytes": 5000 },
            { "label": "layers.*.up", "category": "weights", "buffers": 12, "bytes": 1200 },
        ],
        "ms": 3.5,
        "timeline": [{ "ms": 1.5, "weights": 1, "cache": 2, "activations": 3, "staging": 4 }],
        "leaks": [],
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), want);
    drop(layers);
}
