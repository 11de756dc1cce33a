//! `validate` of caches: types beside the formats of weights, and what dropping positions costs behind a prompt.

use std::fs;
use std::path::Path;

use serde_json::Value;
use webweft::device::{Device, DeviceOptions};
use webweft::managers::blocks::CachePolicy;
use webweft::managers::{CacheOptions, Dtype};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Folder, Source};

use crate::support::{Run, run, stories, text};

/// Stories.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/held-out.txt");

fn validate(model: &Path, flags: &[&str]) -> Run {
    let all = ["validate", text(model), "--text", TEXT, "--runs", "0", "--no-history", "-q"];
    run(&[&all[..], flags].concat())
}

#[track_caller]
fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Perplexity within 0.3 % in 8 bits and within 4 % in 4, of models with heads of 8 and of 32 elements.
#[test]
fn caches_in_few_bits_are_within_their_bounds() {
    let Some(small) = stories() else { return };
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories");
    for (model, context) in [(&small, "512"), (&built_in, "256")] {
        for (dtype, ratio) in [("f32,q8", "1.003"), ("q4", "1.04")] {
            let flags = ["--cache-dtype", dtype, "--max-perplexity-ratio", ratio, "--context", context, "--json"];
            let run = validate(model, &[&flags[..], &["--max-tokens", "400", "--paragraphs"]].concat());
            assert_eq!(run.code, Some(0), "{run:?}");
            let told = json(&run);
            let formats = told["formats"].as_array().expect("a list");
            let names: Vec<_> = formats.iter().filter_map(|f| f["name"].as_str()).collect();
            let baseline = number(&told["baseline"]["memory"]["cache"]);
            match dtype {
                "q4" => assert_eq!(names, ["f32, q4 cache"]),
                _ => assert_eq!(names, ["f32, f32 cache", "f32, q8 cache"]),
            }
            for format in formats {
                let (kl, share) =
                    (number(&format["quality"]["kl"]["mean"]), number(&format["memory"]["cache"]) / baseline);
                let (same, want) = match format["cache"].as_str().expect("a type") {
                    "f32" => (true, 1.0),
                    "q8" => (false, 0.53125 / 2.0),
                    _ => (false, 0.3125 / 2.0),
                };
                assert_eq!((kl == 0.0, &format["policy"]), (same, &"full".into()), "{format}");
                assert!((share - want).abs() < 1e-9, "{share}, not {want}");
            }
        }
    }
}

/// Each dtype with each cache and each policy, the second half of windows, from what the library's forward pass gives.
#[test]
fn a_policy_costs_what_forgetting_costs() {
    let Some(model) = stories() else { return };
    let flags = ["--context", "256", "--max-tokens", "100", "--dtype", "f32,f16", "--cache-dtype", "f32"];
    let run = validate(&model, &[&flags[..], &["--cache-policy", "full,window:128", "--json"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let told = json(&run);
    let formats = told["formats"].as_array().expect("a list");
    let names: Vec<_> = formats.iter().filter_map(|f| f["name"].as_str()).collect();
    let all = ["f32, f32 cache", "f32, f32 cache, window:128", "f16, f32 cache", "f16, f32 cache, window:128"];
    assert_eq!(names, all);
    assert_eq!((told["text"]["prompt"].as_u64(), told["text"]["predictions"].as_u64()), (Some(128), Some(100)));

    let story = fs::read_to_string(TEXT).expect("the text");
    let perplexity = |policy: &str| {
        let cache = CacheOptions { dtype: None, policy: CachePolicy::from_name(policy).expect("a policy") };
        pollster::block_on(async {
            let device = Device::open(&DeviceOptions::default()).await.expect("an adapter");
            let source = Source::Folder(Folder::open(&model).expect("a folder"));
            let options = LoadOptions { dtype: Dtype::F32, cache, ..LoadOptions::default() };
            let mut session = Session::open(&device, &source, &options, |_| ()).await.expect("a model");
            let mut ids = session.encode(&story).expect("tokens");
            ids.truncate(128 + 100);
            let logits = session.forward(&ids).await.expect("a pass").logits;
            let rows = logits.chunks(session.engine().vocab_size() as usize).zip(&ids[1..]).skip(127);
            let nll = rows.map(|(row, &target)| {
                let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
                sum.ln() - f64::from(row[target as usize])
            });
            (nll.sum::<f64>() / 100.0).exp()
        })
    };
    for (format, policy) in formats.iter().zip(["full", "window:128"]) {
        let (got, want) = (number(&format["quality"]["perplexity"]["value"]), perplexity(policy));
        assert!((got - want).abs() <= 1e-7 * want, "{policy}: {got}, not {want}");
        assert_eq!(format["policy"], policy);
    }
    let [full, window] = [0, 1].map(|i| number(&formats[i]["quality"]["kl"]["mean"]));
    assert!(full == 0.0 && window > 1e-3, "{window}: what was dropped is missed");
    let bytes = |i: usize| number(&formats[i]["memory"]["cache"]);
    assert!((bytes(1) * 2.0 - bytes(0)).abs() < 1.0, "half of the positions are kept");
    // texts that are no longer than a prompt say nothing, and windows that leave tokens out are refused
    let folder = tempfile::tempdir().expect("a folder");
    let short = folder.path().join("short");
    fs::write(&short, "Once upon a time.").expect("written");
    let of_short = ["validate", text(&model), "--text", text(&short), "--cache-policy", "window:128"];
    crate::support::run(&of_short).fails(1, &["too short"]);
    let stride = ["--cache-policy", "window:128", "--context", "256", "--stride", "129"];
    validate(&model, &stride).fails(2, &["--stride 129", "128"]);
    validate(&model, &["--cache-policy", "window:1024"]).fails(1, &["cache_policy"]);
    validate(&model, &["--cache-policy", "none"]).fails(2, &["window"]);
}
