//! `quantize`, and models that another tool quantized: loaded with no flag.

use std::fs;

use safetensors::Dtype;

use crate::support::{generate, i64s, read_tensors, run, shared, stories, text, write_tensors};

/// What it writes is loaded with no flag, and says what the checkpoint says at that dtype.
#[test]
fn a_quantized_folder_is_a_model() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let original = fs::metadata(model.join("model.safetensors")).expect("weights").len();
    let flags = ["Once upon a time", "--max-new-tokens", "30"];
    for (dtype, most) in [("q4", 0.21), ("f16", 0.53)] {
        let out = folder.path().join(dtype);
        let flag: &[&str] = if dtype == "q4" { &[] } else { &["--dtype", dtype] };
        let run = run(&[&["quantize", text(&model), text(&out)], flag].concat());
        assert!(run.stderr.contains("model.safetensors") || run.stderr.contains("run it:"), "{run:?}");
        assert_eq!(run.ok(), "");
        let (want, _) = generate(&model, &[&flags[..], &["--dtype", dtype]].concat());
        let (got, done) = generate(&out, &flags);
        assert_eq!(got, want, "{dtype}");
        assert_eq!(done["stats"]["dtype"], dtype, "{done}");
        let bytes = fs::metadata(out.join("model.safetensors")).expect("weights").len();
        assert!((bytes as f64) < most * original as f64, "{bytes} of {original}");
    }
}

/// What is there is not written over, unless that is said.
#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("mine"), "x").expect("a file");
    run(&["quantize", text(&model), text(folder.path())]).fails(2, &["not empty", "--force"]);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    run(&["quantize", text(&model), text(folder.path()), "--force", "-q"]).ok();
    assert_eq!(fs::read(folder.path().join("mine")).expect("it is there"), b"x");
    let file = folder.path().join("mine");
    run(&["quantize", text(&model), text(&file)]).fails(1, &["mine", "cannot be written"]);
    run(&["quantize", "./nowhere", text(&folder.path().join("new"))]).fails(1, &["nowhere"]);
}

/// `forward` and `generate` of every form, with no flag.
#[test]
fn what_others_quantized_runs_with_no_flag() {
    for name in [
        "q_awq",
        "q_bnb_int8",
        "q_bnb_nf4",
        "q_bnb_nf4_dq",
        "q_compressed_w4",
        "q_fp8_block",
        "q_gptq_8bit",
        "q_gptq_asym_act",
        "q_gptq_sym",
    ] {
        let Some(model) = shared(&format!("fixtures/{name}")) else { return };
        let expected = read_tensors(&model.join("expected.safetensors"));
        let (shape, ids) = &expected["input_ids"];
        let folder = tempfile::tempdir().expect("a folder");
        let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
        let given: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
        write_tensors(&input, &[("input_ids", Dtype::I64, shape, i64s(ids))]);
        run(&["forward", text(&model), "--input", text(&input), "--output", text(&output)]).ok();
        let made = read_tensors(&output);
        let meta: serde_json::Value =
            serde_json::from_slice(&fs::read(model.join("meta.json")).expect("meta.json")).expect("JSON");
        let tolerance = meta["tolerance"]["f32_abs"].as_f64().expect("a tolerance");
        let off = made["logits"].1.iter().zip(&expected["logits"].1).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= tolerance, "{name}: {off}");
        let prompt = given.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let want: Vec<u64> = expected["greedy_ids"].1.iter().map(|&id| id as u64).collect();
        let count = want.len().to_string();
        let (got, _) = generate(&model, &["--prompt-ids", &prompt, "--max-new-tokens", &count, "--ignore-eos"]);
        assert_eq!(got, want, "{name}");
    }
}
