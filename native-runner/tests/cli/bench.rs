//! `bench`: figures that add up, of ids that `generate` gives, too.

use std::fs;

use serde_json::Value;

use crate::support::{binary, finish, generate, run, stories, text};

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
    for name in ["load_ms", "copy_gb_per_s", "fma_gflops", "readback_us", "decode_share", "prefill_share"] {
        assert!(last[name].as_f64().is_some_and(|v| v > 0.0), "{name}: {last}");
    }
    // differences, which noise may make none
    assert!(["dispatch_us", "submit_us"].iter().all(|&name| last[name].as_f64().is_some_and(|v| v >= 0.0)), "{last}");
    assert_eq!((&last["model"], &last["parameters"]), (&Value::from("stories260K"), &Value::from(260_032)));
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

#[test]
fn a_matrix_is_measured_and_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let new = path("new.jsonl");
    let cells = ["--shapes", "tiny", "--dtypes", "q4,f32", "--prompts", "7", "--cache", "64", "--batch", "1,2"];
    let flags = ["--runs", "2", "--new-tokens", "8"];
    let mut command = binary();
    command.args(["bench", "matrix", "--out", text(&new)]).args(cells).args(flags).env("WEBWEFT_COMMIT", "0123abc");
    let run_of = finish(command, b"");
    assert!(run_of.stderr.contains("cell 4 of 4: tiny f32, prompt 7, cache 64, batch 2: "), "{run_of:?}");
    let table = run_of.ok();
    for word in ["GB/s", "A dispatch costs", "prefill", "decode", "tiny   q4", "tiny   f32"] {
        assert!(table.contains(word), "no {word:?} in {table}");
    }
    let lines = fs::read_to_string(&new).expect("figures");
    let cells: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(cells.len(), 4, "{lines}");
    for cell in &cells {
        assert_eq!((&cell["schema"], &cell["commit"]), (&Value::from(1), &Value::from("0123abc")));
        let speeds = |name: &str| cell[name].as_array().map(|runs| runs.iter().filter_map(Value::as_f64).collect());
        let [prefill, decode]: [Option<Vec<f64>>; 2] = ["prefill_tps", "decode_tps"].map(speeds);
        assert!([prefill, decode].iter().all(|runs| runs.as_ref().is_some_and(|runs| runs.len() == 2)), "{cell}");
        assert!(cell["roofline"]["copy_gb_per_s"].as_f64().is_some_and(|v| v > 0.0), "{cell}");
        assert!(cell["memory"]["weights"].as_u64() >= cell["parameters"].as_u64().map(|count| count / 2), "{cell}");
        // the caches of all, half way: 2 layers, keys and values of 64, in f32 or f16
        let bytes = if cell["dtype"] == "f32" { 4 } else { 2 };
        let caches = cell["batch"].as_u64().map(|batch| batch * (64 + 7 + 4) * 2 * 2 * 64 * bytes);
        assert!(cell["bytes_per_step"].as_u64() > caches, "{cell}");
    }

    // a hundred times as fast is a gain; going back is a loss
    let faster = |run: &Value| Value::from(run.as_f64().expect("a speed") * 100.0);
    let mut faster_cells = cells.clone();
    for cell in &mut faster_cells {
        let runs: Vec<Value> = cell["decode_tps"].as_array().expect("runs").iter().map(faster).collect();
        cell["decode_tps"] = runs.into();
    }
    let fast = path("fast.jsonl");
    // the last one has no partner
    let lines: String = faster_cells[..3].iter().map(|cell| format!("{cell}\n")).collect();
    fs::write(&fast, lines).expect("written");
    let compare = |old: &str, new: &str| run(&["bench", "compare", old, new]);
    let gained = compare(text(&new), text(&fast)).ok();
    assert!(gained.contains("0 slower, 3 faster") && gained.contains("only in OLD: tiny f32"), "{gained}");
    let lost = compare(text(&fast), text(&new));
    assert!(lost.code == Some(3) && lost.stdout.contains("SLOWER") && lost.stdout.contains("only in NEW"), "{lost:?}");
    fs::write(&fast, "{\"schema\":1}\n").expect("written");
    compare(text(&new), text(&fast)).fails(1, &["fast.jsonl", "line 1", "missing field"]);
    compare(text(&new), text(&path("none.jsonl"))).fails(1, &["none.jsonl", "cannot be read"]);
    run(&["bench", "matrix", "--out", text(folder.path())]).fails(1, &["cannot be written"]);
    run(&["bench", "matrix", "--out", text(&new), "--shapes", "2B"]).fails(2, &["2B", "110M"]);
}

#[test]
fn encoders_and_the_built_in_model_are_cells_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let new = path("new.jsonl");
    let cells =
        ["--shapes", "MiniLM,Stories", "--dtypes", "q4", "--prompts", "9,600", "--cache", "0,16", "--batch", "2"];
    let flags = ["--runs", "1", "--new-tokens", "8"];
    let out = run(&[&["bench", "matrix", "--out", text(&new)], &cells[..], &flags[..]].concat());
    assert!(out.stderr.contains("MiniLM q4, prompt 600, cache 0, batch 2: left out, it holds 512"), "{out:?}");
    assert!(out.ok().contains("Stories  q4"));
    let lines = fs::read_to_string(&new).expect("figures");
    let cells: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [encoder, built_in, cached] = &cells[..] else { panic!("{lines}") };
    assert_eq!((&encoder["shape"], &encoder["new_tokens"]), (&Value::from("MiniLM"), &Value::from(0)));
    assert!(
        encoder["decode_tps"].is_null() && encoder["prefill_tps"][0].as_f64().is_some_and(|v| v > 0.0),
        "{encoder}"
    );
    assert!(encoder["prefill_share"].as_f64().is_some_and(|share| share > 0.0), "{encoder}");
    assert_eq!((&built_in["cache_tokens"], &cached["cache_tokens"]), (&Value::from(0), &Value::from(16)));
    let compared = run(&["bench", "compare", text(&new), text(&new)]).ok();
    assert!(compared.ends_with("5 in both, 0 slower, 0 faster\n"), "{compared}");
    let svg = path("history.svg");
    run(&["bench", "history", text(&new), text(&new), "--out", text(&svg)]).ok();
    assert!(fs::read_to_string(&svg).expect("a drawing").contains("MiniLM q4, prompt 9"));
    run(&["bench", "history", text(&svg), "--out", text(&path("x.svg"))]).fails(1, &["history.svg", "line 1"]);
}

