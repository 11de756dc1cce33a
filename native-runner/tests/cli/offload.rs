//! Layers that do not stay on the GPU: the same tokens, and told what it takes.

use crate::support::{generate, run, stories, text};

const FLAGS: [&str; 6] = ["--dtype", "f32", "--temperature", "0", "--max-new-tokens", "24"];

#[test]
fn layers_pass_through() {
    let Some(model) = stories() else { return };
    let prompt = ["Once upon a time", "--context", "128"];
    let of = |flags: &[&str]| generate(&model, &[&prompt[..], &FLAGS[..], flags].concat());
    let (want, whole) = of(&[]);
    assert!(whole["stats"].get("offload").is_none(), "{whole}");
    for (flags, resident) in [(["--gpu-layers", "1"], Some(1)), (["--max-gpu-memory", "9300KB"], None)] {
        let (ids, done) = of(&flags);
        assert_eq!(ids, want, "{flags:?}");
        let offload = &done["stats"]["offload"];
        assert_eq!(offload["layers"], 5, "{done}");
        assert!(resident.is_none_or(|resident| offload["resident"] == resident), "{done}");
        assert!(offload["copied"].as_u64() >= offload["bytes"].as_u64(), "{done}");
        assert!(offload["copy_gb_per_s"].as_f64().is_some_and(|speed| speed > 0.0), "{done}");
    }
    let flags = ["generate", "Once", "--model", text(&model), "--gpu-layers", "2", "--stats"];
    let told = run(&[&flags[..], &FLAGS[..]].concat());
    let stderr = &told.stderr;
    assert!(stderr.contains("layers: 2 of 5 stay on the GPU"), "{stderr}");
    assert!(stderr.contains("2 of 5 stay") && stderr.contains("copied,") && stderr.contains("GB/s"), "{stderr}");
}

#[test]
fn what_no_budget_holds_is_told_with_what_would() {
    let Some(model) = stories() else { return };
    let run = run(&["generate", "Once", "--model", text(&model), "--dtype", "f32", "--max-gpu-memory", "1MiB"]);
    run.fails(1, &["(1048576 bytes)", "even if no layer stays", "with a context of 128 it needs"]);
}
