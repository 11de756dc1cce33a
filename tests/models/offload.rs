//! Layers that do not stay on the GPU: what is computed is the same, within the memory that there is.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype as Stored, SafeTensors};
use serde_json::json;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{DeviceError, Error};
use webweft::generate::GenerateOptions;
use webweft::managers::{CacheOptions, Dtype, Inspection, Wanted, inspect};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};
use webweft::tensor::CacheDtype;

use super::reference_llama::{Shape, Synthetic};
use super::{generate, open, rest};
use crate::common::{device, here, read_shared, report, sample_of, skipped};

const LAYERS: usize = 6;

fn model() -> Synthetic {
    let shape = Shape {
        hidden: 128,
        ff: 300,
        layers: LAYERS,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        vocab: 300,
        tied: true,
        attention_bias: true,
        mlp_bias: false,
    };
    Synthetic::new(&shape, webweft::checkpoint::Dtype::F16, 11)
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % 250).collect()
}

fn load(dtype: Dtype, gpu_layers: Option<u32>) -> LoadOptions {
    LoadOptions { dtype, gpu_layers, prefill_chunk: Some(32), ..LoadOptions::default() }
}

fn options(tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens: tokens, ..GenerateOptions::default() }
}

/// Any number of layers that stay, every kind of weight, chunks of prompts, tokens ahead, and sampling on the host: to the bit what a
/// model gives that stays whole.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_passes_through_is_what_stays() {
    let source = model().source();
    for &dtype in sample_of(1, &[Dtype::Q4, Dtype::F32, Dtype::F16, Dtype::Q8]) {
        let mut whole = open(&source, &load(dtype, None)).await;
        let want = generate(&mut whole, &prompt(70), options(24)).await;
        let logits = whole.forward(&prompt(70)).await.unwrap();
        assert!(whole.offload().is_none());
        // every number of layers of one type, of the others some
        let all = if dtype == Dtype::Q4 { &[1, 3, 0, 4, 5, 6][..] } else { &[1, 4][..] };
        for &resident in sample_of(2, all) {
            let mut session = open(&source, &load(dtype, Some(resident))).await;
            let name = format!("{dtype:?}, {resident} of {LAYERS} layers");
            assert_eq!(session.offload().map_or(LAYERS, |offload| offload.resident), resident as usize, "{name}");
            for &lookahead in sample_of(1, &[8, 1, 0]) {
                session.engine_mut().reset();
                let options = GenerateOptions { lookahead, ..options(24) };
                assert_eq!(generate(&mut session, &prompt(70), options).await, want, "{name}, lookahead {lookahead}");
            }
            assert_eq!(session.forward(&prompt(70)).await.unwrap(), logits, "{name}");
            let moved = session.engine().offloaded().map_or(0, |offloaded| offloaded.moved());
            // two sit in their slots for good
            assert_eq!(moved > 0, LAYERS - resident as usize > 2, "{name}: {moved} bytes were copied");
        }
    }
}

