//! `generate --file`: each prompt as if it were alone, in the order of the lines; what is wrong with one is its own.

use serde_json::{Value, json};

use crate::support::{generate, run, run_with, stories, text};

const PROMPTS: [&str; 4] = ["Once upon a time", "The dog", "One day, a little girl named Lily", "Tom and Mia"];

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn each_is_as_if_it_were_alone() {
    let Some(model) = stories() else { return };
    let flags = ["--dtype", "f32", "--max-new-tokens", "20"];
    let alone: Vec<_> = PROMPTS.iter().map(|prompt| generate(&model, &[&flags[..], &[prompt]].concat())).collect();
    let file = PROMPTS.join("\n\n") + "\n";
    let all = [&["generate", "--model", text(&model), "--file", "-"], &flags[..]].concat();
    for batch in [&["--batch", "3"][..], &["--batch", "1"], &["--batch-strategy", "timeout:8:5ms"], &[]] {
        let answers = lines(&run_with(&[&all[..], &["--json"], batch].concat(), file.as_bytes()).ok());
        assert_eq!(answers.len(), PROMPTS.len());
        for (i, (answer, (ids, done))) in answers.iter().zip(&alone).enumerate() {
            assert_eq!((&answer["index"], &answer["ids"]), (&json!(i), &json!(ids)), "{batch:?}");
            assert_eq!((&answer["text"], &answer["finish_reason"]), (&done["text"], &done["finish_reason"]));
            assert!(
                answer["tokens"] == ids.len() && answer["timing"]["prefill_ms"].as_f64().is_some_and(|ms| ms > 0.0)
            );
        }
    }
    let texts: Vec<_> = alone.iter().map(|(_, done)| done["text"].as_str().expect("a text")).collect();
    let plain = run_with(&[&all[..], &["--stats"]].concat(), file.as_bytes());
    assert!(plain.stderr.contains("4 prompts, 80 tokens") && plain.stderr.contains("tokens/s"), "{plain:?}");
    assert_eq!(plain.ok(), texts.join("\n\n") + "\n");
}

#[test]
fn lines_of_json_have_settings_of_their_own() {
    let Some(model) = stories() else { return };
    let file = b"{\"prompt\": \"Once upon a time\", \"max_new_tokens\": 3}\n{\"prompt\": [1, 403, 407], \"temperature\": 1, \"seed\": 7}\n";
    let flags = ["--model", text(&model), "--file", "-", "--jsonl", "--json", "--max-new-tokens", "9", "--seed", "1"];
    let answers = lines(&run_with(&[&["generate", "--temperature", "0"], &flags[..]].concat(), file).ok());
    assert_eq!((answers[0]["tokens"].clone(), answers[0]["finish_reason"].clone()), (json!(3), json!("length")));
    let alone = ["--prompt-ids", "1,403,407", "--max-new-tokens", "9", "--temperature", "1", "--seed", "7"];
    assert_eq!(answers[1]["ids"], json!(generate(&model, &alone).0));
}

#[test]
fn a_prompt_that_fails_is_told_and_the_others_go_on() {
    let Some(model) = stories() else { return };
    let file = b"{\"prompt\": [999999]}\n{\"prompt\": \"Once\"}\n{\"prompt\": \"Once\", \"temperature\": -1}\n";
    let flags = ["generate", "--model", text(&model), "--file", "-", "--jsonl", "--max-new-tokens", "4"];
    let run = run_with(&flags, file);
    assert_eq!((run.code, run.stdout.is_empty()), (Some(1), false), "{run:?}");
    for words in ["error: prompt 1: ", "999999", "error: prompt 3: ", "temperature", "error: 2 of 3 prompts failed"] {
        assert!(run.stderr.contains(words), "no {words:?} in {run:?}");
    }
    let run = run_with(&[&flags[..], &["--json"]].concat(), file);
    let answers = lines(&run.stdout);
    assert!(answers[0]["error"].is_string() && answers[2]["error"].is_string() && answers[1]["tokens"] == 4, "{run:?}");
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1));
}

#[test]
fn what_is_wrong_with_the_file_is_told_before_a_model_is_loaded() {
    let base = ["generate", "--model", "/no/such/model", "--file"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    run(&with(&["/no/such/file"])).fails(1, &["/no/such/file", "cannot be read"]);
    run_with(&with(&["-"]), b"\n \n").fails(1, &["no prompts"]);
    run_with(&with(&["-"]), b"a\xff").fails(1, &["UTF-8", "byte 1"]);
    run_with(&with(&["-", "--jsonl"]), b"{\"prompt\": \"a\"}\n{\"text\": 1}\n").fails(1, &["line 2", "no `prompt`"]);
    run_with(&with(&["-", "--jsonl"]), b"{\"prompt\": \"a\", \"max_tokens\": 1}").fails(1, &["line 1", "max_tokens"]);
    for wrong in [
        &["-", "--batch", "0"][..],
        &["-", "--batch", "65"],
        &["-", "--batch", "many"],
        &["-", "--batch-strategy", "fixed"],
        &["-", "--batch", "2", "--batch-strategy", "memory-aware"],
        &["-", "a prompt"],
    ] {
        run(&with(wrong)).fails(2, &["--"]);
    }
    run(&["generate", "--batch", "2"]).fails(2, &["--file"]);
    run(&["generate", "a", "--batch", "2"]).fails(2, &["--batch"]);
}
