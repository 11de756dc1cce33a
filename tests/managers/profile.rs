//! Profiles: what they say, in whose names, and what is said of keys and values that mean nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{GenerateError, ProfileError};
use webweft::generate::GenerateOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::managers::{Dtype, Profile};
use webweft::tensor::CacheDtype;

fn told(json: &Value) -> String {
    Profile::from_json(json).expect_err(&json.to_string()).to_string()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_profile_says_how_a_model_is_opened_and_generates() {
    let profile = Profile::from_json(&json!({
        "model": "org/name", "revision": "v1", "gguf_file": "Q8_0", "torch_dtype": "auto", "quantization": "q4a",
        "max_memory": "3.8GB", "gpu_layers": 0, "context": 4096, "prefill_chunk_size": 256, "cache_dtype": "q8",
        "cache_policy": "window:512", "batch_strategy": "fixed:8", "max_new_tokens": 100, "temperature": null,
        "generation_config": {"max_new_tokens": 50, "do_sample": true, "top_k": 5},
    }));
    let want = Profile {
        model: Some("org/name".into()),
        revision: Some("v1".into()),
        gguf_file: Some("Q8_0".into()),
        dtype: Some(Dtype::Q4a),
        max_memory: Some(3_800_000_000),
        gpu_layers: Some(0),
        context: Some(4096),
        prefill_chunk: Some(256),
        cache_dtype: Some(CacheDtype::Q8),
        cache_policy: CachePolicy::from_name("window:512"),
        batch_strategy: "fixed:8".parse().ok(),
        generation: json!({"max_new_tokens": 100, "do_sample": true, "top_k": 5}).as_object().cloned().unwrap(),
    };
    let profile = profile.unwrap();
    assert_eq!(profile, want);
    assert_eq!(Profile::from_json(&json!({})).unwrap(), Profile::default());
    // what is of one model is not of another
    assert_eq!(profile.clone().of_model("org/name"), want);
    let other = profile.of_model("org/other");
    assert_eq!((other.revision, other.gguf_file, other.dtype), (None, None, Some(Dtype::Q4a)));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn dtype_and_quantization_come_to_one_dtype() {
    let of = |json: Value| Profile::from_json(&json).unwrap().dtype;
    for (name, dtype) in [
        ("auto", Dtype::Auto),
        ("float32", Dtype::F32),
        ("torch.float16", Dtype::F16),
        ("bfloat16", Dtype::F16),
        ("f32", Dtype::F32),
        ("q4", Dtype::Q4),
        ("nf4", Dtype::Nf4),
    ] {
        assert_eq!(of(json!({ "torch_dtype": name })), Some(dtype), "{name}");
        assert_eq!(of(json!({ "dtype": name })), Some(dtype), "{name}");
    }
    assert_eq!(of(json!({"quantization": "q8"})), Some(Dtype::Q8));
    assert_eq!(of(json!({"quantization": "none"})), Some(Dtype::F16));
    assert_eq!(of(json!({"quantization": "none", "dtype": "float32"})), Some(Dtype::F32));
    assert_eq!(of(json!({"quantization": "nf4", "dtype": "bfloat16"})), Some(Dtype::Nf4));
    let bits = |config: Value| of(json!({ "quantization_config": config, "torch_dtype": "auto" }));
    assert_eq!(bits(json!({"load_in_8bit": true})), Some(Dtype::Q8));
    assert_eq!(bits(json!({"load_in_4bit": true, "quant_method": "bitsandbytes"})), Some(Dtype::Q4));
    let nf4 = json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "torch.bfloat16",
        "bnb_4bit_use_double_quant": false});
    assert_eq!(bits(nf4), Some(Dtype::Nf4));
    assert_eq!(bits(json!({"load_in_4bit": false})), Some(Dtype::Auto));

    assert!(told(&json!({"quantization": "q4", "torch_dtype": "float32"})).starts_with("`torch_dtype` is \"float32\""));
    assert!(told(&json!({"dtype": "q8", "quantization": "q4"})).contains("`dtype` is \"q8\", expected auto, float16"));
    assert!(told(&json!({"dtype": "auto", "torch_dtype": "auto"})).contains("one setting"));
    assert!(told(&json!({"quantization": "q4", "quantization_config": {}})).contains("one setting"));
    let both = json!({"quantization_config": {"load_in_4bit": true, "load_in_8bit": true}});
    assert!(told(&both).contains("`load_in_4bit` and `load_in_8bit`"));
    let fp4 = told(&json!({"quantization_config": {"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}}));
    assert_eq!(fp4, "`quantization_config.bnb_4bit_quant_type` is \"fp4\", expected nf4");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn memory_is_that_of_the_one_gpu() {
    let of = |memory: Value| Profile::from_json(&json!({ "max_memory": memory })).map(|profile| profile.max_memory);
    assert_eq!(of(json!("512MiB")).unwrap(), Some(512 << 20));
    assert_eq!(of(json!(1000)).unwrap(), Some(1000));
    assert_eq!(of(json!({"0": "2GB"})).unwrap(), Some(2_000_000_000));
    for wrong in [json!({"0": "2GB", "cpu": "8GB"}), json!({"1": "2GB"}), json!({"cpu": 1}), json!(0), json!("much")] {
        let error = of(wrong).unwrap_err().to_string();
        assert!(error.starts_with("`max_memory` is ") && error.contains("{0: 3.8GB}"), "{error}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn keys_that_mean_nothing_are_all_named() {
    let json = json!({"max_new_token": 1, "maxNewTokens": 1, "top-k": 2, "colour": "red", "context": 8,
        "generation_config": {"temprature": 1, "revision": "v1"}, "device_map": "cuda"});
    let near = |key: &str, near| (key.to_owned(), near);
    let keys = vec![
        near("max_new_token", Some("max_new_tokens")),
        near("maxNewTokens", Some("max_new_tokens")),
        near("top-k", Some("top_k")),
        near("colour", None),
        near("generation_config.temprature", Some("temperature")),
        // it is no setting of generations
        near("generation_config.revision", None),
    ];
    assert_eq!(Profile::from_json(&json), Err(ProfileError::Unknown { keys }));
    assert_eq!(
        told(&json!({"top_n": 1, "x": 1})),
        "there is no key `top_n` (did you mean `top_k`?); there is no key `x`"
    );
    let bits = told(&json!({"quantization_config": {"load_in_4bits": true}}));
    assert_eq!(bits, "there is no key `quantization_config.load_in_4bits` (did you mean `load_in_4bit`?)");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn keys_of_others_are_told_what_to_do_instead() {
    let fails = |json: Value, words: &str| {
        let error = told(&json);
        assert!(error.contains("is not supported: ") && error.contains(words), "{error}");
    };
    fails(json!({"device_map": {"": 0}}), "`gpu_layers`");
    fails(json!({"max_tokens": 5}), "`max_new_tokens`");
    fails(json!({"num_beams": 4}), "`num_beams`");
    fails(json!({"generation_config": {"num_beams": 4}}), "`generation_config.num_beams`");
    fails(json!({"trust_remote_code": true}), "never run");
    // what is so anyway
    let neutral = json!({"device_map": "auto", "num_beams": 1, "use_cache": true, "trust_remote_code": false, "max_time": null,
        "generation_config": {"num_return_sequences": 1, "length_penalty": 1.0}});
    assert_eq!(Profile::from_json(&neutral).unwrap(), Profile::default());
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn wrong_values_are_told_by_key() {
    for (json, want) in [
        (json!([1]), "`the profile` is [1], expected a mapping of keys and values"),
        (json!(null), "`the profile` is null, expected a mapping of keys and values"),
        (json!({"generation_config": 3}), "`generation_config` is 3, expected a mapping of keys and values"),
        (json!({"model": 7}), "`model` is 7, expected a text"),
        (json!({"revision": ""}), "`revision` is \"\", expected a text"),
        (json!({"context": "long"}), "`context` is \"long\", expected a whole number of at least 1"),
        (json!({"context": 0}), "`context` is 0, expected a whole number of at least 1"),
        (json!({"gpu_layers": -1}), "`gpu_layers` is -1, expected a whole number"),
        (json!({"prefill_chunk_size": 1.5}), "`prefill_chunk_size` is 1.5, expected a whole number of at least 1"),
        (json!({"cache_dtype": "nf4"}), "`cache_dtype` is \"nf4\", expected f32, f16, q8 or q4"),
        (json!({"quantization": "f16"}), "`quantization` is \"f16\", expected q8, q4a, q4, nf4 or none"),
    ] {
        assert_eq!(told(&json), want);
    }
    for key in ["torch_dtype", "cache_policy", "batch_strategy", "max_memory", "gguf_file", "quantization_config"] {
        let error = told(&json!({ key: true }));
        assert!(error.starts_with(&format!("`{key}` is true, expected ")), "{error}");
    }
    let long = told(&json!({ "model": vec![7; 1000] }));
    assert!(long.len() < 120 && long.contains("..."), "{long}");
}

/// What a profile passes on is what the options of a generation know: neither more nor less.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn settings_of_generations_are_those_that_there_are() {
    let shown = format!("{:#?}", GenerateOptions::default());
    let fields = shown.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": ")).map(|(name, _)| name);
    let mut fields: BTreeSet<&str> = fields.collect();
    fields.insert("do_sample");
    let passed = |key: &&str| {
        let json = Profile::from_json(&json!({ *key: "nonsense" }));
        json.is_ok_and(|profile| profile.generation.contains_key(*key))
    };
    assert_eq!(Profile::keys().filter(passed).collect::<BTreeSet<_>>(), fields);
    for field in fields.iter().filter(|&&field| field != "stop_strings") {
        let settings = json!({ *field: "nonsense" });
        let error = GenerateOptions::check_settings(settings.as_object().unwrap()).unwrap_err();
        assert!(matches!(error, GenerateError::Setting { name, .. } if name == *field), "{error}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_page_on_profiles_has_every_key() {
    let page = include_str!("../../docs/profiles.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let documented: Vec<_> = rows.flat_map(|(keys, _)| keys.split(", ").map(|key| key.trim_matches('`'))).collect();
    let mut expected: Vec<_> = Profile::keys().collect();
    let mut sorted = documented.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}