/// Several at once, each as if it were alone.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn sequences_share_what_passes() {
    let source = model().source();
    let mut whole = open(&source, &load(Dtype::F32, None)).await;
    let mut session = open(&source, &load(Dtype::F32, Some(1))).await;
    let prompts: Vec<Vec<u32>> = (0..here(5, 3)).map(|i| prompt(20 + 13 * i as u32)).collect();
    let mut want = Vec::new();
    for prompt in &prompts {
        whole.engine_mut().reset();
        want.push(generate(&mut whole, prompt, options(12)).await);
    }
    let ids: Vec<_> = prompts.iter().map(|prompt| session.add(prompt.as_slice(), options(12)).unwrap()).collect();
    let mut got = vec![Vec::new(); ids.len()];
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            break;
        }
        for (id, event) in events {
            match event {
                webweft::generate::Event::Piece(piece) => {
                    got[ids.iter().position(|known| *known == id).unwrap()].push(piece.id);
                }
                webweft::generate::Event::Finished { .. } => {}
                webweft::generate::Event::Failed(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(got, want);
}

/// Whoever waits for a token may go away in the middle of it; whoever comes next is none the wiser.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_step_may_be_given_up() {
    let source = model().source();
    let mut session = open(&source, &load(Dtype::F32, Some(0))).await;
    let want = generate(&mut session, &prompt(40), options(30)).await;
    session.engine_mut().reset();
    let id = session.add(prompt(40).as_slice(), options(30)).unwrap();
    let mut got = Vec::new();
    let mut given_up = 0;
    loop {
        for polls in 0..4 {
            let mut step = pin!(session.step());
            let mut context = Context::from_waker(Waker::noop());
            let ready = (0..polls).find_map(|_| match step.as_mut().poll(&mut context) {
                std::task::Poll::Ready(events) => Some(events),
                std::task::Poll::Pending => None,
            });
            match ready {
                Some(events) => take(&mut got, events.unwrap(), id),
                None => given_up += 1,
            }
        }
        let events = session.step().await.unwrap();
        if events.is_empty() {
            break;
        }
        take(&mut got, events, id);
    }
    assert_eq!(got, want);
    assert!(given_up > 0);
}

fn take(
    got: &mut Vec<u32>,
    events: Vec<(webweft::generate::SequenceId, webweft::generate::Event)>,
    id: webweft::generate::SequenceId,
) {
    for (who, event) in events {
        assert_eq!(who, id);
        if let webweft::generate::Event::Piece(piece) = event {
            got.push(piece.id);
        }
    }
}

/// A model's `config.json` and weights, its second layer there so often that there are [`LAYERS`]: fixtures have two.
async fn deepened(folder: &str) -> Option<Source> {
    let mut config: serde_json::Value =
        serde_json::from_slice(&read_shared(&format!("{folder}/config.json")).await?).unwrap();
    let file = read_shared(&format!("{folder}/model.safetensors")).await?;
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut all: Vec<(String, TensorView<'_>)> =
        tensors.tensors().into_iter().filter(|(_, tensor)| tensor.dtype() != Stored::BOOL).collect();
    let of_second: Vec<_> = all.iter().filter(|(name, _)| name.contains(".1.")).cloned().collect();
    let count = ["num_hidden_layers", "n_layer"].into_iter().find(|name| config.get(*name).is_some())?;
    let before = config[count].as_u64().unwrap() as usize;
    for layer in before..LAYERS {
        // tensors of the later layers come first in the file, and those of a layer are not together
        all.splice(
            0..0,
            of_second.iter().map(|(name, view)| (name.replacen(".1.", &format!(".{layer}."), 1), view.clone())),
        );
    }
    config[count] = json!(LAYERS);
    if let Some(types) = config.get_mut("layer_types").and_then(serde_json::Value::as_array_mut) {
        let last = types.last().cloned().unwrap();
        types.resize(LAYERS, last);
    }
    let mut memory = Memory::new();
    memory.insert("config.json", serde_json::to_vec(&config).unwrap()).unwrap();
    memory.insert("model.safetensors", serialize(all, None).unwrap()).unwrap();
    Some(Source::Memory(memory))
}

/// Families, and what other tools quantized, orders of their own included.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_kind_of_layer_passes() {
    let folders = [
        "fixtures/q_gptq_asym_act",
        "fixtures/gemma2",
        "fixtures/q_bnb_nf4_dq",
        "fixtures/llama_mha",
        "fixtures/gpt2",
        "fixtures/phi3",
        "fixtures/qwen3",
        "fixtures/opt",
        "fixtures/phi",
        "fixtures/q_awq",
        "fixtures/q_fp8_block",
        "fixtures/bitnet",
    ];
    for folder in sample_of(2, &folders) {
        let Some(source) = deepened(folder).await else { return skipped("../shared/fixtures is absent") };
        let mut whole = open(&source, &load(Dtype::F32, None)).await;
        let want = whole.forward(&prompt(20)).await.unwrap();
        let ids = generate(&mut whole, &prompt(20), options(8)).await;
        let mut session = open(&source, &load(Dtype::F32, Some(1))).await;
        assert_eq!(session.forward(&prompt(20)).await.unwrap(), want, "{folder}");
        session.engine_mut().reset();
        assert_eq!(generate(&mut session, &prompt(20), options(8)).await, ids, "{folder}");
        // whole, as a file
        let [mut one, mut other] = [Vec::new(), Vec::new()];
        for (session, bytes) in [(&mut whole, &mut one), (&mut session, &mut other)] {
            let mut image = session.image();
            while let Some(piece) = image.next().await.unwrap() {
                bytes.extend(piece);
            }
        }
        assert!(one == other, "{folder}");
    }
}

/// A cache that was saved by a model that stays whole goes on in one that does not.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn saved_caches_fit_both() {
    let source = model().source();
    let mut whole = open(&source, &load(Dtype::Q4, None)).await;
    let mut session = open(&source, &load(Dtype::Q4, Some(1))).await;
    let want = generate(&mut whole, &prompt(70), options(12)).await;
    let mut saved = Vec::new();
    let ids = whole.engine().cached().to_vec();
    let mut cache = whole.save_cache(&ids).await.unwrap();
    while let Some(piece) = cache.next().await.unwrap() {
        saved.extend(piece);
    }
    drop(cache);
    let mut memory = Memory::new();
    memory.insert("saved", saved).unwrap();
    let count = session.restore_cache(&Source::Memory(memory), "saved").await.unwrap();
    assert_eq!(count, ids.len());
    let mut generation = session.generate(&prompt(70), options(12)).await.unwrap();
    assert_eq!(generation.timing().prefill_tokens, 1);
    assert_eq!(rest(&mut generation).await, want);
}

