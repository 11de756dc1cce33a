//! `--prompt-cache`: a second process goes on where the first one ended.

use std::path::Path;

use serde_json::Value;

use crate::support::{copy, generate, run, run_with, stories, text};

/// "Once upon a time", as the model takes it.
const PROMPT: &str = "1,403,407,261,378";

fn list(prompt: &str, ids: &[u64]) -> String {
    let ids = ids.iter().map(|id| format!(",{id}"));
    prompt.to_owned() + &ids.collect::<String>()
}

#[test]
fn another_process_goes_on_id_for_id() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for dtype in ["f32", "q4"] {
        let file = folder.path().join(format!("{dtype}.cache"));
        let of = |prompt: &str, new: &str, more: &[&str]| {
            let flags = ["--prompt-ids", prompt, "--max-new-tokens", new, "--ignore-eos", "--cache-dtype", dtype];
            generate(&model, &[&flags[..], more].concat())
        };
        let keep = ["--prompt-cache", text(&file)];
        let (whole, _) = of(PROMPT, "80", &[]);
        let (first, done) = of(PROMPT, "40", &keep);
        assert_eq!((&first[..], &done["stats"]["prefill_tokens"]), (&whole[..40], &Value::from(5)));
        // each process takes up what the one before left
        for (from, to) in [(40, 60), (60, 80)] {
            let (rest, done) = of(&list(PROMPT, &whole[..from]), &(to - from).to_string(), &keep);
            assert_eq!(rest, whole[from..to], "{dtype}");
            let stats = &done["stats"];
            assert_eq!((&stats["prompt_tokens"], &stats["prefill_tokens"]), (&(5 + from).into(), &Value::from(1)));
        }
    }
    let left: Vec<_> = std::fs::read_dir(&folder).expect("a folder").map(|f| f.expect("a file").file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn files_that_do_not_fit_are_told_and_kept() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cache");
    let flags = ["generate", "Once upon a time", "--model", text(&model), "--max-new-tokens", "2"];
    let of = |more: &[&str]| run(&[&flags[..], &["--prompt-cache", text(&file)], more].concat());
    of(&["--dtype", "f32"]).ok();
    let good = std::fs::read(&file).expect("it was written");
    of(&["--dtype", "f32", "--cache-dtype", "q8"]).fails(1, &["cache: its cache_dtype is f32", "q8"]);
    of(&["--dtype", "f16", "--cache-dtype", "f32"]).fails(1, &["another model", "another dtype"]);
    of(&["--dtype", "f32", "--cache-policy", "window:128"]).fails(1, &["cache_policy is full"]);
    assert_eq!(std::fs::read(&file).expect("it is there"), good);
    for wrong in [&good[..good.len() - 4], b"", b"a text that is no cache"] {
        std::fs::write(&file, wrong).expect("written");
        of(&["--dtype", "f32"]).fails(1, &["cache"]);
        assert_eq!(std::fs::read(&file).expect("it is there"), wrong);
    }
    let nowhere = Path::new("/nowhere/cache");
    run(&[&flags[..], &["--prompt-cache", text(nowhere)][..]].concat())
        .fails(1, &["/nowhere/cache", "cannot be written"]);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1);
}

#[test]
fn a_chat_begins_with_what_was_said() {
    let Some(stories) = stories() else { return };
    let model = copy(&stories, &[]);
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}";
    std::fs::write(model.path().join("chat_template.jinja"), template).expect("written");
    std::fs::write(model.path().join("tokenizer_config.json"), r#"{"bos_token": "<s>"}"#).expect("written");
    let file = model.path().join("chat.cache");
    let chat = || {
        let flags =
            ["chat", "--json", "--max-new-tokens", "12", "--system", "Once upon a time there was a little dog."];
        let files = ["--model", text(model.path()), "--prompt-cache", text(&file)];
        let out = run_with(&[&flags[..], &files].concat(), b"It had a ball.\n").ok();
        let done = out.lines().find(|line| line.contains("\"type\":\"done\"")).expect("an answer");
        let done: Value = serde_json::from_str(done).expect("JSON");
        let tokens = |name: &str| done["stats"][name].as_u64().expect("a number");
        (done["ids"].clone(), tokens("prompt_tokens"), tokens("prefill_tokens"))
    };
    let (ids, prompt, computed) = chat();
    assert_eq!(prompt, computed);
    assert_eq!(chat(), (ids, prompt, 1));
}
