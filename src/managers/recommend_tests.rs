use super::*;
use crate::managers::{CacheShape, Traffic};

const GIB: u64 = 1 << 30;

/// A model of `f16` bytes in f16, 1 MiB of cache for 8 positions at f16, and 100 MiB of activations.
fn footprints(f16: u64) -> Vec<Footprint> {
    let bits = |dtype| match dtype {
        Dtype::F32 => 32.0,
        Dtype::F16 => 16.0,
        Dtype::Q8 => 8.5,
        Dtype::Q4a => 5.0,
        _ => 4.5,
    };
    (Dtype::ALL.into_iter())
        .map(|dtype| {
            let weights = (f16 as f64 * bits(dtype) / 16.0) as u64;
            let wide = if dtype == Dtype::F32 { 2 } else { 1 };
            let cache = CacheShape {
                per_position: 2048 * wide,
                hot: 0,
                buffers: 64,
                windowed: 0,
                window: 0,
                trained: 32_768,
                most: u32::MAX,
            };
            let traffic =
                Traffic { weights, parameters: f16 / 2, cache_per_layer: 4096 * wide, layers: 32, windows: Vec::new() };
            let (tables, activations, staging) = (0, 100 << 20, 12 << 20);
            let (largest_buffer, max_binding, refused) = (1, 1 << 40, None);
            Footprint {
                dtype,
                weights,
                largest_buffer,
                layers: vec![vec![weights / 40, weights / 160]; 32],
                tables,
                cache,
                activations,
                staging,
                traffic,
                max_binding,
                refused,
            }
        })
        .collect()
}

fn told(f16: u64, unbounded: Dtype, wanted: Wanted) -> Recommendation {
    recommend(&Facts { footprints: &footprints(f16), unbounded, quantized: None, wanted })
}

fn within(f16: u64, budget: u64, context: Option<u32>) -> Recommendation {
    told(f16, Dtype::Q4, Wanted { budget: Some(budget), context, ..Wanted::default() })
}

#[test]
fn without_a_budget_auto_is_what_it_was() {
    for (unbounded, word) in [(Dtype::F32, "exact"), (Dtype::F16, "4 GiB stay"), (Dtype::Q4, "f16 would be 14.0 GiB")] {
        let told = told(14 * GIB, unbounded, Wanted::default());
        assert_eq!(told.dtype, Some(unbounded.name()));
        assert!(told.reason.starts_with(unbounded.name()) && told.reason.contains(word), "{}", told.reason);
        assert!(told.formats.iter().all(|f| f.fits && f.why_not.is_none()));
        assert_eq!(told.formats.iter().map(|f| f.context).max(), Some(8192), "1 GiB of cache");
    }
}

#[test]
fn a_budget_takes_the_best_quality_that_it_holds() {
    // 4096 positions take 512 MiB
    let extra = (512 + 100) << 20;
    let f = footprints(14 * GIB);
    let needs = |dtype| f.iter().find(|f| f.dtype == dtype).map_or(0, |f| f.weights) + extra;
    let became = |budget| within(14 * GIB, budget, None).dtype;
    assert_eq!(became(100 * GIB), Some("f16"), "f32 is twice as slow, and no better");
    assert_eq!(became(needs(Dtype::F16)), Some("f16"));
    assert_eq!(became(needs(Dtype::F16) - 1), Some("q8"));
    assert_eq!(became(needs(Dtype::Q8)), Some("q8"));
    assert_eq!(became(needs(Dtype::Q8) - 1), Some("q4a"));
    assert_eq!(became(needs(Dtype::Q4a)), Some("q4a"));
    assert_eq!(became(needs(Dtype::Q4a) - 1), Some("nf4"), "as small as q4, and better");
    assert_eq!(became(needs(Dtype::Q4)), Some("nf4"));
    // of the smallest ones, that of which the fewest bytes are copied, and then the best
    let part = within(14 * GIB, needs(Dtype::Q4) - 1, None);
    let offload = part.chosen().ok().and_then(|format| format.offload.clone()).expect("layers do not stay");
    assert_eq!((part.dtype, offload.layers), (Some("nf4"), 32));
    assert!(offload.resident < 32 && offload.total < needs(Dtype::Q4), "{offload:?}");
    assert!(part.reason.contains("of 32 stay on the GPU") && part.reason.contains("whole it would need"), "{part:?}");
    let told = within(14 * GIB, 8 * GIB + (512 << 20), None);
    assert_eq!(told.reason, "q8: 8.0 GiB of 8.5 GiB with a context of 4096; f16 would need 14.6 GiB");
    let chosen = told.chosen().expect("it fits");
    assert_eq!((chosen.fits, chosen.total <= 8 * GIB + (512 << 20)), (true, true));
    assert!((4096..8192).contains(&chosen.context), "as much as fits: {}", chosen.context);
}

#[test]
fn a_longer_context_takes_fewer_bits() {
    let became = |context| within(14 * GIB, 16 * GIB, Some(context)).dtype;
    // 1 GiB holds 8192 positions
    assert_eq!([8192, 16_384, 32_768].map(became), [Some("f16"), Some("q8"), Some("q8")]);
    let told = within(14 * GIB, 9 * GIB, Some(32_768));
    assert_eq!(told.dtype, Some("q4a"));
    let q8 = &told.formats[2];
    let why = q8.why_not.as_deref().unwrap_or_default();
    assert!(!q8.fits && why.contains("with a context of 32768") && why.contains("; 12000 would fit"), "{why}");
    assert_eq!(told.formats[2].longest_context, 12_000);
}

