//! The ledger is exact, and what wgpu reports out of band arrives as typed errors.

mod ledger;
mod subgroups;
mod timestamps;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions, list_adapters};
use webweft::error::DeviceError;

async fn own_device(options: DeviceOptions) -> Device {
    Device::open(&options).await.unwrap()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_ledger_counts_every_buffer_until_its_last_owner_is_gone() {
    let device = own_device(DeviceOptions::default()).await;
    let weights = device.storage("a", Category::Weights, 1000).unwrap();
    let cache = device.storage("b", Category::Cache, 30).unwrap(); // rounded up to words
    let shared = weights.clone();
    drop(weights);
    let now = device.ledger().snapshot();
    assert_eq!((now.of(Category::Weights), now.of(Category::Cache), now.total), (1000, 32, 1032));
    assert_eq!(device.ledger().entries().iter().map(|e| e.label.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    drop((shared, cache));
    let end = device.ledger().snapshot();
    assert_eq!((end.total, end.peak_total, end.peak[Category::Cache as usize]), (0, 1032, 32));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn validation_errors_are_typed_and_told_once() {
    let device = own_device(DeviceOptions::default()).await;
    let small = device.storage("small", Category::Staging, 16).unwrap();
    device.write(&small, 64, &[1, 2, 3, 4]); // beyond its end
    // natively at once; a browser says so when the queue comes to it
    let error = match device.check() {
        Err(error) => error,
        Ok(()) => device.idle().await.expect_err("wgpu must have complained"),
    };
    assert!(matches!(error, DeviceError::Validation { .. }), "{error}");
    device.idle().await.expect("told once, and the device still works");
    device.write(&small, 0, &[1, 2, 3, 4, 5]);
    assert_eq!(device.read(&small, 0..8).await.unwrap(), [1, 2, 3, 4, 5, 0, 0, 0]);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn adapters_are_chosen_by_index_and_by_name() {
    let all = list_adapters(None).await;
    assert!(!all.is_empty());
    let of = |adapter: String| DeviceOptions { adapter: Some(adapter), ..DeviceOptions::default() };
    for (index, info) in all.iter().enumerate() {
        assert_eq!(own_device(of(index.to_string())).await.info(), info);
    }
    let part: String = all[0].name.to_uppercase().chars().take(6).collect();
    let named = own_device(of(part)).await;
    assert!(named.info().name.to_uppercase().starts_with(&all[0].name.to_uppercase()[..1]));
    let error = Device::open(&of("no such adapter".into())).await.unwrap_err();
    let DeviceError::AdapterNotFound { available, .. } = &error else { panic!("{error}") };
    assert_eq!(available.len(), all.len());
}
