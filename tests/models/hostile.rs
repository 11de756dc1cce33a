//! Checkpoints and configs that are wrong, or meant to harm: an error that names what is wrong, and nothing allocated for it.

use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{ConfigError, Error, WeightsError};
use webweft::managers::Dtype;
use webweft::models::ModelConfig;
use webweft::session::{LoadOptions, Session};

use super::reference_llama::{Shape, Synthetic};

fn model() -> Synthetic {
    let shape = Shape {
        hidden: 32,
        ff: 48,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        vocab: 64,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, Stored::F32, 1)
}

async fn refused(model: &Synthetic, dtype: Dtype) -> Error {
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    let result = Session::open(&device, &model.source(), &options, |_| ()).await;
    let error = result.map(|_| ()).expect_err("this must not load");
    let memory = device.ledger().snapshot();
    assert!(memory.total == 0 && memory.peak_total < 32 << 20, "{error}: {memory:?}");
    error
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn values_that_are_no_numbers_are_named() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"] {
            for stored in [Stored::F32, Stored::F16, Stored::BF16] {
                let mut model = model();
                model.dtype = stored;
                *model.tensors.get_mut(name).unwrap().1.last_mut().unwrap() = value;
                let dtype = if stored == Stored::F32 { Dtype::Q4 } else { Dtype::F32 };
                let error = refused(&model, dtype).await;
                let named = matches!(&error, Error::Weights(WeightsError::NotFinite { tensor }) if tensor == name);
                assert!(named, "{error}");
            }
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn values_beyond_f16_are_told_and_f32_takes_them() {
    let name = "model.layers.0.self_attn.q_proj.weight";
    let mut model = model();
    model.tensors.get_mut(name).unwrap().1[5] = 1e6;
    for dtype in [Dtype::F16, Dtype::Q4] {
        if dtype == Dtype::Q4 {
            // a q4 scale is an eighth of the greatest value
            model.tensors.get_mut(name).unwrap().1[5] = 1e7;
        }
        let error = refused(&model, dtype).await;
        assert!(matches!(&error, Error::Weights(WeightsError::Overflow { tensor }) if tensor == name), "{error}");
        assert!(error.to_string().contains("--dtype f32"), "{error}");
    }
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
    Session::open(&device, &model.source(), &options, |_| ()).await.unwrap();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn missing_misshaped_and_unreadable_tensors_are_named_together() {
    let mut broken = model();
    broken.tensors.remove("model.layers.0.mlp.up_proj.weight");
    broken.tensors.remove("model.norm.weight");
    broken.tensors.get_mut("model.layers.1.self_attn.k_proj.weight").unwrap().0 = vec![32, 16];
    let error = refused(&broken, Dtype::F32).await;
    let Error::Weights(WeightsError::Mismatch { missing, misshaped, .. }) = &error else { panic!("{error}") };
    assert_eq!(missing, &["model.layers.0.mlp.up_proj.weight", "model.norm.weight"]);
    assert_eq!(misshaped, &[("model.layers.1.self_attn.k_proj.weight".into(), vec![16, 32], vec![32, 16])]);
    let text = error.to_string();
    assert!(["up_proj", "model.norm", "[16, 32]", "[32, 16]"].iter().all(|part| text.contains(part)), "{text}");

    let mut integers = model();
    integers.dtype = Stored::I32; // four bytes, as f32 has
    let error = refused(&integers, Dtype::F32).await;
    let told = matches!(&error, Error::Weights(WeightsError::Mismatch { dtypes, .. }) if dtypes.len() == integers.tensors.len());
    assert!(told && error.to_string().contains("I32"), "{error}");

    // one tensor too many is no error, and is named
    let mut more = model();
    more.tensors.insert("model.layers.0.extra.weight".into(), (vec![3], vec![1.0; 3]));
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let session = Session::open(&device, &more.source(), &LoadOptions::default(), |_| ()).await.unwrap();
    assert_eq!(session.extra_tensors(), ["model.layers.0.extra.weight"]);
}

/// A config may claim any size: memory follows what the file holds.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn absurd_sizes_allocate_nothing() {
    for (field, value) in [
        ("hidden_size", json!(1 << 20)),
        ("intermediate_size", json!(1 << 22)),
        ("vocab_size", json!(1 << 24)),
        ("num_hidden_layers", json!(4096)),
    ] {
        let mut absurd = model();
        absurd.config[field] = value;
        absurd.config["head_dim"] = json!(16);
        let error = refused(&absurd, Dtype::F32).await;
        assert!(matches!(error, Error::Weights(WeightsError::Mismatch { .. })), "{field}: {error}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn configs_that_make_no_sense_are_refused_by_field() {
    let with = |field: &str, value: Value| {
        let mut config = model().config;
        config[field] = value;
        ModelConfig::from_json(&config)
    };
    for (field, value) in [
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(-3)),
        ("hidden_size", json!(1u64 << 40)),
        ("hidden_size", json!("large")),
        ("hidden_size", json!(3.5)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(7)), // does not divide 32
        ("num_key_value_heads", json!(3)), // does not divide 2
        ("head_dim", json!(257)),
        ("head_dim", json!(7)), // odd
        ("vocab_size", json!([1])),
        ("rms_norm_eps", json!(-1)),
        ("tie_word_embeddings", json!("yes")),
        ("rope_theta", json!(0)),
        ("eos_token_id", json!("</s>")),
        ("rope_scaling", json!(3)),
    ] {
        let error = with(field, value.clone()).expect_err(field);
        assert!(matches!(&error, ConfigError::Field { .. }), "{field} {value}: {error}");
        assert!(error.to_string().contains(if value == json!(3) && field == "num_key_value_heads" {
            field
        } else {
            "config.json"
        }));
    }
    let axial = with("rope_scaling", json!({"rope_type": "axial", "factor": 4.0})).unwrap_err();
    assert!(matches!(&axial, ConfigError::Unsupported { got, .. } if got == "axial"), "{axial}");
    let mish = with("hidden_act", json!("mish")).unwrap_err();
    assert!(matches!(&mish, ConfigError::Unsupported { got, .. } if got == "mish"), "{mish}");
    let other = with("model_type", json!("t5")).unwrap_err();
    assert!(other.to_string().contains("t5") && other.to_string().contains("llama"), "{other}");
    for no_object in [json!([]), json!(null), json!("llama"), json!(7)] {
        assert!(ModelConfig::from_json(&no_object).is_err());
    }
    // old and new style say the same
    let new = with("rope_theta", json!(1.0)).unwrap();
    let mut old = model().config;
    old.as_object_mut().unwrap().remove("rope_parameters");
    old["rope_theta"] = json!(20000.0);
    old["rope_scaling"] = Value::Null;
    assert_eq!(ModelConfig::from_json(&old).unwrap(), new);
}

/// Any JSON under any field: an error or a config, never a panic.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn any_config_is_answered() {
    use proptest::prelude::*;
    let fields: Vec<String> = model().config.as_object().unwrap().keys().cloned().collect();
    let extra = ["head_dim", "rope_scaling", "quantization_config", "partial_rotary_factor", "hidden_act"];
    let fields: Vec<String> = fields.into_iter().chain(extra.map(String::from)).collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let kinds = ["linear", "dynamic", "llama3", "yarn", "longrope"].map(Value::from).to_vec();
    let leaf = prop_oneof![4 => leaf, 1 => prop::sample::select(kinds)];
    let value = leaf.prop_recursive(2, 8, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("(rope_type|rope_theta|factor|type|x)", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    let change = (prop::sample::select(fields), value);
    proptest!(ProptestConfig::with_cases(2000), |(changes in prop::collection::vec(change, 1..4))| {
        let mut config = model().config;
        for (field, value) in changes {
            config[field] = value;
        }
        if let Ok(ModelConfig::Decoder(config)) = ModelConfig::from_json(&config) {
            for (rope, length) in config.ropes.iter().flat_map(|rope| [1, 3000, 1 << 28].map(|length| (rope, length))) {
                let (inv_freq, factor) = rope.inv_freq(config.heads.rotary, rope.regime(length));
                prop_assert!(factor.is_finite() && inv_freq.iter().all(|f| f.is_finite()));
            }
        }
    });
}