#[test]
fn small_models_stay_exact_where_they_can() {
    let of =
        |budget, context| told(256 << 20, Dtype::F32, Wanted { budget: Some(budget), context, ..Wanted::default() });
    assert_eq!(of(8 * GIB, None).dtype, Some("f32"));
    assert!(of(8 * GIB, None).reason.contains("none is better"));
    assert_eq!(of(GIB, None).dtype, Some("f16"), "512 MiB, and as much of cache");
    assert_eq!(of(GIB, Some(128)).dtype, Some("f32"));
}

#[test]
fn what_is_quantized_keeps_its_bits() {
    let f = footprints(2 * GIB);
    let of = |unbounded, budget| {
        let wanted = Wanted { budget, ..Wanted::default() };
        recommend(&Facts { footprints: &f, unbounded, quantized: Some("gptq"), wanted })
    };
    assert_eq!(of(Dtype::F16, None).dtype, Some("f16"));
    assert_eq!(of(Dtype::F16, Some(8 * GIB)).dtype, Some("f16"));
    assert_eq!(of(Dtype::F32, Some(8 * GIB)).dtype, Some("f32"));
    assert_eq!(of(Dtype::F32, Some(3 * GIB)).dtype, Some("f16"));
    let part = of(Dtype::F16, Some(2 * GIB));
    assert!(part.dtype == Some("f16") && part.chosen().is_ok_and(|f| f.offload.is_some()), "{part:?}");
    let none = of(Dtype::F16, Some(GIB / 8));
    assert_eq!(none.dtype, None, "q4 would not make it smaller");
    assert!(none.formats.iter().all(|f| f.perplexity.is_none()));
    assert!(of(Dtype::F16, None).reason.contains("gptq quantized, which keep their bits"));
}

#[test]
fn where_nothing_fits_it_says_what_would() {
    // what is wanted comes before speed: 16,384 positions, and layers that do not stay
    let told = within(14 * GIB, 4 * GIB + (200 << 20), Some(16_384));
    let nf4 = told.chosen().expect("2 GiB of cache, and half of the layers");
    assert!((nf4.context, nf4.fits) == (16_384, false) && nf4.offload.is_some(), "{nf4:?}");
    assert!(nf4.why_not.as_deref().is_some_and(|why| why.contains("6.0 GiB") && why.contains("; 1312 would fit")));
    // not even without a layer
    let told = within(14 * GIB, GIB, Some(16_384));
    let error = told.chosen().expect_err("2 GiB of cache").to_string();
    for word in ["out of GPU memory", "6.0 GiB", "context of 16384", "with a context of", "even if no layer stays"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    let told = within(14 * GIB, GIB / 8, None);
    let error = told.chosen().expect_err("not even the weights").to_string();
    assert!(error.contains(&(GIB / 8).to_string()) && error.contains("even if no layer stays"), "{error}");
    assert!(told.formats.iter().all(|f| !f.fits && f.longest_context == 0 && f.offload.is_none()));

    let mut refused = footprints(GIB);
    refused.iter_mut().for_each(|f| f.refused = Some("a row is too long".into()));
    let wanted = Wanted { budget: Some(64 * GIB), ..Wanted::default() };
    let told = recommend(&Facts { footprints: &refused, unbounded: Dtype::F16, quantized: None, wanted });
    assert!(told.dtype.is_none() && told.reason.contains("a row is too long"), "{}", told.reason);
    let told = recommend(&Facts { footprints: &[], unbounded: Dtype::F16, quantized: None, wanted });
    assert_eq!(told.dtype, None);
}

#[test]
fn bindings_bound_the_context() {
    let mut narrow = footprints(GIB);
    narrow.iter_mut().for_each(|f| f.max_binding = 2048 * 1024);
    let of = |context| {
        let wanted = Wanted { budget: Some(64 * GIB), context, ..Wanted::default() };
        recommend(&Facts { footprints: &narrow, unbounded: Dtype::F16, quantized: None, wanted })
    };
    assert_eq!(of(None).chosen().map(|f| f.context).ok(), Some(1024));
    assert_eq!(of(Some(1024)).dtype, Some("f16"));
    let told = of(Some(2048));
    assert!(
        told.dtype.is_none() && told.formats[1].why_not.as_deref().is_some_and(|why| why.contains("1024")),
        "{told:?}"
    );
}

#[test]
fn speed_follows_bytes() {
    let wanted = Wanted { context: Some(8192), bytes_per_second: Some(150e9), ..Wanted::default() };
    let told = told(14 * GIB, Dtype::Q4, wanted);
    let [f32, f16, q8] = [0, 1, 2].map(|i| &told.formats[i]);
    assert_eq!(f16.bytes_per_token, 15 * GIB, "weights and 1 GiB of cache");
    assert!((f16.relative_speed - 1.0).abs() < 1e-9 && (f32.relative_speed - 0.5).abs() < 1e-9);
    assert!((1.7..1.9).contains(&q8.relative_speed), "{}", q8.relative_speed);
    assert!(f16.tokens_per_second.is_some_and(|speed| (9.2..9.4).contains(&speed)), "{:?}", f16.tokens_per_second);
    let ratios: Vec<_> = told.formats.iter().filter_map(|f| f.perplexity).collect();
    assert!(
        ratios.len() == 6 && ratios[0] <= ratios[2] && ratios[2] < ratios[3] && ratios[3] < ratios[4],
        "{ratios:?}"
    );
}
