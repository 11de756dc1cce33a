//! Quantized checkpoints that are damaged, or say what is not so: each is answered by an error that names tensor or setting.

use std::collections::HashMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{ConfigError, Error, QuantError, WeightsError};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Memory, Source};

use super::json as read_json;
use crate::common::{device, read_shared};

/// A folder of `tests/quantized`, to be spoilt.
struct Model {
    config: Value,
    tensors: HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Model {
    async fn of(name: &str) -> Self {
        let bytes = read_shared(&format!("quantized/{name}/model.safetensors")).await.unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, t): (String, TensorView<'_>)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()));
        let tensors = file.tensors().into_iter().map(tensor).collect();
        Self { config: read_json(&format!("quantized/{name}/config.json")).await, tensors }
    }

    /// The first tensor whose name ends so.
    fn name(&self, suffix: &str) -> String {
        self.tensors.keys().filter(|name| name.ends_with(suffix)).min().expect("there is one").clone()
    }

    fn tensor(&mut self, suffix: &str) -> &mut (Dtype, Vec<usize>, Vec<u8>) {
        let name = self.name(suffix);
        self.tensors.get_mut(&name).expect("it is there")
    }

    async fn open(&self) -> Error {
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("it is a tensor"))
        });
        let mut memory = Memory::new();
        memory.insert("config.json", self.config.to_string().into_bytes()).unwrap();
        memory.insert("model.safetensors", safetensors::serialize(views, None).unwrap()).unwrap();
        let source = Source::Memory(memory);
        Session::open(&device().await, &source, &LoadOptions::default(), |_| ()).await.map(|_| ()).expect_err("spoilt")
    }
}

