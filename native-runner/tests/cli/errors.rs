//! Whatever is wrong, one line says so, and nothing panics.

use std::path::Path;
use std::process::Command;

use crate::support::{copy, finish, run, run_with, shared, stories, text};

#[test]
fn wrong_folders_are_told_by_name() {
    let Some(model) = stories() else { return };
    let of = |folder: &Path| run(&["generate", "Once", "--model", text(folder)]);
    of(Path::new("/no/such/model")).fails(1, &["/no/such/model"]);
    of(&model.join("config.json")).fails(1, &["config.json", "not a folder"]);
    let empty = tempfile::tempdir().expect("a temporary folder");
    of(empty.path()).fails(1, &["no config.json", text(empty.path())]);
    let no_weights = copy(&model, &["model.safetensors"]);
    of(no_weights.path()).fails(1, &["no weights", "model.safetensors"]);
    let no_tokenizer = copy(&model, &["tokenizer.json"]);
    of(no_tokenizer.path()).fails(1, &["tokenizer.json", "--prompt-ids"]);
}

#[test]
fn damaged_files_are_told_by_name() {
    let Some(model) = stories() else { return };
    let damage = |name: &str, bytes: &[u8], words: &[&str]| {
        let folder = copy(&model, &[name]);
        std::fs::write(folder.path().join(name), bytes).expect("written");
        run(&["generate", "Once", "--model", text(folder.path())]).fails(1, words);
    };
    let weights = std::fs::read(model.join("model.safetensors")).expect("weights");
    for keep in [0, 7, 100, weights.len() / 2, weights.len() - 1] {
        damage("model.safetensors", &weights[..keep], &["model.safetensors"]);
    }
    damage(
        "model.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        &["git lfs pull"],
    );
    let mut nan = weights.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    damage("model.safetensors", &nan, &["NaN"]);
    for bytes in [&b""[..], b"{", b"[]", b"{}", b"\xff\xfe", br#"{"model_type": 7}"#] {
        damage("config.json", bytes, &["config.json"]);
    }
    damage("config.json", br#"{"model_type": "llama", "hidden_size": -1}"#, &["config.json"]);
    damage("tokenizer.json", b"{}", &["tokenizer.json"]);
    damage("generation_config.json", b"{]", &["generation_config.json"]);
    damage("generation_config.json", br#"{"max_new_tokens": "many"}"#, &["generation_config.json", "max_new_tokens"]);
}

/// A tokenizer with more tokens than the model: text would be taken for other tokens than it was trained with.
#[test]
fn a_tokenizer_of_another_model_is_told() {
    let (Some(model), Some(other)) = (shared("fixtures/llama_mha"), stories()) else { return };
    let folder = copy(&model, &["tokenizer.json"]);
    let tokenizer = std::fs::read(other.join("tokenizer.json")).expect("a tokenizer");
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer).expect("written");
    run(&["generate", "Once", "--model", text(folder.path())]).fails(1, &["tokenizer", "511", "480"]);
}

#[test]
fn other_architectures_are_told_by_name() {
    let Some(model) = shared("fixtures/t5") else { return };
    run(&["generate", "Once", "--model", text(&model)]).fails(1, &["\"t5\"", "llama"]);
}

#[test]
fn requests_that_cannot_be_served_are_told() {
    let Some(model) = stories() else { return };
    let fails = |flags: &[&str], words: &[&str]| {
        run(&[&["generate", "--model", text(&model)], flags].concat()).fails(1, words);
    };
    let long = vec!["7"; 600].join(",");
    fails(&["--prompt-ids", "1,512"], &["512", "vocabulary"]);
    fails(&["--prompt-ids", &long], &["600 tokens", "512"]);
    fails(&["--prompt-ids", "1,2,3", "--context", "3"], &["3 tokens"]);
    fails(&["Once", "--context", "513"], &["context", "513"]);
    fails(&["Once", "--context", "0"], &["context"]);
    fails(&["Once", "--prefill-chunk", "0"], &["prefill_chunk"]);
    fails(&["Once", "--max-new-tokens", "0"], &["max_new_tokens"]);
    fails(&["Once", "--temperature", "nan"], &["temperature", "NaN"]);
    fails(&["Once", "--temperature", "-1"], &["temperature", "-1"]);
    fails(&["Once", "--top-p", "1.5"], &["top_p", "1.5"]);
    fails(&["Once", "--top-p", "0"], &["top_p"]);
    for (flag, value, name) in [
        ("--min-p", "1.5", "min_p"),
        ("--typical-p", "0", "typical_p"),
        ("--epsilon-cutoff", "1", "epsilon_cutoff"),
        ("--eta-cutoff", "-1", "eta_cutoff"),
        ("--repetition-penalty", "0", "repetition_penalty"),
        ("--presence-penalty", "3", "presence_penalty"),
        ("--frequency-penalty", "nan", "frequency_penalty"),
        ("--stop", "", "stop_strings"),
    ] {
        fails(&["Once", flag, value], &[name]);
    }
    fails(&["Once", "--lookahead", "100000"], &["lookahead", "100000"]);
    fails(&["Once", "--eos-token-id", &long[..159]], &["eos_token_id"]);
    fails(&["Once", "--adapter", "no such adapter"], &["no such adapter"]);
    fails(&["Once", "--adapter", "99"], &["99"]);
    fails(&["Once", "--max-gpu-memory", "1MB"], &["out of GPU memory", "1000000"]);
}

#[test]
fn a_prompt_is_text() {
    let Some(model) = stories() else { return };
    let flags = ["generate", "--max-new-tokens", "2", "--model", text(&model)];
    run_with(&flags, b"Once \xff upon").fails(1, &["UTF-8", "byte 5"]);
    run_with(&flags, b"").ok();
    run_with(&flags, "\u{0}\u{1}\u{fffd}\u{202e} 🚀".as_bytes()).ok();
}

#[test]
fn wrong_command_lines_end_with_2() {
    let of = |flags: &[&str]| run(&[&["generate", "--model", "m"], flags].concat());
    of(&["x", "--no-such-flag"]).fails(2, &["--no-such-flag"]);
    of(&["x", "--dtype", "f64"]).fails(2, &["f64", "--dtype"]);
    of(&["x", "--backend", "opengl"]).fails(2, &["opengl"]);
    of(&["x", "--max-new-tokens", "many"]).fails(2, &["many"]);
    of(&["x", "--temperature", "hot"]).fails(2, &["hot"]);
    of(&["x", "--no-repeat-ngram-size", "-1"]).fails(2, &["-1"]);
    of(&["x", "--stop"]).fails(2, &["--stop"]);
    of(&["x", "--logprobs=3"]).fails(2, &["--json"]);
    of(&["x", "--json", "--logprobs=all"]).fails(2, &["all"]);
    of(&["x", "--max-gpu-memory", "3 apples"]).fails(2, &["3 apples", "3.8GB"]);
    of(&["--prompt-ids", "1,-2"]).fails(2, &["-2"]);
    of(&["--prompt-ids", "-2"]).fails(2, &["-2"]);
    of(&["--prompt-ids", "4294967296"]).fails(2, &["4294967296"]);
    of(&["x", "--prompt-ids", "1"]).fails(2, &["--prompt-ids"]);
    of(&["x", "--ignore-eos", "--eos-token-id", "1"]).fails(2, &["--eos-token-id"]);
    run(&["generate", "x", "--model", ""]).fails(2, &["--model"]);
    run(&["forward", "m", "--input", "i"]).fails(2, &["--output"]);
    run(&["frobnicate"]).fails(2, &["frobnicate"]);
    run(&["chat", "--model", "m", "--template-var", "x"]).fails(2, &["NAME=VALUE"]);
    run(&["bench", "m", "--runs", "0"]).fails(2, &["--runs"]);
    run(&["bench", "m", "--new-tokens", "1"]).fails(2, &["--new-tokens"]);
}

#[test]
fn help_tells_how_it_is_used() {
    let bare = finish(Command::new(env!("CARGO_BIN_EXE_native-runner")), b"");
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("Usage:") && bare.stderr.contains("Exit codes:"), "{bare:?}");
    for (command, words) in [
        (
            "generate",
            &[
                "--max-new-tokens",
                "--temperature",
                "--min-p",
                "--stop",
                "--logprobs",
                "--max-gpu-memory",
                "Examples:",
                "130",
            ][..],
        ),
        ("forward", &["input_ids", "attention_mask", "last_hidden_state", "--prefill-chunk", "Example"]),
        ("devices", &["--json", "Examples:"]),
        ("inspect", &["--json", "--max-gpu-memory", "Examples:"]),
        ("bench", &["--prompt-tokens", "--new-tokens", "--runs", "Examples:"]),
        ("chat", &["--system", "--template-var", "--max-new-tokens", "/help", "Examples:", "130"]),
    ] {
        let help = run(&[command, "--help"]).ok();
        for word in words {
            assert!(help.contains(word), "{command}: no {word}");
        }
        assert!(!help.contains("--portable"), "it is for tests");
    }
    assert!(run(&["--version"]).ok().starts_with("native-runner "));
}
