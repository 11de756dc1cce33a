//! Encoders against transformers: `../shared/fixtures/bert`, and all-MiniLM-L6-v2 where `./test` found its weights.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Device, DeviceOptions};
use webweft::encode::{FeatureOptions, Pooling, Tokens};
use webweft::error::{ConfigError, DeviceError, Error, GenerateError};
use webweft::managers::{Dtype, Wanted, inspect};
use webweft::session::{FeatureExtractor, Input, LoadOptions, Session};
use webweft::source::Source;

use super::{Expected, assert_close, json, shared_source};
use crate::common::{device, here, read_shared, report, sample_of, skipped};

const FOLDER: &str = "fixtures/bert";
const MINI_LM: &str = "models/all-MiniLM-L6-v2";

async fn open(source: &Source, dtype: Dtype) -> FeatureExtractor {
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    FeatureExtractor::open(&device().await, source, &options, |_| ()).await.unwrap()
}

/// A batch as transformers takes it: rows of tokens, padded on the right to one length.
struct Batch {
    texts: Vec<Tokens>,
    length: usize,
}

impl Batch {
    fn of(expected: &Expected, rows: usize) -> Self {
        let [ids, mask, types] = ["input_ids", "attention_mask", "token_type_ids"].map(|name| expected.ids(name));
        let length = ids.len() / rows;
        let text = |row: usize| {
            let count = mask[row * length..][..length].iter().filter(|&&m| m == 1).count();
            let of = |all: &[u32]| all[row * length..][..count].to_vec();
            Tokens { ids: of(&ids), type_ids: of(&types) }
        };
        Self { texts: (0..rows).map(text).collect(), length }
    }

    /// Of `[B, S, D]` the rows that are no padding, of each text.
    fn rows<'a>(&self, all: &'a [f32], dim: usize) -> Vec<&'a [f32]> {
        let of = |(row, text): (usize, &Tokens)| &all[row * self.length * dim..][..text.ids.len() * dim];
        self.texts.iter().enumerate().map(of).collect()
    }
}

const ALL: [(&str, Pooling, bool); 3] =
    [("mean_pooled", Pooling::Mean, false), ("mean_pooled_norm", Pooling::Mean, true), ("cls", Pooling::Cls, false)];

/// Hidden states of every layer, the pooler, vectors: of each text by itself, and of all in one step.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn bert_equals_transformers() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let (expected, meta) = (Expected::of(FOLDER).await, json(&format!("{FOLDER}/meta.json")).await);
    for (dtype, tolerance) in [(Dtype::F32, "f32_abs"), (Dtype::F16, "f16_abs")] {
        let tolerance = meta["tolerance"][tolerance].as_f64().unwrap();
        let mut model = open(&source, dtype).await;
        let dim = model.dim();
        let batch = Batch::of(&expected, 4);
        let states = expected.floats("hidden_states");
        let layers = 1 + model.engine().config().num_hidden_layers as usize;
        for (row, text) in batch.texts.iter().enumerate() {
            let got = model.forward(text).await.unwrap();
            assert_eq!(got.hidden_states.len(), layers);
            for (layer, (got, want)) in got.hidden_states.iter().zip(states.chunks(states.len() / layers)).enumerate() {
                let name = format!("{dtype:?}, text {row}, state {layer}");
                assert_close(&name, got, batch.rows(want, dim)[row], tolerance, 0.0);
            }
            let pooled = &expected.floats("pooler_output")[row * dim..][..dim];
            let name = format!("{dtype:?}, text {row}, pooler");
            assert_close(&name, &got.pooler_output.unwrap(), pooled, tolerance, 0.0);
        }
        let last = expected.floats("last_hidden_state");
        let got = model.features_of(&batch.texts, FeatureOptions::default()).await.unwrap();
        for (row, (got, want)) in got.iter().zip(batch.rows(&last, dim)).enumerate() {
            assert_close(&format!("{dtype:?}, text {row} of the batch"), got, want, tolerance, 0.0);
        }
        for (name, pooling, normalize) in ALL {
            let got = model.features_of(&batch.texts, FeatureOptions { pooling, normalize }).await.unwrap();
            assert_close(&format!("{dtype:?}, {name}"), &got.concat(), &expected.floats(name), tolerance, 0.0);
        }
    }
}

