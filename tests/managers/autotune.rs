//! Kernels are tested before they are trusted, and the fastest is taken.

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::{Device, DeviceOptions, Kernels, Sums, Tiles};
use webweft::managers::autotune::{BUDGET, KernelReport, RUNS};
use webweft::managers::{Variant, self_test, trusted};

use crate::common::{device, gpu_device, portable_device, report};

/// Every variant that an adapter has computes what it should.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_an_adapter_has_is_right() {
    for device in [device().await, gpu_device().await, portable_device().await] {
        let has = device.capabilities();
        let verdicts = self_test(&device, None).await.expect("it is tested");
        let tested = |variant| verdicts.iter().any(|verdict| verdict.variant == variant);
        assert_eq!(tested(Variant::Subgroups), has.subgroups && !has.processor);
        assert_eq!(tested(Variant::PackedDot), has.packed_dot);
        assert_eq!(tested(Variant::F16Tiles), has.shader_f16 && !has.processor);
        assert_eq!(tested(Variant::Matrices), has.matrices.is_some() && !has.processor);
        assert!(verdicts.iter().all(|verdict| verdict.wrong.is_none()), "{verdicts:?}");
        assert_eq!(trusted(&device, &verdicts), Kernels::of(&has));
    }
}

/// Another takes the place of one that is wrong, whichever it is, and no measurement brings it back.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_is_wrong_is_struck_out() {
    for device in [device().await, gpu_device().await] {
        for variant in [Variant::Subgroups, Variant::PackedDot, Variant::F16Tiles, Variant::Matrices] {
            let verdicts = self_test(&device, Some(variant)).await.expect("it is tested");
            let Some(verdict) = verdicts.iter().find(|verdict| verdict.variant == variant) else { continue };
            assert!(verdict.wrong.is_some());
            let of = |kernels: Kernels| match variant {
                Variant::Subgroups => [kernels.sums, kernels.norms].contains(&Sums::Subgroups),
                Variant::PackedDot => kernels.packed_dot,
                Variant::F16Tiles => kernels.tiles == Tiles::F16,
                Variant::Matrices => matches!(kernels.tiles, Tiles::Matrices8 | Tiles::Matrices16),
            };
            let mut report = KernelReport::new(&device, verdicts);
            assert!(!of(report.kernels), "{variant:?}: {report:?}");
            report.measure(&device, BUDGET, RUNS).await.expect("it is measured");
            assert!(!of(report.kernels), "{variant:?}: {report:?}");
            assert!(report.is_of(&device));
        }
    }
}

/// What is measured is among the candidates, the static choice stays where nothing is clearly faster, and without time nothing is measured.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn the_fastest_is_taken() {
    // of its own: kernels are set
    let device = Device::open(&DeviceOptions::default()).await.expect("an adapter");
    let verdicts = self_test(&device, None).await.expect("it is tested");
    let untouched = KernelReport::new(&device, verdicts);
    let mut none = untouched.clone();
    none.measure(&device, Duration::ZERO, RUNS).await.expect("nothing to measure");
    assert_eq!((none.kernels, none.measured.len(), none.is_tuned), (untouched.kernels, 0, true));
    let mut report = untouched.clone();
    // time enough, whatever else runs
    report.measure(&device, 30 * BUDGET, RUNS).await.expect("it is measured");
    if device.capabilities().packed_dot && device.capabilities().timestamps {
        assert!(!report.measured.is_empty(), "{report:?}");
    }
    for measured in &report.measured {
        let times: Vec<f64> = measured.candidates.iter().map(|(_, us)| us[1]).collect();
        assert!(times.len() >= 2 && times.iter().all(|us| *us > 0.0), "{measured:?}");
        let chosen = times[measured.chosen];
        assert!(measured.chosen == 0 || chosen < 0.95 * times[0], "{measured:?}");
    }
    if report.measured.iter().all(|measured| measured.chosen == 0) {
        assert_eq!(report.kernels, untouched.kernels);
    }
    device.set_kernels(report.kernels);
    assert_eq!(device.kernels(), report.kernels);
    let json = serde_json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<KernelReport>(&json).expect("the same"), report);
    assert!(report.is_of(&device) && !KernelReport { driver: "other".into(), ..report.clone() }.is_of(&device));
    assert!(!KernelReport { version: "0".into(), ..report }.is_of(&device));
}

/// What was chosen, beside the static choice in 200 alternating runs: not slower by more than these vary.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[ignore = "a measurement: of a machine on which nothing else runs"]
async fn what_was_chosen_is_not_slower() {
    for device in [device().await, gpu_device().await] {
        let mut short = KernelReport::new(&device, self_test(&device, None).await.expect("it is tested"));
        let mut again = short.clone();
        short.measure(&device, BUDGET, RUNS).await.expect("it is measured");
        again.measure(&device, 100 * BUDGET, 200).await.expect("it is measured");
        for chosen in &short.measured {
            let Some(long) = again.measured.iter().find(|long| long.what == chosen.what) else { continue };
            // which one a choice compares with goes by the choices before it
            let of = |name: &String| long.candidates.iter().find(|(other, _)| other == name).map(|(_, us)| *us);
            let names = [&chosen.candidates[0].0, &chosen.candidates[chosen.chosen].0];
            let [Some(fixed), Some(taken)] = names.map(of) else { continue };
            report(&format!("{}: {:?} us, {} taken, {:?} us", long.what, fixed, names[1], taken));
            assert!(taken[1] <= fixed[1] + (fixed[2] - fixed[0]), "{chosen:?} {long:?}");
        }
    }
}
