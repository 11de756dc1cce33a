//! What `inspect` tells from headers, against what loading then measures.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::managers::{Dtype, inspect};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use super::shared_source;
use crate::common::{report, skipped};

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn planned_bytes_are_those_of_the_loaded_model() {
    // a device of its own: the ledger counts nothing else
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let mut folders = super::fixtures::folders().await;
    folders.extend(["models/stories260K", "fixtures/bitnet", "quantized/bitnet_odd"].map(str::to_owned));
    let mut compared = 0;
    for folder in folders {
        let Some(source) = shared_source(&folder).await else { return skipped(&format!("there is no {folder}")) };
        let told = inspect(&source, Some(device.info()), None).await.unwrap();
        assert!(told.supported && told.problems.is_empty(), "{folder}: {told:?}");
        let stored: usize = told.stored.iter().map(|stored| stored.tensors).sum();
        assert_eq!(told.files.iter().map(|file| file.tensors).sum::<usize>(), stored);
        for (dtype, told) in Dtype::ALL.into_iter().zip(&told.on_gpu) {
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            let session = Session::open(&device, &source, &options, |_| ()).await.unwrap();
            let ledger = device.ledger();
            assert_eq!(told.dtype, dtype.name());
            assert_eq!(told.weights, ledger.snapshot().of(Category::Weights), "{folder}, {dtype:?}");
            let weights = ledger.entries().into_iter().filter(|entry| entry.category == Category::Weights);
            assert_eq!(Some(told.largest_buffer), weights.map(|entry| entry.size).max(), "{folder}, {dtype:?}");
            assert_eq!(told.context as usize, session.engine().context(), "{folder}, {dtype:?}");
            assert!(told.fits && told.note.is_none(), "{told:?}");
            compared += 1;
        }
    }
    report(&format!("{compared} models and types: planned as loaded"));
    assert!(compared >= 30, "{compared}");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn budgets_and_limits_are_told() {
    let Some(source) = shared_source("models/stories260K").await else { return skipped("there is no stories260K") };
    let adapter = crate::common::device().await.info().clone();
    let of = async |adapter: &_, budget| inspect(&source, Some(adapter), budget).await.unwrap().on_gpu;
    let free = of(&adapter, None).await;
    assert!(free.iter().all(|size| size.fits && size.longest_context.is_none()));
    assert_eq!(free[0].cache_per_1k, 1024 * 5 * 2 * 4 * 8 * 4, "5 layers, 4 heads of 8");

    let narrow = of(&adapter, Some(free[0].weights + (13 << 20))).await;
    assert!(narrow.iter().all(|size| size.fits), "{narrow:?}");
    let none = of(&adapter, Some(1 << 20)).await;
    assert!(none.iter().all(|size| !size.fits && size.longest_context == Some(0)), "{none:?}");
    assert!(none[0].note.as_ref().is_some_and(|note| note.contains("budget is 1.0 MiB")), "{none:?}");

    let tiny = webweft::device::AdapterInfo { max_binding: 4096, ..adapter };
    let refused = of(&tiny, None).await;
    assert!(!refused[0].fits && refused[0].note.is_some(), "{refused:?}");
    assert_eq!(refused[0].weights, free[0].weights, "the size is told all the same");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_is_not_supported_is_told_with_its_files() {
    let Some(source) = shared_source("fixtures/t5").await else { return skipped("../shared/fixtures is absent") };
    let told = inspect(&source, None, None).await.unwrap();
    assert_eq!(told.model_type.as_deref(), Some("t5"));
    assert!(!told.supported && told.problems[0].contains("llama"), "{:?}", told.problems);
    assert!(told.parameters > 0 && told.files.len() == 1 && !told.stored.is_empty() && told.on_gpu.is_empty());
    assert!(told.tokenizer.is_some_and(|tokenizer| tokenizer.kind == "Unigram"));

    let mut memory = Memory::new();
    memory.insert("config.json", br#"{"model_type": "llama"}"#.to_vec()).unwrap();
    let told = inspect(&Source::Memory(memory), None, None).await.unwrap();
    assert!(!told.supported && told.problems.iter().any(|p| p.contains("holds no weights")), "{:?}", told.problems);
    assert_eq!(told.architecture.map(|a| (a.layers, a.kv_heads, a.context)), Some((32, 32, 2048)));
    assert!(inspect(&Source::Memory(Memory::new()), None, None).await.is_err());
}