/// Few bits move vectors, and do not turn them around.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn bert_in_few_bits_is_near() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let expected = Expected::of(FOLDER).await;
    let want = expected.floats("mean_pooled_norm");
    for (dtype, least) in [(Dtype::Q8, 0.999), (Dtype::Q4, 0.96), (Dtype::Q4a, 0.96), (Dtype::Nf4, 0.96)] {
        let mut model = open(&source, dtype).await;
        let options = FeatureOptions { pooling: Pooling::Mean, normalize: true };
        let got = model.features_of(&Batch::of(&expected, 4).texts, options).await.unwrap();
        let cosines = got.iter().zip(want.chunks(model.dim())).map(|(a, b)| dot(a, b));
        let worst = cosines.fold(f64::MAX, f64::min);
        report(&format!("bert at {dtype:?}: cosine with f32 {worst:.4} at least"));
        assert!(worst > least && worst < 1.0, "{dtype:?}: {worst}");
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Texts and a pair become the tokens that transformers makes of them, and are cut where they are too long, with what ends them kept.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn texts_become_tokens() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let (expected, meta) = (Expected::of(FOLDER).await, json(&format!("{FOLDER}/meta.json")).await);
    // what transformers was asked for, too
    let length = Batch::of(&expected, 4).length;
    let options = LoadOptions { dtype: Dtype::F32, context: Some(length as u32), ..LoadOptions::default() };
    let mut model = FeatureExtractor::open(&device().await, &source, &options, |_| ()).await.unwrap();
    let texts = meta["texts"].as_array().unwrap();
    let input = |text: &'static serde_json::Value| match text {
        serde_json::Value::String(text) => Input::Text(text),
        pair => Input::Pair(pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    let texts: Vec<_> = texts.iter().map(|text| input(Box::leak(Box::new(text.clone())))).collect();
    let batch = Batch::of(&expected, 4);
    for (text, want) in texts.iter().zip(&batch.texts) {
        assert_eq!(&model.encode(*text).unwrap(), want, "{text:?}");
    }
    let options = FeatureOptions { pooling: Pooling::Mean, normalize: true };
    let of_texts = model.features(texts.iter().copied(), options).await.unwrap();
    assert_eq!(of_texts, model.features_of(&batch.texts, options).await.unwrap());

    let long = "one two three ".repeat(100);
    let most = model.max_length();
    let cut = model.encode(long.as_str()).unwrap();
    let whole = model.tokenizer().unwrap().encode(&long, true).unwrap();
    assert!(most == length && whole.len() > most && cut.ids.len() == most);
    assert_eq!((&cut.ids[..most - 1], cut.ids.last()), (&whole[..most - 1], whole.last()));
    let pair = model.encode(Input::Pair(&long, "short")).unwrap();
    let short = model.tokenizer().unwrap().encode("short", false).unwrap();
    let end = [&short[..], &whole[whole.len() - 1..]].concat();
    assert!(pair.ids.len() == most && pair.ids.ends_with(&end), "the longer one is cut");
    assert_eq!(pair.type_ids.iter().filter(|&&kind| kind == 1).count(), end.len());
}

/// In steps of any size, beside any others, also where a step has room for none: the same vectors.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn neighbours_do_not_matter() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let text = |seed: u32, length: u32| -> Tokens {
        (0..length).map(|i| (i * 37 + seed * 11 + 5) % 440).collect::<Vec<_>>().into()
    };
    let lengths = [3, 64, 1, 31, 32, 33, 17, 50, 2, 64];
    let texts: Vec<_> = (0..70).map(|i| text(i, lengths[i as usize % lengths.len()])).collect();
    let texts = sample_of(24, &texts);
    let mut want: Vec<Vec<f32>> = Vec::new();
    for &rows in sample_of(3, &[1, 100, 512, 4096]) {
        let options = LoadOptions { dtype: Dtype::F32, prefill_chunk: Some(rows), ..LoadOptions::default() };
        let mut model = FeatureExtractor::open(&device().await, &source, &options, |_| ()).await.unwrap();
        let got = model.features_of(texts, FeatureOptions::default()).await.unwrap();
        if want.is_empty() {
            want = got;
            continue;
        }
        for (text, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_close(&format!("text {text}, steps of {rows} rows"), got, want, 1e-5, 0.0);
        }
        let unit = FeatureOptions { normalize: true, ..FeatureOptions::default() };
        let unit = model.features_of(&texts[1..2], unit).await.unwrap();
        assert!(unit[0].chunks(model.dim()).all(|row| (dot(row, row) - 1.0).abs() < 1e-5), "each row has length 1");
    }
}

