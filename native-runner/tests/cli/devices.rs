//! `devices`: what there is, and what to do where there is nothing.

use serde_json::Value;

use crate::support::{binary, finish, run};

#[test]
fn adapters_are_listed() {
    let tables = run(&["devices"]).ok();
    let (table, chosen) = tables.split_once("\n\n").expect("two tables");
    let json: Value = serde_json::from_str(&run(&["devices", "--json"]).ok()).expect("JSON");
    let adapters = json.as_array().expect("an array");
    assert!(table.starts_with("index") && !adapters.is_empty(), "{table}");
    assert_eq!(table.lines().count(), 1 + adapters.len(), "{table}");
    for (index, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter["index"], index);
        assert!(adapter["max_binding"].as_u64().is_some_and(|v| v >= 128 << 20), "{adapter}");
        let precision = adapter["precision"].as_array().expect("an array");
        let types: Vec<_> = precision.iter().map(|d| (d["what"].as_str(), d["chosen"].as_str())).collect();
        let pairs = [("activations", "f16"), ("cache", "f16"), ("sums", "f32")];
        assert_eq!(types, pairs.map(|(what, chosen)| (Some(what), Some(chosen))));
        for decision in precision {
            let why = decision["reason"].as_str().expect("a text");
            assert!(!why.is_empty() && chosen.contains(why), "{chosen}");
        }
        for name in ["name", "backend", "kind"] {
            let value = adapter[name].as_str().expect("a text");
            assert!(!value.is_empty() && table.contains(value), "{adapter}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_driver_there_is_help() {
    let nowhere = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments).env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
        finish(command, b"")
    };
    nowhere(&["devices"]).fails(1, &["no GPU adapter", "mesa-vulkan-drivers"]);
    nowhere(&["devices", "--json"]).fails(1, &["no GPU adapter"]);
    let Some(model) = crate::support::stories() else { return };
    let model = crate::support::text(&model);
    nowhere(&["generate", "Once", "--model", model]).fails(1, &["no GPU adapter", "mesa-vulkan-drivers"]);
    run(&["devices", "--backend", "metal"]).fails(1, &["no GPU adapter", "Metal"]);
}

/// Kernels are tested and measured once, remembered, and told; what is wrong is not used, and said.
#[test]
fn kernels_are_tested_and_remembered() {
    let home = tempfile::tempdir().expect("a folder");
    let ask = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_native-runner"));
        command.args(arguments).env("XDG_CACHE_HOME", home.path());
        finish(command, b"")
    };
    assert!(ask(&["devices"]).ok().contains("not tested"));
    let generate = ["generate", "Once", "--max-new-tokens", "3", "--temperature", "0"];
    let untuned = ask(&[&generate[..], &["--no-autotune"]].concat()).ok();
    let kernels = || {
        let adapters: Value = serde_json::from_str(&ask(&["devices", "--json"]).ok()).expect("JSON");
        adapters.as_array().expect("an array").iter().find_map(|a| a["kernels"].as_object().cloned()).expect("a report")
    };
    assert_eq!(kernels()["is_tuned"], false);
    assert_eq!(ask(&generate).ok(), untuned);
    let report = kernels();
    assert_eq!(report["is_tuned"], true);
    let verdicts = report["verdicts"].as_array().expect("verdicts");
    assert!(verdicts.iter().all(|verdict| verdict["wrong"].is_null()), "{verdicts:?}");

    // as if a driver had computed something else
    let folder = home.path().join("webweft/kernels");
    let file = std::fs::read_dir(folder).expect("a folder").next().expect("a file").expect("a file").path();
    let text = std::fs::read_to_string(&file).expect("a report");
    std::fs::write(&file, text.replacen("\"wrong\":null", "\"wrong\":\"norm: element 3 is 2 instead of 1\"", 1))
        .expect("written");
    if !verdicts.is_empty() {
        let told = ask(&generate);
        assert!(told.stderr.contains("element 3 is 2 instead of 1"), "{told:?}");
        let listed = ask(&["devices"]).ok();
        assert!(listed.contains("wrong: norm: element 3") && listed.contains("never"), "{listed}");
    }
    ask(&["devices", "--test"]).ok();
    assert!(!ask(&["devices"]).ok().contains("wrong"));
}
