//! Types of activations and cache: by what the adapter can do, and by what the types did not hold.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::device::{Capabilities, Tiles};
use webweft::managers::{Dtype, Overflow, PrecisionFacts, PrecisionWatch, activations, decide, resolve};
use webweft::site::{OpClass, Site};
use webweft::tensor::{CacheDtype, Elem};

/// An adapter that has nothing, one that has all, and a processor.
const ADAPTERS: [Capabilities; 3] = [
    Capabilities {
        shader_f16: false,
        subgroups: false,
        packed_dot: false,
        matrices: None,
        processor: false,
        timestamps: false,
        pipeline_cache: false,
    },
    Capabilities {
        shader_f16: true,
        subgroups: true,
        packed_dot: true,
        matrices: Some(Tiles::Matrices16),
        processor: false,
        timestamps: true,
        pipeline_cache: true,
    },
    Capabilities {
        shader_f16: true,
        subgroups: true,
        packed_dot: true,
        matrices: None,
        processor: true,
        timestamps: true,
        pipeline_cache: true,
    },
];

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn types_follow_from_weights_and_adapter() {
    let chosen = |dtype, cache, capabilities| {
        decide(&PrecisionFacts { dtype, cache, capabilities }).map(|decision| decision.chosen)
    };
    for adapter in ADAPTERS {
        // f16 is stored packed, which every adapter can; sums are f32 on all of them
        let products = if adapter.packed_dot { "packed" } else { "f32" };
        for dtype in Dtype::ALL {
            let elem = if dtype == Dtype::F32 { "f32" } else { "f16" };
            assert_eq!(chosen(dtype, None, adapter), [elem, elem, "f32", products], "{dtype:?} on {adapter:?}");
            assert_eq!(activations(dtype).0.name(), elem);
            for cache in CacheDtype::ALL {
                assert_eq!(chosen(dtype, Some(cache), adapter), [elem, cache.name(), "f32", products]);
            }
            let precision = resolve(dtype, 1, false);
            assert_eq!(PrecisionFacts::of(&precision, adapter).cache, None, "what follows was not asked for");
            let asked = precision.with_cache(Some(CacheDtype::Q4));
            assert_eq!(PrecisionFacts::of(&asked, adapter).cache, Some(CacheDtype::Q4));
        }
    }
    let reasons = |adapter| {
        decide(&PrecisionFacts { dtype: Dtype::Q4, cache: None, capabilities: adapter }).map(|decision| decision.reason)
    };
    let [nothing, all, _] = ADAPTERS.map(reasons);
    assert_eq!((nothing[0], nothing[1]), (all[0], all[1]));
    assert!(nothing[2] != all[2] && nothing[3] != all[3], "the adapter is a reason: {nothing:?}, {all:?}");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_outgrew_f16_keeps_f32() {
    let mut precision = resolve(Dtype::F16, 1, false).with_cache(Some(CacheDtype::Q8));
    let mut watch = PrecisionWatch::new(&PrecisionFacts::of(&precision, ADAPTERS[1]));
    watch.looked_at(40);
    let at = |class, layer| Site { class, layer };
    let mlp = at(OpClass::Mlp, Some(3));
    assert!(watch.found(&mut precision, mlp, 17));
    assert_eq!(precision.activations.mlp, Elem::F32);
    assert_eq!((precision.activations.norm, precision.activations.attention), (Elem::F16, Elem::F16));
    assert_eq!(precision.activations.to_string(), "norm f16, attention f16, mlp f32");
    // it has no more bits to give
    assert!(!watch.found(&mut precision, mlp, 20));
    assert!(watch.found(&mut precision, at(OpClass::Cache, Some(0)), 21));
    assert_eq!(precision.cache, CacheDtype::F32);
    assert!(watch.found(&mut precision, at(OpClass::Attention, Some(1)), 22));
    assert!(watch.found(&mut precision, at(OpClass::Norm, None), 23));
    assert!(!watch.found(&mut precision, at(OpClass::Head, None), 24), "logits are f32 always");
    assert_eq!(precision.activations, Elem::F32.into());
    assert_eq!(precision.activations.to_string(), "f32");

    let report = watch.report(&precision);
    assert_eq!(report.steps, 40);
    assert_eq!(report.demoted, [OpClass::Mlp, OpClass::Cache, OpClass::Attention, OpClass::Norm]);
    assert_eq!(report.overflows.len(), 5);
    assert_eq!(report.overflows[0], Overflow { site: mlp, position: 17, count: 2 });
    let told = report.to_json();
    assert_eq!(told["overflows"][1]["class"], "cache");
    assert_eq!((&told["overflows"][3]["layer"], &told["overflows"][2]["layer"]), (&serde_json::Value::Null, &1.into()));
    assert_eq!((told["cache"].as_str(), told["decisions"][1]["chosen"].as_str()), (Some("f32"), Some("q8")));
}
