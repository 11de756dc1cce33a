//! `embed`, and `forward` of an encoder.

use safetensors::Dtype;
use serde_json::Value;

use crate::support::{i64s, read_tensors, run, run_with, shared, text, write_tensors};

const MODEL: &str = "fixtures/bert";

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn forward_gives_what_transformers_gives() {
    let Some(model) = shared(MODEL) else { return };
    let expected = read_tensors(&model.join("expected.safetensors"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let tensor = |name: &'static str| {
        let (shape, values) = &expected[name];
        (name, Dtype::I64, shape.as_slice(), i64s(values))
    };
    let all = ["input_ids", "attention_mask", "token_type_ids"];
    write_tensors(&input, &all.map(tensor));
    run(&["forward", text(&model), "--input", text(&input), "--output", text(&output), "--dtype", "f32"]).ok();
    let made = read_tensors(&output);
    for name in ["last_hidden_state", "pooler_output"] {
        assert_eq!(made[name].0, expected[name].0, "{name}");
        let off = worst(&made[name].1, &expected[name].1);
        assert!(off < 2e-4, "{name} is off by {off}");
    }
    let kinds = vec![2.0; expected["input_ids"].1.len()];
    let mut wrong = all.map(tensor);
    wrong[2].3 = i64s(&kinds);
    write_tensors(&input, &wrong);
    let run = run(&["forward", text(&model), "--input", text(&input), "--output", text(&output)]);
    run.fails(1, &["token_type_ids", "row 0", "2 types"]);
}

/// From arguments, a file and standard input: the same vectors, as lines and as a tensor; a table for people.
#[test]
fn texts_become_vectors() {
    let Some(model) = shared(MODEL) else { return };
    let (expected, folder) =
        (read_tensors(&model.join("expected.safetensors")), tempfile::tempdir().expect("a folder"));
    let meta: Value =
        serde_json::from_slice(&std::fs::read(model.join("meta.json")).expect("meta.json")).expect("JSON");
    // the first text is cut as transformers was asked to cut it
    let length = expected["input_ids"].0[1].to_string();
    let texts: Vec<&str> = (0..3).map(|i| meta["texts"][i].as_str().expect("a text")).collect();
    let flags = ["embed", "--model", text(&model), "--dtype", "f32", "--context", &length];
    let want = &expected["mean_pooled_norm"].1[..3 * 64];

    let vectors = |lines: &str| -> Vec<f64> {
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.iter().map(|line| line["text"].as_str().expect("a text")).collect::<Vec<_>>(), texts);
        let all = lines.iter().flat_map(|line| line["embedding"].as_array().expect("a list"));
        all.map(|v| v.as_f64().expect("a number")).collect()
    };
    let json = vectors(&run(&[&flags[..], &texts, &["--json"]].concat()).ok());
    assert!(worst(&json, want) < 2e-4);
    let file = folder.path().join("texts.txt");
    std::fs::write(&file, format!("{}\n\n{}\n", texts[1], texts[2])).expect("written");
    assert_eq!(vectors(&run(&[&flags[..], &texts[..1], &["--file", text(&file), "--json"]].concat()).ok()), json);
    let lines = texts.join("\n");
    let output = folder.path().join("out.safetensors");
    let made = run_with(&[&flags[..], &["--file", "-", "--output", text(&output)]].concat(), lines.as_bytes());
    assert_eq!(made.ok(), "");
    let made = read_tensors(&output);
    assert_eq!(made["embeddings"].0, [3, 64]);
    assert!(worst(&made["embeddings"].1, &json) < 1e-6);

    let cls = run(&[&flags[..], &texts, &["--json", "--pooling", "cls", "--no-normalize"]].concat()).ok();
    assert!(worst(&vectors(&cls), &expected["cls"].1[..3 * 64]) < 2e-4);

    let table = run(&[&flags[..], &texts].concat()).ok();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    for (row, line) in rows[1..].iter().enumerate() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((cells[0], cells[row + 1]), ((row + 1).to_string().as_str(), "1.000"), "{table}");
        let cosine: f64 = (0..64).map(|e| want[64 * row + e] * want[e]).sum();
        assert!((cells[1].parse::<f64>().expect("a number") - cosine).abs() < 1e-3, "{table}");
    }
    let one = run(&[&flags[..], &texts[2..]].concat()).ok();
    assert_eq!(one.split_whitespace().count(), 64, "{one}");
}

#[test]
fn what_cannot_be_is_told() {
    let (Some(model), Some(decoder)) = (shared(MODEL), shared("fixtures/llama_mha")) else { return };
    run(&["embed", "a text"]).fails(1, &["which model", "--model"]);
    run(&["embed", "--model", text(&decoder), "a text"]).fails(1, &["text-generation", "feature-extraction"]);
    run(&["generate", "a text", "--model", text(&model)]).fails(1, &["feature-extraction", "text-generation"]);
    run(&["embed", "--model", text(&model), "a text", "--gpu-layers", "1"]).fails(1, &["gpu_layers"]);
    assert_eq!(run(&["embed", "--model", text(&model)]).code, Some(2), "no text");
    let empty = run_with(&["embed", "--model", text(&model), "--file", "-"], b"\n");
    empty.fails(1, &["-"]);
}
