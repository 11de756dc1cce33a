//! Caches that are saved and put back.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{CacheError, CheckpointError, Error, GenerateError};
use webweft::generate::Event;
use webweft::managers::CacheOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};
use webweft::tensor::CacheDtype;

use super::{F32, model, options};
use crate::common::{here, sample_of};
use crate::models::reference_llama::Synthetic;
use crate::models::{generate, open, rest};

fn load(dtype: CacheDtype, policy: CachePolicy) -> LoadOptions {
    LoadOptions { cache: CacheOptions { dtype: Some(dtype), policy }, ..F32 }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % 300).collect()
}

/// The file of what the cache holds of `ids`, and of how many of them.
async fn save(session: &mut Session, ids: &[u32]) -> (Vec<u8>, usize) {
    let mut saved = session.save_cache(ids).await.unwrap();
    let mut file = Vec::new();
    while let Some(bytes) = saved.next().await.unwrap() {
        file.extend(bytes);
    }
    assert_eq!(file.len() as u64, saved.size());
    (file, saved.tokens())
}

async fn restore(session: &mut Session, file: Vec<u8>) -> Result<usize, Error> {
    let mut memory = Memory::new();
    memory.insert("cache", file).unwrap();
    session.restore_cache(&Source::Memory(memory), "cache").await
}

/// What comes after `ids`, and how many of them were computed for it.
async fn go_on(session: &mut Session, ids: &[u32], new: usize) -> (Vec<u32>, usize) {
    let mut generation = session.generate(ids, options(new)).await.unwrap();
    let got = rest(&mut generation).await;
    (got, generation.timing().prefill_tokens)
}

/// Layers that see everything, layers that see a window, and rotary frequencies that follow the length.
fn models() -> [Synthetic; 3] {
    let [plain, mut windowed, mut long] = [(); 3].map(|()| model());
    windowed.config["model_type"] = json!("mistral");
    windowed.config["sliding_window"] = json!(40);
    windowed.config["layer_types"] = json!(["sliding_attention", "full_attention"]);
    long.config["original_max_position_embeddings"] = json!(64);
    long.config["rope_parameters"] = json!({
        "rope_type": "longrope", "rope_theta": 20000.0, "short_factor": vec![1.0; 6], "long_factor": vec![4.0; 6],
    });
    [plain, windowed, long]
}

/// Another session, as another process would have it, goes on from the file id for id, and computes the last token only.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_saved_cache_goes_on_id_for_id() {
    for (number, model) in models().iter().enumerate() {
        let dtypes = if number == 0 { &CacheDtype::ALL[..] } else { &[CacheDtype::F32, CacheDtype::Q4] };
        for &dtype in dtypes {
            let what = format!("model {number}, {dtype:?}");
            let load = load(dtype, CachePolicy::Full);
            let mut first = open(&model.source(), &load).await;
            let whole = generate(&mut first, &prompt(75), options(60)).await;
            first.engine_mut().reset();
            let some = generate(&mut first, &prompt(75), options(30)).await;
            assert_eq!(some, whole[..30], "{what}");
            let ids = [prompt(75), some].concat();
            let (file, tokens) = save(&mut first, &ids).await;
            assert_eq!(tokens, 104, "{what}: the last token was never fed");

            let mut second = open(&model.source(), &load).await;
            assert_eq!(restore(&mut second, file.clone()).await.unwrap(), 104, "{what}");
            assert_eq!(second.engine().cached(), &ids[..104]);
            // what was put back is as what was computed
            assert_eq!(save(&mut second, &ids).await, (file.clone(), 104), "{what}");
            let (got, computed) = go_on(&mut second, &ids, 30).await;
            assert_eq!((&got[..], computed), (&whole[30..], 1), "{what}");
            // twice, and beside what there is
            assert_eq!(restore(&mut second, file).await.unwrap(), 104, "{what}");
            let (got, computed) = go_on(&mut second, &[&ids[..], &whole[30..]].concat(), 1).await;
            assert_eq!((got.len(), computed), (1, 1), "{what}: a longer text is still there");
        }
    }
}

/// Beginnings of what there is: whole blocks, and parts; and nothing.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn as_much_is_saved_as_there_is() {
    for &dtype in sample_of(1, &[CacheDtype::Q8, CacheDtype::F32]) {
        let load = load(dtype, CachePolicy::Full);
        let mut session = open(&model().source(), &load).await;
        let error = session.save_cache(&prompt(75)).await.unwrap_err();
        assert!(matches!(error, Error::Cache(CacheError::Empty)), "{error}");
        let got = generate(&mut session, &prompt(75), options(10)).await;
        for &length in sample_of(3, &[31, 32, 70, 1, 64]) {
            // of a block in few bits no part can be used
            let known = if dtype == CacheDtype::Q8 && length < 64 { length / 32 * 32 } else { length };
            if known == 0 {
                assert!(session.save_cache(&prompt(length as u32)).await.is_err());
                continue;
            }
            let (file, tokens) = save(&mut session, &prompt(length as u32)).await;
            assert_eq!(tokens, known, "{dtype:?}, {length}");
            let mut other = open(&model().source(), &load).await;
            assert_eq!(restore(&mut other, file).await.unwrap(), known);
            let (again, computed) = go_on(&mut other, &prompt(75), 10).await;
            assert_eq!((again, computed), (got.clone(), 75 - known), "{dtype:?}, {length}");
        }
        let mut longer = prompt(75);
        longer.extend([1, 2, 3]);
        assert_eq!(save(&mut session, &longer).await.1, 75, "what comes after is not there");
    }
}

