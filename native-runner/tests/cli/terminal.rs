//! Ctrl-C, and readers that go away.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::support::{Run, binary, stories, text};

/// A generation that takes seconds, with its standard output.
fn spawn(model: &std::path::Path, flags: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = binary();
    command.args(["generate", "Once upon a time", "--max-new-tokens", "500", "--ignore-eos", "--model", text(model)]);
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    (child, stdout)
}

fn end(mut child: Child, mut stdout: impl Read, before: &str) -> Run {
    let (mut out, mut err) = (before.as_bytes().to_vec(), Vec::new());
    stdout.read_to_end(&mut out).expect("the rest of standard output");
    child.stderr.take().expect("piped").read_to_end(&mut err).expect("standard error");
    Run::of(child.wait().expect("it ends").code(), out, err)
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

#[test]
fn ctrl_c_ends_the_text_and_not_its_record() {
    let Some(model) = stories() else { return };
    let (child, mut stdout) = spawn(&model, &["--json", "--stats"]);
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a token");
    interrupt(&child);
    let run = end(child, stdout, &first);
    assert_eq!(run.code, Some(130), "{run:?}");
    let (ids, pieces, done) = run.json();
    assert_eq!(done["finish_reason"], "cancelled");
    assert_eq!(done["ids"], serde_json::Value::from(ids.clone()));
    assert_eq!(done["stats"]["new_tokens"], ids.len());
    assert_eq!(done["text"].as_str().map(str::trim_start), Some(pieces.trim_start()));
    assert!((1..500).contains(&ids.len()) && run.stderr.contains("tokens/s"), "{run:?}");
}

#[test]
fn ctrl_c_flushes_plain_text() {
    let Some(model) = stories() else { return };
    let (child, mut stdout) = spawn(&model, &[]);
    let mut first = [0];
    stdout.read_exact(&mut first).expect("a token");
    interrupt(&child);
    let run = end(child, stdout, ",");
    assert_eq!((run.code, run.stderr.as_str()), (Some(130), ""), "{run:?}");
    // how many tokens come before the signal depends on the machine
    let text = run.stdout.strip_suffix('\n').unwrap_or_default();
    let follows = text.starts_with(", there") || ", there".starts_with(text);
    assert!(first == *b"," && !text.is_empty() && follows, "{run:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let Some(model) = stories() else { return };
    for flags in [&[][..], &["--json"], &["--lookahead", "0"]] {
        let (child, mut stdout) = spawn(&model, flags);
        stdout.read_exact(&mut [0]).expect("a token");
        drop(stdout);
        let run = end(child, &b""[..], "");
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one() {
    let Some(model) = stories() else { return };
    // opened to be written, and never made
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("SKIPPED: there is no /dev/full");
        return;
    };
    let mut command = binary();
    command.args(["generate", "Once", "--max-new-tokens", "3", "--model", text(&model)]);
    let output = command.stdin(Stdio::null()).stdout(full).output().expect("it ends");
    Run::of(output.status.code(), output.stdout, output.stderr)
        .fails(1, &["standard output cannot be written", "space"]);
}
