//! What `recommend` says that a model takes, against the ledger; and what `auto` becomes within a budget.

use serde_json::json;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::error::{DeviceError, Error};
use webweft::generate::GenerateOptions;
use webweft::managers::{Dtype, Wanted, inspect};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use super::{generate, shared_source};
use crate::common::{report, skipped};

/// The 110M parameters that `tools/random_llama.py` makes unless it is told otherwise: noise in bf16.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
fn random_llama() -> Source {
    let (hidden, layers, ff, vocab) = (768_usize, 12, 2048, 32_000);
    let config = json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": ff, "num_hidden_layers": layers,
        "num_attention_heads": 12, "num_key_value_heads": 12, "vocab_size": vocab, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
    });
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
    for i in 0..layers {
        let mut layer = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.layers.{i}.{name}.weight"), shape.to_vec()));
        };
        ["input_layernorm", "post_attention_layernorm"].iter().for_each(|name| layer(name, &[hidden]));
        ["q_proj", "k_proj", "v_proj", "o_proj"]
            .iter()
            .for_each(|n| layer(&format!("self_attn.{n}"), &[hidden, hidden]));
        ["gate_proj", "up_proj"].iter().for_each(|n| layer(&format!("mlp.{n}"), &[ff, hidden]));
        layer("mlp.down_proj", &[hidden, ff]);
    }
    shapes.push(("model.norm.weight".into(), vec![hidden]));

    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header);
    // bits of a xorshift: sign and mantissa of numbers from 1/32 to 1/16
    let mut state = 1_u32;
    file.extend(
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            ((state >> 16 & 0x807f) as u16 | 0x3d00).to_le_bytes()
        })
        .take(end / 2)
        .flatten(),
    );
    let mut memory = Memory::new();
    memory.insert("config.json", serde_json::to_vec(&config).unwrap()).unwrap();
    memory.insert("model.safetensors", file).unwrap();
    Source::Memory(memory)
}

#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
fn percent(estimate: u64, measured: u64) -> f64 {
    100.0 * (estimate as f64 - measured as f64) / measured as f64
}

#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
async fn estimates_are_within_2_percent_of_the_ledger() {
    let source = random_llama();
    // a prompt longer than a step
    let (context, chunk) = (128, 64);
    let prompt: Vec<u32> = (0..chunk + 1).map(|i| (i * 31) % 32_000).collect();
    let wanted = Wanted { context: Some(context), prefill_chunk: Some(chunk), ..Wanted::default() };
    for dtype in Dtype::ALL {
        let device = Device::open(&DeviceOptions::default()).await.unwrap();
        let told = inspect(&source, Some(device.info()), wanted).await.unwrap();
        let told = told.recommendation.unwrap().formats.into_iter().find(|f| f.dtype == dtype.name()).unwrap();
        let options =
            LoadOptions { dtype, context: Some(context), prefill_chunk: Some(chunk), ..LoadOptions::default() };
        let mut session = Session::open(&device, &source, &options, |_| ()).await.unwrap();
        let loading = device.ledger().snapshot().peak[Category::Staging as usize];
        let new = context as usize - prompt.len();
        let options = GenerateOptions { max_new_tokens: new, eos_token_id: Vec::new(), ..GenerateOptions::default() };
        let mut generation = session.generate(&prompt, options).await.unwrap();
        for _ in 0..3 {
            generation.next().await.unwrap().unwrap();
        }
        drop(generation);
        let ledger = device.ledger().snapshot();
        let of = |category| ledger.of(category);
        let errors = [
            ("weights", percent(told.weights, of(Category::Weights))),
            ("cache", percent(told.cache, of(Category::Cache))),
            ("activations", percent(told.activations, of(Category::Activations))),
            ("staging", percent(told.staging, loading)),
            ("running", percent(told.weights + told.cache + told.activations, ledger.total)),
            ("total", percent(told.total, ledger.peak_total)),
        ];
        let shown: Vec<_> = errors.iter().map(|(name, error)| format!("{name} {error:+.3} %")).collect();
        report(&format!("{}: {} MiB at most, {}", dtype.name(), ledger.peak_total >> 20, shown.join(", ")));
        // a MiB or two: among them is room for penalties, which were not asked for
        let most = |name: &str| if name == "activations" { 40.0 } else { 2.0 };
        assert!(
            errors.iter().all(|(name, error)| error.abs() < most(name)),
            "{}: {shown:?}, {told:?}, {ledger:?}",
            dtype.name()
        );
    }
}

/// The smallest budget that is told to be enough is, with the whole context filled.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn auto_fits_its_budget() {
    let Some(source) = shared_source("models/stories260K").await else { return skipped("there is no stories260K") };
    let open = async |budget, context| {
        let options = DeviceOptions { memory_limit: Some(budget), ..DeviceOptions::default() };
        let device = Device::open(&options).await.unwrap();
        Session::open(&device, &source, &LoadOptions { context, warm_up: true, ..LoadOptions::default() }, |_| ()).await
    };
    let session = open(1 << 30, None).await.unwrap();
    let told = session.recommendation().unwrap();
    assert_eq!((told.dtype, session.precision().dtype), (Some("f32"), Dtype::F32));
    assert!(told.reason.contains("of 1.0 GiB with a context of 512"), "{}", told.reason);
    let (total, told) = (told.formats[0].total, told.clone());
    drop(session);

    let needs = {
        let f = &told.formats[0];
        f.weights + f.cache + f.activations
    };
    let mut session = open(total, Some(512)).await.unwrap();
    // no more than it was told to need once it is loaded
    let device = session.engine().device().clone();
    let _ballast = device.storage("ballast", Category::Staging, total - needs).unwrap();
    assert_eq!((session.precision().dtype, session.engine().context()), (Dtype::F32, 512));
    let options = GenerateOptions {
        max_new_tokens: 112,
        repetition_penalty: 1.1,
        eos_token_id: Vec::new(),
        ..GenerateOptions::default()
    };
    assert_eq!(generate(&mut session, &vec![5; 400], options.clone()).await.len(), 112);
    // another number of rows takes the place of what that took
    session.engine_mut().reset();
    assert_eq!(generate(&mut session, &vec![7; 100], options).await.len(), 112);

    match open(total / 8, None).await {
        Err(Error::Device(DeviceError::NothingFits { reason })) => {
            assert!(reason.contains(&(total / 8).to_string()) && reason.contains("nf4"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
