//! `forward`: what transformers computes, at every position.

use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use crate::support::{Run, Tensors, i64s, read_tensors, run, shared, text, write_tensors};

fn forward(model: &Path, folder: &Path, flags: &[&str]) -> Run {
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    run(&[&["forward", text(model), "--input", text(&input), "--output", text(&output)], flags].concat())
}

/// Runs it over `tensors` and reads what it made.
#[track_caller]
fn made(model: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)], flags: &[&str]) -> Tensors {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tensors(&folder.path().join("in.safetensors"), tensors);
    let run = forward(model, folder.path(), &[&["--dtype", "f32"], flags].concat());
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "something was left behind");
    read_tensors(&folder.path().join("out.safetensors"))
}

fn tolerance(model: &Path) -> f64 {
    let meta = std::fs::read(model.join("meta.json")).expect("meta.json");
    let meta: Value = serde_json::from_slice(&meta).expect("JSON");
    meta["tolerance"]["f32_abs"].as_f64().expect("a tolerance")
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn hidden_states_and_logits_are_those_of_transformers() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let (expected, tolerance) = (read_tensors(&model.join("expected.safetensors")), tolerance(&model));
    let (shape, ids) = &expected["input_ids"];
    for flags in
        [&[][..], &["--prefill-chunk", "1"], &["--prefill-chunk", "3"], &["--prefill-chunk", "7"], &["--portable"]]
    {
        let made = made(&model, &[("input_ids", Dtype::I64, shape, i64s(ids))], flags);
        for name in ["logits", "last_hidden_state"] {
            let (made, expected) = (&made[name], &expected[name]);
            assert_eq!(made.0, expected.0, "{name}");
            let distance = distance(&made.1, &expected.1);
            println!("{flags:?} {name}: {distance:e} of {tolerance:e}");
            assert!(distance <= tolerance, "{name} is off by {distance}, {flags:?}");
        }
    }
}

#[test]
fn other_llamas_too() {
    for name in ["fixtures/llama_gqa_llama3", "fixtures/llama_rope_linear"] {
        let Some(model) = shared(name) else { return };
        let (expected, tolerance) = (read_tensors(&model.join("expected.safetensors")), tolerance(&model));
        let (shape, ids) = &expected["input_ids"];
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_tensors(&folder.path().join("in.safetensors"), &[("input_ids", Dtype::I64, shape, i64s(ids))]);
        let run = forward(&model, folder.path(), &["--dtype", "f32"]);
        if run.stderr.contains("not supported yet") {
            println!("SKIPPED: {name}: {}", run.stderr.trim());
            continue;
        }
        run.ok();
        let made = read_tensors(&folder.path().join("out.safetensors"));
        let distance = distance(&made["logits"].1, &expected["logits"].1);
        assert!(distance <= tolerance, "{name} is off by {distance}");
    }
}

#[test]
fn padded_rows_run_alone() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let (expected, tolerance) = (read_tensors(&model.join("expected.safetensors")), tolerance(&model));
    let (shape, ids) = &expected["batch.input_ids"];
    let mask = &expected["batch.attention_mask"].1;
    let [rows, columns] = shape[..] else { panic!("{shape:?}") };
    let vocab = expected["batch.logits"].0[2];
    let i32s = |values: &[f64]| values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect::<Vec<_>>();
    let bools = |values: &[f64]| values.iter().map(|&v| v as u8).collect::<Vec<_>>();
    assert!(mask.contains(&0.0));

    let of = |ids: (Dtype, Vec<u8>), mask: (Dtype, Vec<u8>)| {
        let tensors = [("input_ids", ids.0, &shape[..], ids.1), ("attention_mask", mask.0, &shape[..], mask.1)];
        made(&model, &tensors, &[])
    };
    let left = of((Dtype::I64, i64s(ids)), (Dtype::I64, i64s(mask)));
    assert_eq!(left["logits"].0, expected["batch.logits"].0);
    let off = distance(&left["logits"].1, &expected["batch.logits"].1);
    assert!(off <= tolerance, "off by {off}");
    for (row, _) in left["logits"].1.chunks_exact(vocab).zip(mask).filter(|(_, m)| **m == 0.0) {
        assert!(row.iter().all(|&v| v == 0.0), "masked positions are zero");
    }

    // other types, what stands under the mask does not matter
    let junk: Vec<_> = ids.iter().zip(mask).map(|(&id, &m)| if m == 0.0 { -7.0 } else { id }).collect();
    assert_eq!(of((Dtype::I32, i32s(&junk)), (Dtype::BOOL, bools(mask))), left);

    // the same rows, padded right
    let turned = |values: &[f64], width: usize| -> Vec<f64> {
        let rows = values.chunks_exact(columns * width).zip(mask.chunks_exact(columns));
        let turn = |(row, mask): (&[f64], &[f64])| {
            let pads = mask.iter().filter(|&&m| m == 0.0).count();
            [&row[pads * width..], &row[..pads * width]].concat()
        };
        rows.flat_map(turn).collect()
    };
    let right = of((Dtype::I64, i64s(&turned(ids, 1))), (Dtype::U8, bools(&turned(mask, 1))));
    assert_eq!(right["logits"].1, turned(&left["logits"].1, vocab));
    let width = left["last_hidden_state"].0[2];
    assert_eq!(left["last_hidden_state"].0[..2], [rows, columns]);
    assert_eq!(right["last_hidden_state"].1, turned(&left["last_hidden_state"].1, width));
}