/// A budget below the model's size: as many layers stay as it holds, and the ledger never exceeds it.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_budget_is_kept() {
    // 1.3 MB for each layer at f32
    let shape = Shape {
        hidden: 256,
        ff: 256,
        layers: 24,
        heads: 4,
        kv_heads: 1,
        head_dim: 32,
        vocab: 300,
        tied: true,
        attention_bias: false,
        mlp_bias: false,
    };
    let source = Synthetic::new(&shape, webweft::checkpoint::Dtype::F32, 5).source();
    let load = LoadOptions {
        dtype: Dtype::F32,
        context: Some(256),
        prefill_chunk: Some(32),
        cache: CacheOptions { dtype: Some(CacheDtype::F16), ..CacheOptions::default() },
        ..LoadOptions::default()
    };
    let wanted = |budget| {
        let LoadOptions { context, prefill_chunk, cache, .. } = load;
        Wanted { budget, context, prefill_chunk, cache, ..Wanted::default() }
    };
    // each layer that passes may take Firefox 100 ms
    let tokens = here(24, 4);
    let mut whole = Session::open(&device().await, &source, &load, |_| ()).await.unwrap();
    let want = generate(&mut whole, &prompt(60), options(tokens)).await;
    let told = inspect(&source, Some(whole.engine().device().info()), wanted(None)).await.unwrap();
    drop(whole);
    let of_f32 =
        |told: Inspection| told.recommendation.unwrap().formats.into_iter().find(|f| f.dtype == "f32").unwrap();
    let needs = of_f32(told).total;
    let mut seen = Vec::new();
    for &percent in sample_of(2, &[75, 55, 90, 65]) {
        let limit = needs * percent / 100;
        let options_of = DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() };
        let own = Device::open(&options_of).await.unwrap();
        let mut session = Session::open(&own, &source, &load, |_| ()).await.unwrap();
        let offload = session.offload().expect("not all of it fits").clone();
        assert_eq!(generate(&mut session, &prompt(60), options(tokens)).await, want, "{percent} %");
        let peak = own.ledger().snapshot().peak_total;
        assert!(peak <= limit, "{percent} %: {peak} of {limit}");
        assert!(peak <= offload.total, "{percent} %: {peak}, and {} were planned", offload.total);
        let planned = of_f32(inspect(&source, Some(own.info()), wanted(Some(limit))).await.unwrap()).offload;
        assert_eq!(planned, Some(offload.clone()), "{percent} %");
        report(&format!("{percent} %: {} of 24 layers stay, {peak} of {limit} bytes at most", offload.resident));
        seen.push((percent, offload.resident));
        drop(session);
        assert_eq!(own.ledger().snapshot().total, 0);
    }
    seen.sort_unstable();
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "{seen:?}");

    // not even without a layer
    let limit = needs / 8;
    let own = Device::open(&DeviceOptions { memory_limit: Some(limit), ..DeviceOptions::default() }).await.unwrap();
    let error = Session::open(&own, &source, &load, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Device(DeviceError::NothingFits { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("({limit} bytes)")) && text.contains("even if no layer stays"), "{text}");
    assert_eq!(own.ledger().snapshot().peak_total, 0, "nothing was loaded");
}