/// What cannot be is told before anything runs; a decoder is no encoder, nor the other way round.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn wrong_inputs_are_told() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let mut model = open(&source, Dtype::Auto).await;
    let mut refused = async |text: Tokens| {
        let texts = [vec![2, 3].into(), text];
        let Err(Error::Generate(error)) = model.features_of(&texts, FeatureOptions::default()).await else { panic!() };
        error
    };
    assert!(matches!(refused(Tokens::default()).await, GenerateError::EmptyPrompt));
    assert!(matches!(refused(vec![0; 65].into()).await, GenerateError::TextTooLong { tokens: 65, most: 64 }));
    assert!(matches!(refused(vec![2, 440].into()).await, GenerateError::TokenOutOfRange { id: 440, vocab: 440 }));
    for type_ids in [vec![0], vec![0, 2]] {
        let text = Tokens { ids: vec![2, 3], type_ids };
        assert!(matches!(refused(text).await, GenerateError::Input { name: "token_type_ids", .. }));
    }
    assert_eq!(model.features_of(&[], FeatureOptions::default()).await.unwrap(), Vec::<Vec<f32>>::new());

    let (device, options) = (device().await, LoadOptions::default());
    let Err(Error::Config(error)) = Session::open(&device, &source, &options, |_| ()).await else { panic!() };
    assert!(matches!(error, ConfigError::OtherTask { task: "feature-extraction", .. }), "{error}");
    let decoder = shared_source("fixtures/llama_mha").await.unwrap();
    let Err(Error::Config(error)) = FeatureExtractor::open(&device, &decoder, &options, |_| ()).await else { panic!() };
    assert!(matches!(error, ConfigError::OtherTask { task: "text-generation", .. }), "{error}");
}

/// Every allocation refused in turn, while it loads and while it runs: the error says so, or smaller steps make the same vectors.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn memory_may_be_short() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let texts: Vec<Tokens> = (0..8).map(|i| (0..40).map(|t| (t * 7 + i) % 440).collect::<Vec<_>>().into()).collect();
    let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
    let (mut want, mut all) = (None, 0);
    let (mut told, mut recovered) = (0, 0);
    let mut refused = None;
    while refused < Some(all) {
        let before = device.allocations();
        device.refuse_allocations(refused.map_or(0..0, |number| number..number + 1));
        let made = async {
            let mut model = FeatureExtractor::open(&device, &source, &options, |_| ()).await?;
            model.features_of(&texts, FeatureOptions::default()).await
        };
        let made = made.await;
        device.refuse_allocations(0..0);
        assert_eq!(device.ledger().snapshot().total, 0, "all is given back");
        match (made, &want) {
            (Ok(made), None) => {
                all = device.allocations() - before;
                want = Some(made);
            }
            (Ok(made), Some(want)) => {
                recovered += 1;
                for (got, want) in made.iter().zip(want) {
                    assert_close(&format!("allocation {refused:?} refused"), got, want, 1e-5, 0.0);
                }
            }
            (Err(error), _) => {
                assert!(matches!(error, Error::Device(DeviceError::OutOfMemory { .. })), "{error}");
                told += 1;
            }
        }
        refused = Some(refused.map_or(0, |number| number + here(1, 13) as u64));
    }
    report(&format!("bert: of {all} allocations {told} were told, {recovered} recovered"));
    assert!(told > 0 && recovered > 0, "{told} {recovered}");
}

