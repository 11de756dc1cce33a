//! `tune`: figures that add up, and are remembered.

use std::fs;

use serde_json::Value;

use crate::support::{binary, finish, stories, text};

#[test]
fn what_is_found_is_told_drawn_and_remembered() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let plot = folder.path().join("plot.svg");
    let run = |arguments: &[&str], stdin: &[u8]| {
        let mut command = binary();
        command.args(arguments).args(["--dtype", "f32"]).env("XDG_CACHE_HOME", folder.path());
        finish(command, stdin)
    };
    let sizes = ["--prompt-tokens", "8", "--new-tokens", "16", "--max-batch", "4"];
    let out = run(&[&["tune", text(&model), "--json", "--plot", text(&plot)], &sizes[..]].concat(), b"").ok();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (last, points) = lines.split_last().expect("lines");
    assert_eq!(last["type"], "tune", "{out}");
    let batches: Vec<_> = points.iter().map(|point| point["batch"].as_u64().expect("a size")).collect();
    assert!([1u64, 2, 4].starts_with(&batches) && !batches.is_empty(), "{out}");
    for (point, again) in points.iter().zip(last["points"].as_array().expect("points")) {
        let number = |name: &str| again[name].as_f64().unwrap_or_else(|| panic!("{name}: {out}"));
        let speed = number("batch") / number("step_ms") * 1e3;
        assert!((number("tokens_per_s") / speed - 1.0).abs() < 1e-6 && number("bytes") > 0.0, "{out}");
        assert_eq!(point["step_ms"], again["step_ms"]);
    }
    assert_eq!((&last["key"]["dtype"], &last["prompt_tokens"]), (&Value::from("f32"), &Value::from(8)));
    let choice = |workload: &str| {
        let choices = last["choices"].as_array().expect("choices");
        choices.iter().find(|choice| choice["workload"] == workload).expect("every workload")["batch"].clone()
    };
    assert!(["realtime", "throughput", "batch"].iter().all(|workload| choice(workload).as_u64().is_some()));
    assert!(fs::read_to_string(&plot).expect("a plot").starts_with("<svg xmlns="));

    // it is what `auto` takes, here and with this dtype
    let generate = ["generate", "--model", text(&model), "--file", "-", "--max-new-tokens", "3", "--stats"];
    let told = run(&generate, b"Once\nThe").stderr;
    assert!(told.contains(&format!("fixed:{}", choice("throughput"))), "{told}");
    let mut command = binary();
    command.args(generate).args(["--dtype", "q4"]).env("XDG_CACHE_HOME", folder.path());
    assert!(finish(command, b"Once\nThe").stderr.contains("memory-aware"));

    let table = run(&[&["tune", text(&model), "--no-remember"], &sizes[..]].concat(), b"").ok();
    for word in ["batch", "step ms", "tokens/s", "cache", "realtime", "throughput", "most tokens/s"] {
        assert!(table.contains(word), "no {word:?} in {table}");
    }
    run(&["tune", text(&model), "--prompt-tokens", "500"], b"").fails(1, &["context of 512"]);
}
