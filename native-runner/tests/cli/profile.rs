//! `--profile`: what a file says counts where the command line says nothing, and what is wrong with it is told by name.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Run, generate, run, run_with, stories, text};

/// A file in a folder that goes with it.
fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, content).expect("written");
    (folder, path)
}

fn with(profile: &Path, arguments: &[&str]) -> Run {
    run(&[arguments, &["--profile", text(profile)]].concat())
}

#[test]
fn a_profile_is_under_the_flags_and_over_the_checkpoint() {
    let Some(model) = stories() else { return };
    let yaml = format!(
        "# stories\nmodel: {}\ntorch_dtype: float32\ncontext: 64\nmax_new_tokens: 6\ndo_sample: true\ntemperature: 0.8\n\
         top_k: 9\nseed: 7\neos_token_id: []\n",
        serde_json::to_string(text(&model)).expect("a text")
    );
    let (_folder, path) = file("p.yaml", &yaml);
    let (ids, _, done) = with(&path, &["generate", "Once upon a time", "--json"]).json();
    let flags = [
        "Once upon a time",
        "--dtype",
        "f32",
        "--max-new-tokens",
        "6",
        "--temperature",
        "0.8",
        "--top-k",
        "9",
        "--seed",
        "7",
        "--ignore-eos",
    ];
    let (same, told) = generate(&model, &flags);
    assert_eq!((ids.len(), &ids), (6, &same));
    assert_eq!((&done["stats"]["seed"], &done["stats"]["dtype"]), (&json!(7), &json!("f32")));
    assert_eq!(told["stats"]["seed"], 7);
    // flags go over it
    let flags =
        ["generate", "Once upon a time", "--json", "--max-new-tokens", "2", "--dtype", "f16", "--temperature", "0"];
    let (ids, _, done) = with(&path, &flags).json();
    let greedy = generate(&model, &["Once upon a time", "--dtype", "f16", "--max-new-tokens", "2"]).0;
    assert_eq!((ids, &done["stats"]["dtype"]), (greedy, &json!("f16")));
    with(&path, &["generate", &"word ".repeat(100)]).fails(1, &["context holds 64"]);
    // JSON is YAML
    let chat =
        json!({"generation_config": {"max_new_tokens": 3}, "eos_token_id": [], "quantization": "q8"}).to_string();
    let (_folder, path) = file("p.json", &chat);
    let run = run_with(&["chat", "--json", "--profile", text(&path)], b"Hello\n");
    let lines = run.ok();
    let mut lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let done = lines.find(|line| line["type"] == "done").expect("an answer");
    assert_eq!((done["ids"].as_array().map(Vec::len), &done["stats"]["dtype"]), (Some(3), &json!("q8")));
}

#[test]
fn commands_take_what_they_have() {
    let Some(model) = stories() else { return };
    let (_folder, path) = file("p.yaml", "max_memory: {0: 1GiB}\ncontext: 128\nmodel: no/such-model\nrevision: v9\n");
    // the revision is of another model
    let seen = with(&path, &["inspect", text(&model), "--json"]).ok();
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!((&seen["budget"], &seen["recommendation"]["context"]), (&json!(1_u64 << 30), &json!(128)));
    let given = with(&path, &["inspect", text(&model), "--json", "--max-gpu-memory", "2GiB"]).ok();
    assert!(given.contains("\"budget\":2147483648"), "{given}");
    let (_folder, path) = file("p.yaml", "quantization: q8\ncache_dtype: f16\n");
    let flags = ["--max-tokens", "60", "--runs", "0", "--no-history", "-q", "--json"];
    let measured = with(&path, &[&["validate"], &flags[..]].concat()).ok();
    let measured: Value = serde_json::from_str(&measured).expect("JSON");
    let formats = measured["formats"].as_array().expect("a list");
    assert_eq!(formats.len(), 1, "{measured}");
    assert_eq!((&formats[0]["dtype"], &formats[0]["cache"]), (&json!("q8"), &json!("f16")));
}

#[test]
fn what_is_wrong_with_a_profile_is_told_by_name() {
    let fails = |content: &str, words: &[&str]| {
        let (_folder, path) = file("p.yaml", content);
        with(&path, &["generate", "Once"]).fails(1, &[&["p.yaml"], words].concat());
    };
    fails("max_new_token: 5\ncolour: red\n", &["`max_new_token` (did you mean `max_new_tokens`?)", "`colour`"]);
    fails("device_map: cuda\n", &["`device_map` is not supported", "gpu_layers"]);
    fails("context: long\n", &["`context` is \"long\", expected a whole number"]);
    fails("temperature: hot\n", &["temperature is \"hot\", expected a number"]);
    fails("do_sample: true\ntop_p: 2\n", &["top_p is 2", "at most 1"]);
    fails("context: 5\ntop_k: [1\n", &["at line"]);
    fails("context: 5\ncontext: 6\n", &["context", "at line"]);
    fails("", &[]);
    fails("- 1\n", &["expected a mapping"]);
    let laughs = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let last = format!("*a{}", n - 1);
        text + &format!("a{n}: &a{n} [{}]\n", [&last[..]; 9].join(", "))
    });
    fails(&laughs, &["error"]);
    run(&["generate", "Once", "--profile", "no/such.yaml"]).fails(1, &["no/such.yaml", "cannot be read"]);
}

/// The example of the page is a profile as it stands.
#[test]
fn the_example_of_the_page_is_accepted() {
    let page = include_str!("../../../docs/profiles.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (_folder, path) = file("p.yaml", example);
    with(&path, &["devices", "--json"]).ok();
}
