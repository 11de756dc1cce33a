//! Without `--model`: the model that the program carries tells stories, and talks about them.

use crate::support::{run, run_with};

#[test]
fn a_story_is_told() {
    let story = |flags: &[&str]| {
        let run = run(&[&["generate", "Once upon a time", "--json", "--seed", "1"], flags].concat());
        let (ids, text, done) = run.json();
        assert_eq!((done["finish_reason"].as_str(), done["stats"]["prompt_tokens"].as_u64()), (Some("stop"), Some(5)));
        (ids, text)
    };
    let (ids, text) = story(&[]);
    assert!(ids.len() > 50 && text.starts_with(',') && text.trim_end().ends_with(['.', '!', '"']), "{text}");
    assert!(text.matches(". ").count() > 3, "{text}");
    assert_eq!(story(&[]).0, ids, "a seed tells the same story again");
    let (_, text) = story(&["--dtype", "q4"]);
    assert!(text.matches(". ").count() > 3, "{text}");
}

#[test]
fn a_chat_goes_on_from_what_was_said() {
    let out = run_with(&["chat", "--seed", "3", "-q"], b"Tell me a story about a cat named Tom.\nThank you!\n").ok();
    let answers: Vec<_> = out.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(answers.len() >= 2 && answers[0].contains("Tom"), "{out}");
}

#[test]
fn it_is_small_and_whole() {
    let told: serde_json::Value = serde_json::from_str(&run(&["inspect", "--json"]).ok()).expect("JSON");
    assert_eq!((told["supported"].as_bool(), told["place"].as_str()), (Some(true), Some("the built-in model")));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories");
    let size = |file: std::io::Result<std::fs::DirEntry>| file.and_then(|f| f.metadata()).expect("a file").len();
    let bytes: u64 = std::fs::read_dir(folder).expect("the assets").map(size).sum();
    assert!(bytes <= 3_000_000, "{bytes} bytes");
}