#[test]
fn one_row_needs_no_batch() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let made = made(&model, &[("input_ids", Dtype::U16, &[3], vec![1, 0, 5, 0, 9, 0])], &[]);
    assert_eq!(made["logits"].0, [1, 3, 480]);
    assert_eq!(made["last_hidden_state"].0, [1, 3, 64]);
}

#[test]
fn wrong_inputs_are_told_by_name() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fails = |tensors: &[(&str, Dtype, &[usize], Vec<u8>)], words: &[&str]| {
        write_tensors(&folder.path().join("in.safetensors"), tensors);
        forward(&model, folder.path(), &[]).fails(1, words);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "something was left behind");
    };
    let ids = |shape: &'static [usize], values: &[f64]| ("input_ids", Dtype::I64, shape, i64s(values));
    let mask = |shape: &'static [usize], values: &[f64]| ("attention_mask", Dtype::I64, shape, i64s(values));
    fails(&[], &["input_ids", "in.safetensors"]);
    fails(
        &[ids(&[2], &[1.0, 2.0]), ("position_ids", Dtype::I64, &[1], i64s(&[0.0]))],
        &["position_ids", "attention_mask"],
    );
    fails(&[("input_ids", Dtype::F32, &[1], vec![0; 4])], &["input_ids", "F32", "integer"]);
    fails(&[("input_ids", Dtype::BOOL, &[1], vec![0])], &["input_ids", "BOOL"]);
    fails(&[ids(&[1, 1, 1], &[1.0])], &["input_ids", "[1, 1, 1]"]);
    fails(&[ids(&[0], &[])], &["input_ids", "no token"]);
    fails(&[ids(&[2], &[1.0, -3.0])], &["input_ids", "-3", "480", "column 1"]);
    fails(&[ids(&[2], &[1.0, 480.0])], &["input_ids", "480"]);
    fails(&[("input_ids", Dtype::U64, &[1], vec![255; 8])], &["input_ids", "vocabulary"]);
    fails(&[ids(&[2], &[1.0, 2.0]), mask(&[1, 2], &[1.0, 1.0])], &["attention_mask", "[1, 2]"]);
    fails(&[ids(&[3], &[1.0; 3]), mask(&[3], &[1.0, 0.0, 1.0])], &["attention_mask", "row 0", "hole"]);
    fails(&[ids(&[2, 1], &[1.0; 2]), mask(&[2, 1], &[1.0, 0.0])], &["attention_mask", "row 1", "no token"]);
    fails(&[ids(&[2], &[1.0; 2]), mask(&[2], &[1.0, 2.0])], &["attention_mask", "2"]);
    let long: &'static [usize] = &[300];
    fails(&[ids(long, &[1.0; 300])], &["300 tokens", "256"]);
}

#[test]
fn wrong_files_are_told_by_name() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let input = folder.path().join("in.safetensors");
    forward(&model, folder.path(), &[]).fails(1, &["in.safetensors", "cannot be read"]);
    for bytes in [&b""[..], b"not a safetensors file at all", &[255; 16], b"\x02\0\0\0\0\0\0\0{}trailing"] {
        std::fs::write(&input, bytes).expect("written");
        forward(&model, folder.path(), &[]).fails(1, &["in.safetensors", "safetensors"]);
    }
    write_tensors(&input, &[("input_ids", Dtype::I64, &[1], i64s(&[1.0]))]);
    let bytes = std::fs::read(&input).expect("read");
    std::fs::write(&input, &bytes[..bytes.len() - 1]).expect("written");
    forward(&model, folder.path(), &[]).fails(1, &["in.safetensors"]);

    std::fs::write(&input, &bytes).expect("written");
    let to = |output: &str| run(&["forward", text(&model), "--input", text(&input), "--output", output]);
    to("/no/such/folder/out.safetensors").fails(1, &["/no/such/folder/out.safetensors", "cannot be written"]);
    to(text(folder.path())).fails(1, &["cannot be written"]);
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("linked.safetensors", &link).expect("a link");
        std::fs::write(folder.path().join("linked.safetensors"), b"old").expect("written");
        to(text(&link)).ok();
        assert!(link.is_symlink() && read_tensors(&link).contains_key("logits"));
        // a pipe is written to, and is still one afterwards
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).expect("what was written")
        });
        to(text(&pipe)).ok();
        assert!(!pipe.is_file() && pipe.exists());
        assert_eq!(reader.join().expect("read"), std::fs::read(&link).expect("read"));
    }
}