/// Spoils a model and expects an error that says so.
async fn refused(name: &str, spoil: impl FnOnce(&mut Model), says: &[&str]) -> Error {
    let mut model = Model::of(name).await;
    spoil(&mut model);
    let error = model.open().await;
    let text = error.to_string();
    assert!(says.iter().all(|word| text.contains(word)), "{name}: {text:?} lacks one of {says:?}");
    error
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn gptq_and_awq() {
    for (column, group) in [(5, 99_i32), (0, -1), (63, 1 << 30)] {
        let spoil = |model: &mut Model| {
            model.tensor(".g_idx").2[4 * column..4 * column + 4].copy_from_slice(&group.to_le_bytes());
        };
        let error = refused("gptq_8bit_act", spoil, &["g_idx", "group", &group.to_string(), "damaged"]).await;
        assert!(matches!(error, Error::Quant(QuantError::GroupIndex { .. })), "{error}");
    }
    // groups that are no neighbours, and no desc_act
    let swap = |model: &mut Model| model.tensor(".g_idx").2[..4].copy_from_slice(&1_i32.to_le_bytes());
    let error = refused("gptq_tail", swap, &["g_idx", "column 0", "desc_act"]).await;
    assert!(matches!(error, Error::Quant(QuantError::Unordered { .. })), "{error}");
    let halve = |suffix: &'static str| {
        move |model: &mut Model| {
            let (_, shape, bytes) = model.tensor(suffix);
            shape[1] /= 2;
            bytes.truncate(bytes.len() / 2);
        }
    };
    for suffix in [".qzeros", ".scales", ".qweight"] {
        for name in ["gptq_v2", "awq_g32"] {
            let error = refused(name, halve(suffix), &[suffix, "expected"]).await;
            assert!(matches!(error, Error::Quant(QuantError::Shape { .. })), "{error}");
        }
    }
    for suffix in [".scales", ".qzeros"] {
        let remove = |model: &mut Model| drop(model.tensors.remove(&model.name(suffix)));
        refused("gptq_v2", remove, &[suffix, "missing"]).await;
    }
    let remove = |model: &mut Model| drop(model.tensors.remove(&model.name(".g_idx")));
    refused("gptq_8bit_act", remove, &["g_idx", "missing"]).await;
    let floats = |model: &mut Model| model.tensor(".qweight").0 = Dtype::F32;
    refused("gptq_v2", floats, &["qweight", "F32", "I32"]).await;
    let infinite = |model: &mut Model| model.tensor(".scales").2[..2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    let error = refused("gptq_v2", infinite, &["scales", "infinite"]).await;
    assert!(matches!(error, Error::Weights(WeightsError::NotFinite { .. })), "{error}");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn bitsandbytes() {
    for suffix in ["weight.nested_absmax", "weight.nested_quant_map", "weight.absmax", "bitsandbytes__fp4"] {
        let remove = |model: &mut Model| drop(model.tensors.remove(&model.name(suffix)));
        let named = suffix.trim_start_matches("weight.").replace("bitsandbytes__fp4", "quant_state");
        refused("bnb_fp4_nested", remove, &["missing", &named]).await;
    }
    let edit = |key: &'static str, value: Value| {
        move |model: &mut Model| {
            let (_, shape, bytes) = model.tensor("bitsandbytes__fp4");
            let mut state: Value = serde_json::from_slice(bytes).unwrap();
            state[key] = value;
            *bytes = state.to_string().into_bytes();
            *shape = vec![bytes.len()];
        }
    };
    for (key, value) in [
        ("blocksize", json!(0)),
        ("blocksize", json!(63)),
        ("blocksize", json!(1_u64 << 40)),
        ("blocksize", Value::Null),
        ("shape", json!([64, 63])),
        ("shape", json!("x")),
        ("nested_offset", Value::Null),
        ("nested_blocksize", json!(0)),
    ] {
        let error = refused("bnb_fp4_nested", edit(key, value), &["quant_state", &key[..5]]).await;
        assert!(matches!(error, Error::Quant(QuantError::State { .. })), "{error}");
    }
    // half as many blocks as there are statistics
    refused("bnb_fp4_nested", edit("blocksize", json!(128)), &["absmax", "expected"]).await;
    let garbage = |model: &mut Model| model.tensor("bitsandbytes__fp4").2.fill(b'{');
    refused("bnb_fp4_nested", garbage, &["quant_state"]).await;
    let table = |model: &mut Model| model.tensor("weight.quant_map").2[4..8].copy_from_slice(&9.0_f32.to_le_bytes());
    refused("bnb_fp4", table, &["quant_map", "table"]).await;
    let short = |model: &mut Model| {
        let name = model.name("down_proj.weight");
        let (_, shape, bytes) = model.tensors.get_mut(&name).expect("it is there");
        bytes.pop();
        shape[0] -= 1;
    };
    refused("bnb_fp4", short, &["down_proj.weight", "expected"]).await;
    let scb = |model: &mut Model| drop(model.tensors.remove(&model.name(".SCB")));
    refused("bnb_int8", scb, &["SCB", "missing"]).await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn compressed_and_fp8() {
    for (name, suffix) in
        [("ct_w4_asym", "weight_scale"), ("ct_w4_asym", "weight_zero_point"), ("fp8_block_odd", "weight_scale_inv")]
    {
        let spoil = |model: &mut Model| {
            let (_, shape, bytes) = model.tensor(suffix);
            let row = bytes.len() / shape[0];
            shape[0] += 3;
            bytes.extend(vec![0; 3 * row]);
        };
        let error = refused(name, spoil, &[suffix, "expected"]).await;
        assert!(matches!(error, Error::Quant(QuantError::Shape { .. })), "{error}");
        let remove = |model: &mut Model| drop(model.tensors.remove(&model.name(suffix)));
        if suffix != "weight_zero_point" {
            refused(name, remove, &["missing"]).await;
        }
    }
    let beyond = |model: &mut Model| model.tensor("weight_g_idx").2[..4].copy_from_slice(&77_i32.to_le_bytes());
    refused("ct_w4_actorder", beyond, &["weight_g_idx", "77"]).await;
    let nan = |model: &mut Model| {
        let name = model.name("down_proj.weight");
        model.tensors.get_mut(&name).expect("it is there").2[9] = 0xff;
    };
    let error = refused("fp8_tensor", nan, &["down_proj.weight", "NaN"]).await;
    assert!(matches!(error, Error::Weights(WeightsError::NotFinite { .. })), "{error}");
    let shape = |model: &mut Model| model.config["quantization_config"]["weight_block_size"] = json!([32, 32]);
    refused("fp8_block_odd", shape, &["weight_scale_inv", "expected"]).await;
}

/// Settings that make no sense, or that there is nothing for.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn settings() {
    let edit =
        |key: &'static str, value: Value| move |model: &mut Model| model.config["quantization_config"][key] = value;
    for (name, key, value, says) in [
        ("gptq_v2", "group_size", json!(0), "group_size 0"),
        ("gptq_v2", "group_size", json!(-2), "group_size -2"),
        ("gptq_v2", "group_size", json!("x"), "group_size"),
        ("gptq_v2", "group_size", Value::Null, "group_size"),
        ("gptq_v2", "bits", json!(3), "bits 3"),
        ("gptq_v2", "checkpoint_format", json!("marlin"), "marlin"),
        ("gptq_v2", "quant_method", json!("quark"), "quark"),
        ("gptq_v2", "quant_method", json!(7), "quant_method"),
        ("awq_g32", "version", json!("gemv"), "gemv"),
        ("awq_g32", "group_size", json!(0), "group_size 0"),
        ("ct_w4_asym", "format", json!("marlin-24"), "marlin-24"),
        ("ct_w4_asym", "sparsity_config", json!({"format": "sparse-24-bitmask"}), "sparse-24"),
        ("fp8_block_odd", "weight_block_size", json!([0, 128]), "weight_block_size"),
        ("fp8_block_odd", "weight_block_size", json!(7), "weight_block_size"),
        ("bitnet_odd", "quantization_mode", json!("online"), "online"),
        ("bitnet_odd", "quantization_mode", json!(1), "quantization_mode"),
        ("bitnet_odd", "linear_class", json!("trilinear"), "trilinear"),
        ("bitnet_odd", "use_rms_norm", json!(true), "use_rms_norm"),
    ] {
        let error = refused(name, edit(key, value), &["quantization_config", says]).await;
        assert!(matches!(error, Error::Config(ConfigError::Field { .. } | ConfigError::Unsupported { .. })), "{error}");
    }
    // other groups than the file has
    refused("gptq_v2", edit("group_size", json!(16)), &["scales", "expected"]).await;
    refused("awq_g32", edit("group_size", json!(-1)), &["scales", "expected"]).await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn bitnet() {
    let remove = |model: &mut Model| drop(model.tensors.remove(&model.name("q_proj.weight_scale")));
    refused("bitnet_odd", remove, &["q_proj.weight_scale", "missing"]).await;
    let longer = |suffix: &'static str| {
        move |model: &mut Model| {
            let (_, shape, bytes) = model.tensor(suffix);
            let row = bytes.len() / shape[0];
            shape[0] += 1;
            bytes.extend(vec![0; row]);
        }
    };
    for suffix in ["k_proj.weight", "gate_proj.weight", "up_proj.weight_scale"] {
        let error = refused("bitnet_odd", longer(suffix), &[suffix, "expected"]).await;
        assert!(matches!(error, Error::Quant(QuantError::Shape { .. })), "{error}");
    }
    let typed = |suffix: &'static str, dtype| move |model: &mut Model| model.tensor(suffix).0 = dtype;
    refused("bitnet_odd", typed("q_proj.weight", Dtype::I8), &["q_proj.weight", "I8", "U8"]).await;
    refused("bitnet_odd", typed("q_proj.weight_scale", Dtype::I16), &["q_proj.weight_scale", "I16"]).await;
    let halved = |model: &mut Model| {
        // whole weights beside a scale: not what is packed
        let (dtype, shape, bytes) = model.tensor("down_proj.weight");
        (*dtype, *shape, *bytes) = (Dtype::BF16, vec![36, 50], vec![0; 3600]);
    };
    refused("bitnet_odd", halved, &["down_proj.weight", "expected"]).await;
    let scale =
        |bits: u16| move |model: &mut Model| model.tensor("o_proj.weight_scale").2.copy_from_slice(&bits.to_le_bytes());
    for bits in [0x7f80, 0xff80, 0x7fc0] {
        let error = refused("bitnet_odd", scale(bits), &["weight_scale", "NaN"]).await;
        assert!(matches!(error, Error::Weights(WeightsError::NotFinite { .. })), "{error}");
    }
    // in f16 there: nothing is divided by zero
    let error = refused("bitnet_divides", scale(0), &["o_proj.weight_scale"]).await;
    assert!(matches!(error, Error::Weights(WeightsError::NotFinite { .. })), "{error}");
    // biases that a scale would multiply
    let class = |model: &mut Model| model.config["quantization_config"]["linear_class"] = json!("autobitlinear");
    let error = refused("bitnet_divides", class, &["q_proj.bias", "autobitlinear"]).await;
    assert!(matches!(error, Error::Quant(QuantError::State { .. })), "{error}");
}

/// Any `quantization_config` is read or refused.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn any_settings_are_answered() {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            "gptq",
            "awq",
            "bitnet",
            "bitsandbytes",
            "compressed-tensors",
            "fp8",
            "webweft",
            "int",
            "gemm"
        ])
        .prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let keys = prop::sample::select(vec![
            "bits",
            "group_size",
            "quant_method",
            "weights",
            "input_activations",
            "format",
            "version",
            "config_groups",
            "weight_block_size",
            "num_bits",
            "sparsity_config",
            "linear_class",
            "quantization_mode",
            "desc_act",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    });
    proptest!(ProptestConfig::with_cases(400), |(json in value)| {
        let _ = webweft::quant::Quantization::from_json(&json);
    });
}
