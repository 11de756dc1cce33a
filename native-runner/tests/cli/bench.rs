//! `bench`: figures that add up, of ids that `generate` gives, too.

use serde_json::Value;

use crate::support::{generate, run, stories, text};

#[test]
fn figures_add_up() {
    let Some(model) = stories() else { return };
    let flags = ["--prompt-tokens", "20", "--new-tokens", "9", "--runs", "3"];
    let out = run(&[&["bench", text(&model), "--json", "--dtype", "f32"], &flags[..]].concat()).ok();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (last, runs) = lines.split_last().expect("lines");
    assert_eq!((runs.len(), &last["type"]), (3, &Value::from("bench")));
    assert!(runs.iter().enumerate().all(|(i, run)| run["type"] == "run" && run["run"] == i + 1), "{out}");
    for name in ["prefill_tps", "decode_tps"] {
        let speeds = last[name].as_array().expect("a list");
        assert!(speeds.len() == 3 && speeds.iter().all(|v| v.as_f64().is_some_and(|v| v > 0.0)), "{name}: {last}");
        assert!(speeds.iter().zip(runs).all(|(speed, run)| *speed == run[name]), "{name}");
    }
    for name in ["load_ms", "copy_gb_per_s", "fma_gflops", "decode_share", "prefill_share"] {
        assert!(last[name].as_f64().is_some_and(|v| v > 0.0), "{name}: {last}");
    }
    let memory = |name: &str| last["memory"][name].as_u64().unwrap_or_else(|| panic!("{name}: {last}"));
    assert!(memory("weights") >= 260_032 * 4 && memory("cache") > 0 && memory("peak") >= memory("weights"));
    assert!(memory("peak") < 100 << 20, "what measures the adapter is not the model's");
    // all weights, since the embedding is the head, and 20 + 4 positions of 5 layers, 4 heads of 8, keys and values
    assert_eq!(last["bytes_per_token"], 260_032 * 4 + 24 * 5 * 4 * 8 * 4 * 2);
    assert_eq!(last["operations_per_token"], 2 * (260_032 - 512 * 64));

    let prompt: Vec<_> = (0..20).map(|i| ((i * 37 + 11) % 512).to_string()).collect();
    let flags = [
        "--prompt-ids",
        &prompt.join(","),
        "--dtype",
        "f32",
        "--temperature",
        "0",
        "--ignore-eos",
        "--max-new-tokens",
        "9",
    ];
    assert_eq!(last["ids"], Value::from(generate(&model, &flags).0));
}

#[test]
fn the_table_shows_shares() {
    let Some(model) = stories() else { return };
    let flags =
        ["--prompt-tokens", "5", "--new-tokens", "2", "--runs", "1", "--dtype", "q4", "--max-gpu-memory", "40MiB"];
    let out = run(&[&["bench", text(&model)], &flags[..]].concat()).ok();
    for word in ["1 run of q4", "prefill", "decode", "% of its bandwidth", "% of its arithmetic", "GB/s", "staging"] {
        assert!(out.contains(word), "no {word:?} in {out}");
    }
    run(&["bench", text(&model), "--prompt-tokens", "500", "--new-tokens", "13"])
        .fails(1, &["500", "13", "context of 512"]);
}
