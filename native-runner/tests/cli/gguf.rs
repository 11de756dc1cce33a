//! A GGUF file by its path, its folder, its address and its name on the Hub: the same text.

use crate::fake_hub::{FakeHub, Repo};
use crate::server::{Reply, Server};
use crate::support::{Run, binary, finish, run, shared, text};

const PROMPT: [&str; 5] = ["--prompt-ids", "1,5,9,20", "--max-new-tokens", "8", "--ignore-eos"];

fn with(home: &std::path::Path, endpoint: &str, arguments: &[&[&str]]) -> Run {
    let mut command = binary();
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", endpoint).env("NO_PROXY", "127.0.0.1").args(arguments.concat());
    finish(command, b"")
}

#[test]
fn wherever_it_is_it_runs() {
    let Some(folder) = shared("fixtures/gguf_llama") else { return };
    let file = folder.join("model.gguf");
    let generate = |model: &str| run(&[&["generate", "--model", model], &PROMPT[..]].concat());
    let want = generate(text(&file)).ok();
    assert_eq!(generate(text(&folder)).ok(), want);
    let bytes = std::fs::read(&file).expect("the fixture");
    let hub =
        FakeHub::start("org/gguf", Repo::new([("m-Q4_K_M.gguf", bytes.clone()), ("m-Q8_0.gguf", b"GGUF".to_vec())]));
    let home = tempfile::tempdir().expect("a folder");
    let named =
        |flags: &[&str]| with(home.path(), &hub.server.url, &[&["generate", "--model", "org/gguf"], &PROMPT, flags]);
    assert_eq!(named(&[]).ok(), want);
    named(&["--gguf-file", "Q8_0"]).fails(1, &["m-Q8_0.gguf", "fetch it again"]);
    named(&["--gguf-file", "Q2_K"]).fails(1, &["Q2_K", "m-Q4_K_M.gguf", "--gguf-file"]);
    let server = Server::start(move |request| match request.path.as_str() {
        "/a/model.gguf" => Reply::file(request, &bytes, "\"1\""),
        _ => Reply::status(404),
    });
    assert_eq!(generate(&format!("{}/a/model.gguf?download=true", server.url)).ok(), want);
}

#[test]
fn it_is_looked_at_and_not_quantized_again() {
    let Some(folder) = shared("fixtures/gguf_llama") else { return };
    let told = run(&["inspect", text(&folder), "--json"]).ok();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["supported"], &told["quantization"], &told["model_type"]),
        (&true.into(), &"gguf".into(), &"llama".into())
    );
    let stored: Vec<_> =
        told["stored"].as_array().expect("types").iter().map(|s| s["dtype"].as_str().expect("a name")).collect();
    assert!(stored.contains(&"Q4_K") && stored.contains(&"Q6_K") && stored.len() == 10, "{stored:?}");
    assert_eq!(told["tokenizer"]["kind"], "byte-level BPE");
    let held_out = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/held-out.txt");
    let told = run(&[
        "validate",
        text(&folder),
        "--text",
        held_out,
        "--max-tokens",
        "200",
        "--no-history",
        "--dtype",
        "q4",
        "--json",
    ]);
    let told: serde_json::Value = serde_json::from_str(&told.ok()).expect("JSON");
    assert!(told.to_string().contains("gguf"), "{told}");
    let out = tempfile::tempdir().expect("a folder");
    let out = out.path().join("out");
    run(&["quantize", text(&folder), text(&out)]).fails(1, &["model.gguf", "runs as it is"]);
    run(&["generate", "x", "--model", text(&folder), "--gguf-file", "other.gguf"]).fails(1, &["other.gguf"]);
}
