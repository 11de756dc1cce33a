//! `generation_config.json`: what it says, what it leaves open, and what is wrong with it.

use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{Error, GenerateError};
use webweft::generate::GenerateOptions;
use webweft::session::Session;

use super::{F32, model};
use crate::common::device;

fn read(json: &Value) -> Result<GenerateOptions, GenerateError> {
    GenerateOptions { eos_token_id: vec![2], bos_token_id: Some(1), ..GenerateOptions::default() }.with_config(json)
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_config_is_read_as_transformers_reads_it() {
    let base = read(&Value::Null).unwrap();
    assert_eq!(read(&json!({})).unwrap(), base);
    assert_eq!(read(&json!({"num_beams": "x", "transformers_version": "5", "eos_token_id": null})).unwrap(), base);
    // without do_sample, what goes with it counts for nothing
    let sampling = json!({"temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8,
        "epsilon_cutoff": 0.01, "eta_cutoff": 0.02});
    assert_eq!(read(&sampling).unwrap(), base);
    let mut sampled = sampling;
    sampled["do_sample"] = json!(true);
    let want = GenerateOptions {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.9,
        min_p: 0.1,
        typical_p: 0.8,
        epsilon_cutoff: 0.01,
        eta_cutoff: 0.02,
        ..base.clone()
    };
    assert_eq!(read(&sampled).unwrap(), want);
    let bare = GenerateOptions { temperature: 1.0, top_k: 50, ..base.clone() };
    assert_eq!(read(&json!({"do_sample": true})).unwrap(), bare);
    // the rest
    let all = json!({"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "min_new_tokens": 4, "min_length": 9,
        "max_new_tokens": 77, "max_length": 500, "bos_token_id": 5, "eos_token_id": [6, 7], "pad_token_id": 8,
        "suppress_tokens": [9, 10], "bad_words_ids": [[11], [12, 13]], "sequence_bias": [[[14, 15], -1.5]],
        "stop_strings": ["a", "b"]});
    let want = GenerateOptions {
        repetition_penalty: 1.1,
        no_repeat_ngram_size: 3,
        min_new_tokens: 4,
        min_length: 9,
        max_new_tokens: 77,
        bos_token_id: Some(5),
        eos_token_id: vec![6, 7],
        pad_token_id: Some(8),
        suppress_tokens: vec![9, 10],
        bad_words_ids: vec![vec![11], vec![12, 13]],
        sequence_bias: vec![(vec![14, 15], -1.5)],
        stop_strings: vec!["a".into(), "b".into()],
        ..base.clone()
    };
    assert_eq!(read(&all).unwrap(), want);
    let length = |json| {
        let options = read(&json).unwrap();
        (options.max_new_tokens, options.max_length)
    };
    assert_eq!(length(json!({"max_length": 4096})), (usize::MAX, Some(4096)));
    assert_eq!(length(json!({"max_length": 20})), (256, None), "transformers' default is no choice");
    assert_eq!(read(&json!({"eos_token_id": []})).unwrap().eos_token_id, [0; 0], "none ends");
    let one = read(&json!({"stop_strings": "x", "eos_token_id": 3, "pad_token_id": -1})).unwrap();
    assert_eq!((one.stop_strings, one.eos_token_id, one.pad_token_id), (vec!["x".to_owned()], vec![3], None));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn wrong_fields_are_told_by_name() {
    for (field, value) in [
        ("do_sample", json!("yes")),
        ("temperature", json!("hot")),
        ("temperature", json!(1e9)),
        ("top_k", json!(-1)),
        ("top_k", json!(1.5)),
        ("top_p", json!(1.5)),
        ("min_p", json!([0.1])),
        ("typical_p", json!(0)),
        ("repetition_penalty", json!(true)),
        ("repetition_penalty", json!(1e300)),
        ("no_repeat_ngram_size", json!(1u64 << 40)),
        ("min_new_tokens", json!({})),
        ("max_new_tokens", json!(0)),
        ("max_length", json!("long")),
        ("eos_token_id", json!("</s>")),
        ("eos_token_id", json!([1, [2]])),
        ("eos_token_id", json!((0..65).collect::<Vec<_>>())),
        ("bos_token_id", json!(1u64 << 32)),
        ("suppress_tokens", json!([1, null])),
        ("bad_words_ids", json!([1, 2])),
        ("sequence_bias", json!([[[1], "x"]])),
        ("sequence_bias", json!({"(1,)": 2.0})),
        ("stop_strings", json!([1])),
        ("stop_strings", json!([""])),
    ] {
        let mut json = json!({"do_sample": true});
        json[field] = value.clone();
        match read(&json) {
            Err(GenerateError::Config { field: got, .. }) => assert_eq!(got, field, "{value}"),
            other => panic!("{field} {value}: {other:?}"),
        }
    }
    assert!(matches!(read(&json!([1])), Err(GenerateError::Config { .. })));
    let long = read(&json!({"stop_strings": vec![7; 1000]})).unwrap_err().to_string();
    assert!(long.len() < 200 && long.contains("generation_config.json"), "{long}");
}

/// From the folder to the defaults.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn a_session_has_its_models_defaults() {
    let open = async |json: Value| {
        let mut source = model().source();
        let webweft::source::Source::Memory(memory) = &mut source else { panic!("files in memory") };
        memory.insert("generation_config.json", serde_json::to_vec(&json).unwrap()).unwrap();
        Session::open(&device().await, &source, &F32, |_| ()).await
    };
    let session = open(json!({"do_sample": true, "top_p": 0.8, "min_new_tokens": 3, "bos_token_id": 4})).await.unwrap();
    let defaults = session.defaults();
    assert_eq!((defaults.temperature, defaults.top_k, defaults.top_p), (1.0, 50, 0.8));
    assert_eq!((defaults.min_new_tokens, defaults.bos_token_id), (3, Some(4)));
    let error = open(json!({"top_k": 1, "max_new_tokens": []})).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Config { field: "max_new_tokens", .. })), "{error}");
}