/// `auto` heeds the memory limit: it is what `inspect` says of that budget, and what is said to fit takes a text of the greatest length.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn auto_heeds_the_memory_limit() {
    let Some(source) = shared_source(FOLDER).await else { return skipped("../shared/fixtures is absent") };
    let options = LoadOptions::default();
    let formats = inspect(&source, None, None).await.unwrap().on_gpu;
    let less = (formats[0].weights - formats[1].weights) / 2;
    let (mut limit, mut seen): (Option<u64>, _) = (None, Vec::new());
    // from what f32 takes to what nothing fits in
    loop {
        let device = Device::open(&DeviceOptions { memory_limit: limit, ..DeviceOptions::default() }).await.unwrap();
        let told = inspect(&source, Some(device.info()), Wanted::from(limit)).await.unwrap();
        let format = told.on_gpu.iter().find(|format| Some(format.dtype) == told.auto).unwrap();
        if !format.fits {
            break;
        }
        let mut model = FeatureExtractor::open(&device, &source, &options, |_| ()).await.unwrap();
        assert_eq!(Some(model.engine().precision().dtype.name()), told.auto, "{limit:?}");
        seen.push(format.dtype);
        let longest: Vec<u32> = (0..model.engine().config().max_position_embeddings).map(|t| t % 440).collect();
        model.features_of(&[longest.into()], FeatureOptions::default()).await.unwrap();
        let peak = device.ledger().snapshot().peak_total;
        limit = Some(limit.map_or(peak + peak / 50, |limit| limit - less));
    }
    report(&format!("bert by memory limit: {seen:?}"));
    seen.dedup();
    assert!(seen.len() > 1 && seen[0] == "f32", "{seen:?}");
}

/// A real model: sentences, their vectors, which of them mean the same.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn mini_lm_equals_transformers() {
    let Some(meta) = read_shared(&format!("{MINI_LM}/meta.json")).await else {
        return skipped("../shared/models is absent");
    };
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    if read_shared(&format!("{MINI_LM}/model.safetensors")).await.is_none() {
        return skipped("the weights of all-MiniLM-L6-v2 are absent: see ../shared/models/fetch-all-minilm");
    }
    let source = shared_source(MINI_LM).await.unwrap();
    let expected = Expected::of(MINI_LM).await;
    let sentences: Vec<&str> = meta["sentences"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    let options = FeatureOptions { pooling: Pooling::Mean, normalize: true };
    let want = expected.floats("sentence_embeds");
    for &dtype in sample_of(2, &[Dtype::F32, Dtype::Q4, Dtype::F16, Dtype::Q8]) {
        let mut model = open(&source, dtype).await;
        let batch = Batch::of(&expected, sentences.len());
        let tokens: Vec<_> = sentences.iter().map(|&text| model.encode(text).unwrap()).collect();
        assert_eq!(tokens, batch.texts);
        let got = model.features(sentences.iter().copied(), options).await.unwrap();
        let worst = got.iter().zip(want.chunks(model.dim())).map(|(a, b)| dot(a, b)).fold(f64::MAX, f64::min);
        report(&format!("all-MiniLM-L6-v2 at {dtype:?}: cosine with transformers' {worst:.6} at least"));
        if dtype == Dtype::F32 {
            let [embeds, states] =
                ["sentence_embeds_abs", "last_hidden_state_abs"].map(|t| meta["tol"][t].as_f64().unwrap());
            assert_close("sentences", &got.concat(), &want, embeds, 0.0);
            let last = expected.floats("last_hidden_state");
            let got = model.features_of(&batch.texts, FeatureOptions::default()).await.unwrap();
            assert_close("hidden states", &got.concat(), &batch.rows(&last, model.dim()).concat(), states, 0.0);
        } else {
            assert!(worst > if dtype == Dtype::Q4 { 0.85 } else { 0.999 }, "{dtype:?}: {worst}");
            // two sentences about a cat remain nearest to one another
            let nearest = (0..got.len())
                .filter(|&i| i != 2)
                .max_by(|&i, &j| dot(&got[2], &got[i]).total_cmp(&dot(&got[2], &got[j])));
            assert_eq!(nearest, Some(3), "{dtype:?}");
        }
    }
}
