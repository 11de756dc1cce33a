//! A model's weights as they lie on the GPU, written as a file and read again.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{Error, WeightsError};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use super::{generate, shared_source};
use crate::common::{device, portable_device, sample_of, skipped};

const FILE: &str = "packed.safetensors";

async fn image(session: &mut Session) -> Vec<u8> {
    let mut image = session.image();
    let size = image.size();
    let mut bytes = Vec::new();
    while let Some(piece) = image.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes.len() as u64, size);
    bytes
}

async fn with_image(source: &Source, image: Vec<u8>) -> Source {
    let mut memory = Memory::new();
    for name in ["config.json", "generation_config.json", "tokenizer.json"] {
        if let Some(bytes) = source.read_all(name, 1 << 30).await.unwrap() {
            memory.insert(name, bytes.into_owned()).unwrap();
        }
    }
    memory.insert(FILE, image).unwrap();
    Source::Memory(memory)
}

fn packed(dtype: Dtype) -> LoadOptions {
    LoadOptions { dtype, weights_file: Some(FILE.to_owned()), ..LoadOptions::default() }
}

/// Every kind of weight (stacked, transposed, with biases, tables, heads that are padded) at every type, read on an adapter that
/// splits them at other places: the same bytes, the same tokens.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_was_written_is_read_again() {
    let options = GenerateOptions { max_new_tokens: 4, ..GenerateOptions::default() };
    for name in sample_of(3, &["gpt2", "gemma3_text", "opt", "llama_mha", "qwen2", "phi"]) {
        let Some(source) = shared_source(&format!("fixtures/{name}")).await else { return skipped("no fixtures") };
        for &dtype in sample_of(2, &[Dtype::Q4, Dtype::F32, Dtype::F16]) {
            let load = LoadOptions { dtype, ..LoadOptions::default() };
            let mut session = Session::open(&device().await, &source, &load, |_| ()).await.unwrap();
            let want = generate(&mut session, &[1, 5, 3], options.clone()).await;
            let written = image(&mut session).await;
            let again = with_image(&source, written.clone()).await;
            let mut session = Session::open(&portable_device().await, &again, &packed(dtype), |_| ()).await.unwrap();
            assert_eq!(generate(&mut session, &[1, 5, 3], options.clone()).await, want, "{name}, {dtype:?}");
            assert!(image(&mut session).await == written, "{name}, {dtype:?}");
            assert!(session.extra_tensors().is_empty(), "{name}: {:?}", session.extra_tensors());
        }
    }
}

/// What other tools quantized, with orders, zero points, inputs in 8 bits: packed, it is what it was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_others_quantized_is_packed_too() {
    let options = GenerateOptions { max_new_tokens: 6, ..GenerateOptions::default() };
    for name in [
        "awq_odd_heads",
        "bitnet_odd",
        "bnb_nf4_odd",
        "ct_mixed_formats",
        "ct_w8a8",
        "gptq_8bit_act",
        "gptq_act_shared",
    ] {
        let source = shared_source(&format!("quantized/{name}")).await.unwrap();
        let load = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
        let mut session = Session::open(&device().await, &source, &load, |_| ()).await.unwrap();
        let want = generate(&mut session, &[1, 5, 3], options.clone()).await;
        let written = image(&mut session).await;
        let again = with_image(&source, written.clone()).await;
        let mut session = Session::open(&device().await, &again, &packed(Dtype::F32), |_| ()).await.unwrap();
        assert_eq!(generate(&mut session, &[1, 5, 3], options.clone()).await, want, "{name}");
        assert!(image(&mut session).await == written, "{name}");
    }
}