/// Under a window, what is not dropped yet; what came after a drop depends on what was dropped, and is not saved.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_window_is_saved_until_it_drops() {
    let window = CachePolicy::from_name("window:160").unwrap();
    let new = here(300, 180);
    for &dtype in sample_of(1, &[CacheDtype::Q4, CacheDtype::F32]) {
        let load = load(dtype, window);
        let mut first = open(&model().source(), &load).await;
        let whole = generate(&mut first, &prompt(40), options(new)).await;
        let all = [prompt(40), whole.clone()].concat();
        match first.save_cache(&all).await {
            Ok(saved) => assert!(saved.tokens() <= 160, "{}", saved.tokens()),
            Err(error) => assert!(matches!(error, Error::Cache(CacheError::Empty)), "{error}"),
        }
        first.engine_mut().reset();
        generate(&mut first, &prompt(40), options(100)).await;
        let (file, tokens) = save(&mut first, &all[..140]).await;
        assert_eq!(tokens, 139);
        let mut second = open(&model().source(), &load).await;
        restore(&mut second, file).await.unwrap();
        let (got, computed) = go_on(&mut second, &all[..140], new - 100).await;
        assert_eq!((&got[..], computed), (&whole[100..], 1), "{dtype:?}: across a drop");
    }
}

/// The header of a file as JSON, and its data.
fn parts(file: &[u8]) -> (Map<String, Value>, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&file[8..8 + length]).unwrap(), file[8 + length..].to_vec())
}