/// What a request says over what the session was given, over what the model's folder says.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn settings_of_a_session_go_between_file_and_request() {
    let map = |json: Value| json.as_object().cloned().unwrap();
    let mut source = model().source();
    let webweft::source::Source::Memory(memory) = &mut source else { panic!("files in memory") };
    let file = json!({"do_sample": true, "temperature": 0.5, "top_k": 3, "max_new_tokens": 7, "seed": 1});
    memory.insert("generation_config.json", serde_json::to_vec(&file).unwrap()).unwrap();
    let mut session = Session::open(&device().await, &source, &F32, |_| ()).await.unwrap();
    let settings = map(json!({"temperature": 0.25, "max_length": 20, "seed": 2, "eos_token_id": [5]}));
    session.set_settings(settings.clone()).unwrap();
    assert_eq!(session.settings(), &settings);
    let defaults = session.defaults();
    assert_eq!((defaults.temperature, defaults.top_k, defaults.seed), (0.25, 3, 2));
    assert_eq!((defaults.max_length, defaults.max_new_tokens), (Some(20), usize::MAX), "one limit goes over the other");
    assert_eq!(defaults.eos_token_id, [5]);
    assert_eq!(&session.options(&map(json!({})), false).unwrap(), defaults);
    let request = session.options(&map(json!({"max_new_tokens": 4, "seed": 3, "top_k": null})), false).unwrap();
    assert_eq!((request.temperature, request.top_k, request.seed), (0.25, 3, 3));
    assert_eq!((request.max_length, request.max_new_tokens), (None, 4));
    // what cannot be changes nothing, though it would count only with `do_sample`
    let error = session.set_settings(map(json!({"do_sample": false, "top_p": 7}))).unwrap_err();
    assert!(matches!(error, Error::Generate(GenerateError::Setting { name: "top_p", .. })), "{error}");
    assert_eq!(session.settings(), &settings);
}

/// Any JSON under any field: options that can be used, or an error that names one of the fields; never a panic.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn any_config_is_answered() {
    use proptest::prelude::*;
    use webweft::generate::Processors;
    const FIELDS: [&str; 22] = [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "repetition_penalty",
        "no_repeat_ngram_size",
        "min_new_tokens",
        "min_length",
        "max_new_tokens",
        "max_length",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "suppress_tokens",
        "bad_words_ids",
        "sequence_bias",
        "stop_strings",
        "do_sample",
        "unknown",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..40).prop_map(Value::from),
        (0.0..1.0).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from));
    let change = (prop::sample::select(&FIELDS[..]), value);
    proptest!(ProptestConfig::with_cases(3000), |(changes in prop::collection::vec(change, 1..4))| {
        let mut config = json!({"do_sample": true});
        for (field, value) in changes {
            config[field] = value;
        }
        match read(&config) {
            Ok(options) => {
                let sampling = options.sampling(3);
                if let Ok(Some(processors)) = Processors::new(&options, &sampling, &[1, 2, 3], 20) {
                    processors.process(&mut [0.5; 20], &sampling, &[1, 2, 3, 4], 1);
                }
            }
            Err(GenerateError::Config { field, .. }) => prop_assert!(config.get(field).is_some(), "{}", field),
            Err(other) => prop_assert!(false, "{}", other),
        }
    });
}