/// As `native-runner quantize` writes it: `auto` is what the config says.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_config_says_what_is_packed() {
    let Some(source) = shared_source("fixtures/qwen2").await else { return skipped("no fixtures") };
    let options = GenerateOptions { max_new_tokens: 8, ..GenerateOptions::default() };
    let device = device().await;
    let load = LoadOptions { dtype: Dtype::Q4, ..LoadOptions::default() };
    let mut session = Session::open(&device, &source, &load, |_| ()).await.unwrap();
    let want = generate(&mut session, &[1, 5, 3], options.clone()).await;
    let mut config: serde_json::Value =
        serde_json::from_slice(&source.read_all("config.json", 1 << 20).await.unwrap().unwrap()).unwrap();
    for (method, fits) in [
        (serde_json::json!({"quant_method": "webweft", "dtype": "q4", "version": 1}), true),
        (serde_json::json!({"quant_method": "webweft", "dtype": "q4", "version": 2}), false),
        (serde_json::json!({"quant_method": "webweft", "dtype": "q5", "version": 1}), false),
        (serde_json::json!({"quant_method": "webweft", "dtype": "auto", "version": 1}), false),
    ] {
        config["quantization_config"] = method;
        let mut memory = Memory::new();
        memory.insert("config.json", config.to_string().into_bytes()).unwrap();
        memory.insert("model.safetensors", image(&mut session).await).unwrap();
        let opened = Session::open(&device, &Source::Memory(memory), &LoadOptions::default(), |_| ()).await;
        match opened {
            Ok(mut opened) if fits => {
                assert_eq!(opened.precision().dtype, Dtype::Q4);
                assert_eq!(generate(&mut opened, &[1, 5, 3], options.clone()).await, want);
            }
            Err(Error::Config(_)) if !fits => {}
            other => panic!("{config}: {:?}", other.map(|_| ())),
        }
    }
}

/// What is packed stays as it is, whatever dtype is asked for; damaged, it is refused.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_is_packed_stays_and_what_is_damaged_is_refused() {
    let Some(source) = shared_source("fixtures/llama_mha").await else { return skipped("no fixtures") };
    let load = LoadOptions { dtype: Dtype::Q4, ..LoadOptions::default() };
    let device = device().await;
    let mut session = Session::open(&device, &source, &load, |_| ()).await.unwrap();
    let written = image(&mut session).await;
    let again = with_image(&source, written.clone()).await;
    let mut session = Session::open(&device, &again, &packed(Dtype::F32), |_| ()).await.unwrap();
    assert!(image(&mut session).await == written);
    let short = with_image(&source, written[..written.len() - 4].to_vec()).await;
    let error = Session::open(&device, &short, &packed(Dtype::Q4), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)), "{error}");
    // other formats than the bytes are of
    for (from, to) in [("int4-f16-32", "int8-f16-32"), ("int4-f16-32", "int4-f32-32"), ("int4-f16-32", "int4-f16-03")] {
        let at = written.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        let mut other = written.clone();
        other[at..at + to.len()].copy_from_slice(to.as_bytes());
        let source = with_image(&source, other).await;
        let error = Session::open(&device, &source, &packed(Dtype::Q4), |_| ()).await.unwrap_err();
        assert!(matches!(error, Error::Weights(WeightsError::Mismatch { .. })), "{to}: {error}");
    }
}

/// Shapes that no file of ours has: without rows, without elements, with more rows than there can be.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn packed_tensors_of_no_size_are_refused() {
    let Some(source) = shared_source("fixtures/llama_mha").await else { return skipped("no fixtures") };
    let name = "model.layers.0.self_attn.q_proj.weight";
    for (shape, order) in [
        (vec![0_u64, 8], None),
        (vec![0], None),
        (vec![], None),
        (vec![u64::from(u32::MAX), 0], None),
        (vec![1 << 40, 0], None),
        (vec![192, 0], Some(vec![1_u64, 0])),
        (vec![0, 0], Some(vec![0, 1])),
    ] {
        let scalar = if shape.is_empty() { 4 } else { 0 };
        let mut header = serde_json::json!({
            "__metadata__": { name: "int4-f16-32" },
            name: { "dtype": "U32", "shape": shape, "data_offsets": [0, scalar] },
        });
        if let Some(order) = &order {
            header[format!("{name}.order")] =
                serde_json::json!({ "dtype": "U32", "shape": order, "data_offsets": [scalar, scalar] });
        }
        let header = header.to_string().into_bytes();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(&header);
        file.resize(file.len() + scalar, 0);
        let again = with_image(&source, file).await;
        let error = Session::open(&device().await, &again, &packed(Dtype::Q4), |_| ()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("q_proj") && text.contains("wrong shape"), "{shape:?}: {text}");
    }
}