#[test]
fn kernels_are_timed_and_traced() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace.json");
    let flags = ["--dtype", "f32", "--prompt-tokens", "20", "--new-tokens", "5", "--runs", "2"];
    let kernels = [&["bench", text(&model), "--kernels", "--trace", text(&trace)], &flags[..]].concat();
    let out = run(&[&kernels[..], &["--json"]].concat());
    if out.stderr.contains("timestamp-query") {
        return println!("SKIPPED: the adapter has no timestamps");
    }
    let lines: Vec<Value> = out.ok().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [prefill, decode] = &lines[..] else { panic!("{lines:?}") };
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("{name}: {of}"));
    // 5 layers of 9, or where rows are few of 8, or 6 where products normalize what they read; embedding, norm, head and sampler
    let few = if prefill["adapter"].as_str().is_some_and(|adapter| adapter.ends_with("CPU)")) { 8.0 } else { 6.0 };
    for (line, phase, steps, rows, layer) in [(prefill, "prefill", 2.0, 40.0, 9.0), (decode, "decode", 8.0, 8.0, few)] {
        let dispatches = steps * (5.0 * layer + 4.0);
        assert_eq!((&line["type"], &line["phase"]), (&Value::from("kernels"), &Value::from(phase)));
        assert_eq!([number(line, "steps"), number(line, "rows")], [steps, rows]);
        assert_eq!([number(line, "dispatches"), number(line, "dispatches_per_layer")], [dispatches, layer]);
        assert!(number(line, "kernels_us") > 0.0 && number(line, "span_us") <= number(line, "wall_us"), "{line}");
        assert!(number(line, "kernels_us") <= number(line, "span_us") && number(line, "encode_us") > 0.0, "{line}");
        assert!(number(line, "step_us") > 0.0 && number(line, "copy_gb_per_s") > 0.0, "{line}");
        let rows = line["kernels"].as_array().expect("rows");
        assert_eq!(rows.iter().map(|row| number(row, "dispatches")).sum::<f64>(), dispatches);
        assert!((rows.iter().map(|row| number(row, "share")).sum::<f64>() - 1.0).abs() < 1e-6);
        let products = || rows.iter().filter(|row| row["kernel"].as_str().is_some_and(|k| k.starts_with("matmul")));
        assert!(products().all(|row| number(row, "operations_per_second") > 0.0), "{line}");
        assert!(rows.iter().all(|row| number(row, "roofline_share") > 0.0 && number(row, "total_us") > 0.0), "{line}");
        let sampler = rows.iter().find(|row| row["kernel"] == "sample[h_off]").expect("a sampler");
        assert!(sampler["operations_per_second"].is_null(), "nobody states them: {sampler}");
    }

    let events: Vec<Value> = serde_json::from_slice(&fs::read(&trace).expect("a trace")).expect("an array");
    let (steps, dispatches): (Vec<&Value>, Vec<&Value>) = events.iter().partition(|event| event["cat"] == "step");
    assert_eq!((steps.len(), dispatches.len()), (10, 2 * 49 + 8 * (5 * few as usize + 4)));
    assert!(events.iter().all(|event| event["ph"] == "X" && number(event, "dur") > 0.0), "complete events");
    for dispatch in &dispatches {
        let ends = |event: &Value| number(event, "ts") + number(event, "dur");
        let is_within =
            |step: &&&Value| number(step, "ts") <= number(dispatch, "ts") && ends(dispatch) <= ends(step) + 1e-3;
        assert_eq!(steps.iter().filter(is_within).count(), 1, "{dispatch}");
    }
    // every weight but the embedding's for 20 rows, the head for one
    let flops = |event: &&Value| {
        event["args"]["flops"].as_u64().filter(|_| event["name"].as_str().is_some_and(|n| n.starts_with("matmul")))
    };
    let first: u64 = dispatches[..49].iter().filter_map(flops).sum();
    let norms = 64 * (2 * 5 + 1);
    assert_eq!(first, 2 * (20 * (260_032 - 512 * 64 - norms) + 512 * 64));

    let table = run(&kernels).ok();
    for word in [
        "2 runs of f32",
        "prefill: 2 steps of 20 rows, 49 dispatches each (9 in a layer)",
        "decode: 8 steps of 1 row, 44",
        "64, 512",
        "of roofline",
        "% bandwidth",
        "% arithmetic",
        " - ",
    ] {
        assert!(table.contains(word), "no {word:?} in {table}");
    }
    run(&[&kernels[..], &["--portable"]].concat()).fails(1, &["timestamp-query"]);
    run(&["bench", text(&model), "--trace", "trace.json"]).fails(2, &["--kernels"]);
}
