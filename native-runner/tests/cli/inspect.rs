//! `inspect`: what headers tell.

use serde_json::Value;

use crate::support::{copy, generate, run, shared, stories, text};

fn inspect(model: &std::path::Path, flags: &[&str]) -> Value {
    let out = run(&[&["inspect", text(model), "--json"], flags].concat()).ok();
    serde_json::from_str(&out).expect("one object")
}

#[test]
fn sizes_are_those_that_loading_measures() {
    let Some(model) = stories() else { return };
    let told = inspect(&model, &[]);
    assert_eq!(
        (&told["supported"], &told["auto"], &told["parameters"]),
        (&true.into(), &"f32".into(), &260_032.into())
    );
    assert_eq!(told["architecture"]["kv_heads"], 4);
    assert_eq!(told["stored"][0]["dtype"], "F32");
    for size in told["on_gpu"].as_array().expect("sizes") {
        let dtype = size["dtype"].as_str().expect("a name");
        let (_, done) = generate(&model, &["Once", "--max-new-tokens", "2", "--dtype", dtype]);
        let measured = done["stats"]["memory"]["weights"].as_u64().expect("bytes");
        let told = size["weights"].as_u64().expect("bytes");
        // generating makes a table of rotations as well
        assert!((told + 1..told + 16384).contains(&measured), "{dtype}: {told}, {measured}");
    }
}

#[test]
fn the_table_tells_all_of_it() {
    let Some(model) = stories() else { return };
    let out = run(&["inspect", text(&model)]).ok();
    for word in
        ["llama (LlamaForCausalLM)", "260 032", "8 queries, 4 keys", "F32", "BPE, 512", "f32 (auto)", "q4", "bindings"]
    {
        assert!(out.contains(word), "no {word:?} in {out}");
    }
    assert!(!out.contains('\x1b'), "no colours in a pipe");
    let narrow = run(&["inspect", text(&model), "--max-gpu-memory", "1MiB"]).ok();
    assert!(narrow.contains("no: needs") && narrow.contains("Budget: 1.0 MiB"), "{narrow}");
    if let Some(chat) = shared("fixtures/qwen3") {
        let out = run(&["inspect", text(&chat)]).ok();
        assert!(out.contains("chat template  ") && out.contains("yes") && out.contains("byte-level BPE"), "{out}");
    }
}

#[test]
fn a_budget_has_a_recommendation() {
    let Some(model) = stories() else { return };
    let told = inspect(&model, &["--max-gpu-memory", "1GiB", "--context", "256"]);
    let recommendation = &told["recommendation"];
    assert_eq!((&recommendation["dtype"], &told["auto"]), (&"f32".into(), &"f32".into()));
    assert_eq!(recommendation["budget"], 1_u64 << 30);
    let formats = recommendation["formats"].as_array().expect("formats");
    let names: Vec<_> = formats.iter().filter_map(|f| f["dtype"].as_str()).collect();
    assert_eq!(names, ["f32", "f16", "q8", "q4a", "q4", "nf4"]);
    for f in formats {
        assert_eq!((&f["fits"], &f["context"], &f["longest_context"]), (&true.into(), &256.into(), &512.into()));
        assert!(f["bytes_per_token"].as_u64().is_some_and(|bytes| bytes > 0) && f["perplexity"].is_number(), "{f}");
    }
    let out = run(&["inspect", text(&model), "--max-gpu-memory", "1GiB"]).ok();
    for word in ["f32 (auto)", "recommended: f32: ", "of 1.0 GiB with a context of 512", "x1.063", "while loading"] {
        assert!(out.contains(word), "no {word:?} in {out}");
    }
    let out = run(&["inspect", text(&model), "--max-gpu-memory", "1MiB"]).ok();
    assert!(out.contains("none fits: nf4, the smallest, needs"), "{out}");

    // a run tells it on standard error, unless it is to be quiet
    let flags = ["generate", "Once", "--max-new-tokens", "2", "--max-gpu-memory", "1GiB", "--model", text(&model)];
    let told = run(&flags);
    assert!(told.stderr.contains("dtype f32: ") && told.stderr.contains("of 1.0 GiB"), "{}", told.stderr);
    let quiet = run(&[&flags[..], &["-q"]].concat());
    assert!(!quiet.stderr.contains("dtype f32"), "{}", quiet.stderr);
    if let Some(quantized) = shared("fixtures/q_gptq_sym") {
        let out = run(&["inspect", text(&quantized)]).ok();
        assert!(out.contains("gptq: its layers keep their bits") && out.contains("as stored"), "{out}");
    }
}

#[test]
fn what_cannot_be_loaded_is_told_with_its_files() {
    let Some(model) = shared("fixtures/t5") else { return };
    let told = inspect(&model, &[]);
    assert_eq!(told["supported"], false);
    assert!(told["problems"][0].as_str().is_some_and(|p| p.contains("t5") && p.contains("qwen3")), "{told}");
    assert!(told["files"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{told}");
    let out = run(&["inspect", text(&model)]).ok();
    assert!(out.contains("model.safetensors") && out.contains("supported: bert"), "{out}");

    let Some(model) = stories() else { return };
    let no_weights = copy(&model, &["model.safetensors"]);
    let told = inspect(no_weights.path(), &[]);
    assert!(told["problems"][0].as_str().is_some_and(|p| p.contains("no weights")), "{told}");
    assert_eq!(told["architecture"]["layers"], 5);
    run(&["inspect", "/no/such/model"]).fails(1, &["/no/such/model"]);
    run(&["inspect", text(&model), "--adapter", "no such adapter"]).fails(1, &["no such adapter"]);
}

#[test]
#[cfg(target_os = "linux")]
fn no_gpu_is_needed() {
    let Some(model) = stories() else { return };
    let mut command = crate::support::binary();
    command.args(["inspect", text(&model)]).env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
    let out = crate::support::finish(command, b"").ok();
    assert!(out.contains("260 032") && out.contains("No GPU adapter"), "{out}");
}