fn file((header, data): (Map<String, Value>, Vec<u8>)) -> Vec<u8> {
    let header = Value::Object(header).to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// What is done to a file's header and data.
type Change<'a> = &'a dyn Fn(&mut Map<String, Value>, &mut Vec<u8>);

/// Whatever is wrong with a file is told by name, and what the cache held is still there.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn files_that_do_not_fit_are_refused() {
    let load_q8 = load(CacheDtype::Q8, CachePolicy::Full);
    let mut session = open(&model().source(), &load_q8).await;
    generate(&mut session, &prompt(75), options(2)).await;
    let (good, tokens) = save(&mut session, &prompt(75)).await;
    assert_eq!(tokens, 75);

    // another model, type, policy: the file is told apart by all who run otherwise
    let mut other = model();
    other.tensors.get_mut("model.layers.1.mlp.down_proj.weight").unwrap().1.iter_mut().for_each(|v| *v *= 1.01);
    let mut renamed = model();
    renamed.config["rms_norm_eps"] = json!(1e-6);
    let window = CachePolicy::from_name("window:160").unwrap();
    for (model, load, name) in [
        (&other, &load_q8, None),
        (&renamed, &load_q8, None),
        (&model(), &load(CacheDtype::F16, CachePolicy::Full), Some("cache_dtype")),
        (&model(), &load(CacheDtype::Q8, window), Some("cache_policy")),
    ] {
        let mut elsewhere = open(&model.source(), load).await;
        let error = restore(&mut elsewhere, good.clone()).await.unwrap_err();
        match (&error, name) {
            (Error::Cache(CacheError::Model { .. }), None) => {}
            (Error::Cache(CacheError::Setting { name: got, .. }), Some(name)) if got == &name => {}
            _ => panic!("{name:?}: {error}"),
        }
    }
    let mut short = open(&model().source(), &LoadOptions { context: Some(70), ..load_q8.clone() }).await;
    let error = restore(&mut short, good.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::PromptTooLong { tokens: 75, context: 70 })), "{error}");

    let change = |what: Change<'_>| {
        let (mut header, mut data) = parts(&good);
        what(&mut header, &mut data);
        file((header, data))
    };
    let metadata = |name: &'static str, value: Value| {
        change(&move |header, _| {
            header["__metadata__"][name] = value.clone();
        })
    };
    let mut wrong: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("another version", metadata("webweft_cache", json!("2"))),
        ("no version", metadata("webweft_cache", json!(null))),
        ("metadata that is no text", metadata("block", json!(32))),
        ("another block", metadata("block", json!("16"))),
        ("other frequencies", metadata("rope", json!("7"))),
        ("no metadata", change(&|header, _| drop(header.remove("__metadata__")))),
        ("a token outside of the vocabulary", change(&|_, data| data[..4].fill(255))),
        (
            "no such keys",
            change(&|header, _| {
                let keys = header.remove("keys.1").unwrap();
                header.insert("keys.2".into(), keys);
            }),
        ),
        (
            "another shape",
            change(&|header, _| {
                let bytes = header["keys.0"]["shape"][1].as_u64().unwrap();
                header["keys.0"]["shape"] = json!([bytes, 2]);
            }),
        ),
        ("tokens of another type", change(&|header, _| header["tokens"]["dtype"] = json!("F32"))),
        (
            "fewer tokens",
            change(&|header, data| {
                header.insert("rest".into(), json!({"dtype": "U8", "shape": [44], "data_offsets": [256, 300]}));
                header["tokens"] = json!({"dtype": "U32", "shape": [64], "data_offsets": [0, 256]});
                assert!(data.len() > 300);
            }),
        ),
        (
            "no tokens",
            change(&|header, data| {
                let end = data.len();
                header.insert("rest".into(), json!({"dtype": "U8", "shape": [300], "data_offsets": [0, 300]}));
                header["tokens"] = json!({"dtype": "U32", "shape": [0], "data_offsets": [end, end]});
            }),
        ),
        (
            "one tensor more",
            change(&|header, data| {
                let end = data.len();
                header.insert("more".into(), json!({"dtype": "U8", "shape": [4], "data_offsets": [end, end + 4]}));
                data.extend([0; 4]);
            }),
        ),
        ("nothing", Vec::new()),
        ("text", b"this is no cache at all, but some text that is long enough".to_vec()),
    ]);
    for cut in [7, 8, 100, good.len() / 2, good.len() - 1] {
        wrong.insert(["cut a", "cut b", "cut c", "cut d", "cut e"][wrong.len() % 5], good[..cut].to_vec());
    }
    wrong.insert("longer", [&good[..], &[0]].concat());
    for (name, file) in wrong {
        let error = restore(&mut session, file).await.unwrap_err();
        let fits = match name {
            "another version" => matches!(&error, Error::Cache(CacheError::Version { got, .. }) if got == "2"),
            "no metadata" => matches!(error, Error::Cache(CacheError::NotACache { .. })),
            "another block" => matches!(error, Error::Cache(CacheError::Setting { name: "block", .. })),
            "other frequencies" => matches!(error, Error::Cache(CacheError::Setting { name: "rope", .. })),
            "a token outside of the vocabulary" => {
                matches!(error, Error::Generate(GenerateError::TokenOutOfRange { id: u32::MAX, .. }))
            }
            "no tokens" => matches!(error, Error::Generate(GenerateError::EmptyPrompt)),
            "no such keys" | "another shape" | "tokens of another type" | "fewer tokens" | "one tensor more" => {
                matches!(error, Error::Cache(CacheError::Tensor { .. }))
            }
            _ => matches!(error, Error::Cache(CacheError::File(_))),
        };
        assert!(fits, "{name}: {error}");
    }
    let missing = session.restore_cache(&Source::Memory(Memory::new()), "cache").await.unwrap_err();
    assert!(matches!(missing, Error::Cache(CacheError::File(CheckpointError::TooShort { .. }))), "{missing}");

    assert_eq!(save(&mut session, &prompt(75)).await, (good, 75), "nothing was lost");
}

/// Where the pool is small, what nobody uses gives way to what is restored; where others run, they go on as if nothing was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_restored_cache_takes_its_place_among_others() {
    let load = LoadOptions { context: Some(160), ..load(CacheDtype::Q4, CachePolicy::Full) };
    let mut session = open(&model().source(), &load).await;
    let alone = generate(&mut session, &prompt(100), options(40)).await;
    let ids = [prompt(100), alone.clone()].concat();
    let (file, _) = save(&mut session, &ids[..120]).await;
    // others fill the pool
    for first in [7, 8, 9] {
        let other: Vec<u32> = prompt(140).into_iter().map(|id| (id + first) % 300).collect();
        generate(&mut session, &other, options(20)).await;
    }
    assert_eq!(restore(&mut session, file.clone()).await.unwrap(), 96, "a part of a block in few bits was not saved");
    let (got, computed) = go_on(&mut session, &ids[..120], 20).await;
    assert_eq!((&got[..], computed), (&alone[20..], 24));

    session.engine_mut().reset();
    let running = session.add(&prompt(50)[..], options(60)).unwrap();
    let mut got = Vec::new();
    let mut restored = 0;
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            break;
        }
        for (id, event) in events {
            assert_eq!(id, running);
            if let Event::Piece(piece) = event {
                got.push(piece.id);
            }
        }
        if restored == 0 && got.len() > 5 {
            restored = restore(&mut session, file.clone()).await.unwrap();
        }
    }
    assert_eq!(restored, 96);
    assert_eq!(go_on(&mut session, &ids[..120], 20).await, (alone[20..].to_vec(), 24));
    session.engine_mut().reset();
    assert_eq!(got, generate(&mut session, &prompt(50), options(60)).await);
}
