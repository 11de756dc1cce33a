//! `chat` through a pipe.

use std::path::Path;

use serde_json::Value;

use crate::support::{Run, copy, run_with, shared, stories, text};

/// The trained model with a template that only joins: it tells stories, and its answers are texts that tokenize as they came.
fn storyteller() -> Option<tempfile::TempDir> {
    let folder = copy(&stories()?, &[]);
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}";
    std::fs::write(folder.path().join("chat_template.jinja"), template).expect("written");
    let config = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), config).expect("written");
    Some(folder)
}

fn chat(model: &Path, flags: &[&str], input: &str) -> Run {
    run_with(&[&["chat", "--model", text(model), "--max-new-tokens", "24"], flags].concat(), input.as_bytes())
}

/// The `done` lines of `--json`, and the notices.
#[track_caller]
fn turns(run: Run) -> (Vec<Value>, Vec<String>) {
    let lines: Vec<Value> = run.ok().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut done: Vec<Value> = Vec::new();
    let (mut notices, mut pieces, mut ids) = (Vec::new(), String::new(), Vec::new());
    for line in lines {
        match line["type"].as_str() {
            Some("token") => {
                assert_eq!(line["turn"], done.len() + 1);
                pieces += line["text"].as_str().expect("a text");
                ids.push(line["id"].clone());
            }
            Some("done") => {
                assert_eq!(
                    (&line["turn"], &line["ids"]),
                    (&(done.len() + 1).into(), &Value::from(std::mem::take(&mut ids)))
                );
                let text = line["text"].as_str().expect("a text");
                assert!(text.starts_with(&std::mem::take(&mut pieces)), "{line}");
                done.push(line);
            }
            Some("notice") => notices.push(line["text"].as_str().expect("a text").to_owned()),
            other => panic!("{other:?}"),
        }
    }
    (done, notices)
}

#[test]
fn a_turn_computes_its_own_tokens_only() {
    let Some(model) = storyteller() else { return };
    let (done, _) = turns(chat(model.path(), &["--json"], "Once upon a time\nThen a dog came.\nThe end?\n"));
    let of = |turn: usize, name: &str| done[turn]["stats"][name].as_u64().expect("a number");
    assert_eq!(done.len(), 3);
    assert_eq!(of(0, "prefill_tokens"), of(0, "prompt_tokens"));
    for turn in 1..3 {
        // the last new token was never fed
        let cached = of(turn - 1, "prompt_tokens") + of(turn - 1, "new_tokens") - 1;
        assert_eq!(of(turn, "prefill_tokens"), of(turn, "prompt_tokens") - cached, "turn {turn}");
        assert!(of(turn, "prefill_tokens") < 20);
    }
    // the same as one at a time, with nothing cached
    let first = done[0]["text"].as_str().expect("a text");
    let whole = format!("\"\"\"Once upon a time\n{first}\nThen a dog came.\"\"\"\n");
    let (alone, _) = turns(chat(model.path(), &["--json"], &whole));
    assert_eq!(alone[0]["ids"], done[1]["ids"]);
}

#[test]
fn answers_go_to_standard_output_and_the_rest_does_not() {
    let Some(model) = storyteller() else { return };
    let (done, _) = turns(chat(model.path(), &["--json"], "Once upon a time\nThen a dog came.\n"));
    let expected: String = done.iter().map(|turn| turn["text"].as_str().expect("a text").to_owned() + "\n").collect();
    for input in ["Once upon a time\nThen a dog came.\n", "Once upon a time\r\n\n  \nThen a dog came."] {
        let run = chat(model.path(), &[], input);
        assert!(run.stderr.lines().all(|line| line.contains("--max-new-tokens 24")), "{run:?}");
        assert_eq!(run.ok(), expected);
    }
    assert_eq!(chat(model.path(), &[], "").ok(), "");
}

#[test]
fn commands_do_what_they_say() {
    let Some(model) = storyteller() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("said.json");
    let input = format!(
        "/system There was a cat.\nOnce upon a time\nThen a dog came.\n/undo\nThen a bird came.\n/regen\n/save {}\n/stats\n/reset\nOnce upon a time\n//x\n/nonsense\n/exit\nNever said\n",
        file.display()
    );
    let (done, notices) = turns(chat(model.path(), &["--json", "--temperature", "0"], &input));
    assert_eq!(done.len(), 6);
    assert_eq!(done[2]["ids"], done[3]["ids"], "greedy: another answer is the same one");
    assert_eq!(done[3]["stats"]["prefill_tokens"], 1, "and its question is in the cache");
    assert_eq!(done[4]["ids"], done[0]["ids"], "/reset keeps the system text");
    assert!(notices.iter().any(|n| n.contains("/nonsense")), "{notices:?}");
    let saved: Value = serde_json::from_slice(&std::fs::read(&file).expect("it was saved")).expect("JSON");
    let roles: Vec<_> = saved["messages"].as_array().expect("messages").iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!(saved["messages"][3]["content"], "Then a bird came.");

    let by_flag = chat(model.path(), &["--json", "--system", "There was a cat."], "Once upon a time\n");
    assert_eq!(turns(by_flag).0[0]["ids"], done[0]["ids"]);
    let sampled = chat(model.path(), &["--json", "--seed", "7"], "Once upon a time\n/regen\n");
    let (done, _) = turns(sampled);
    assert_ne!(done[0]["ids"], done[1]["ids"], "another draw");
}

#[test]
fn a_full_context_forgets_its_oldest_turns() {
    let Some(model) = storyteller() else { return };
    let input = "Once upon a time\nThen a dog came.\nThen a cat came.\nThen a bird came.\n";
    let (done, notices) = turns(chat(model.path(), &["--json", "--context", "96"], input));
    assert_eq!(done.len(), 4);
    assert!(notices.iter().any(|n| n.contains("context of 96") && n.contains("forgotten")), "{notices:?}");
    assert!(done.iter().all(|turn| turn["stats"]["prompt_tokens"].as_u64().is_some_and(|n| n < 96)));
    // one that fits in no way is told
    let long = "word ".repeat(200) + "\n";
    let run = chat(model.path(), &["--context", "96"], &long);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("tokens and the context holds 96"), "{run:?}");
}

#[test]
fn templates_see_variables_and_refuse() {
    let Some(model) = storyteller() else { return };
    let template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system texts') }}{% endif %}{{ bos_token }}{{ start }}{{ messages[-1].content }}";
    std::fs::write(model.path().join("chat_template.jinja"), template).expect("written");
    let with = |flags: &[&str]| turns(chat(model.path(), &[&["--json"], flags].concat(), "upon a time\n")).0[0].clone();
    assert_eq!(with(&["--template-var", "start=Once "])["stats"]["prompt_tokens"], 5);
    assert_eq!(with(&[])["stats"]["prompt_tokens"], 4);
    chat(model.path(), &["--system", "x"], "Hi\n").fails(1, &["chat_template.jinja, line 1", "no system texts"]);
    std::fs::write(model.path().join("chat_template.jinja"), "\n{% fro %}").expect("written");
    chat(model.path(), &[], "Hi\n").fails(1, &["chat_template.jinja, line 2", "fro"]);
}

#[test]
fn what_cannot_chat_says_so() {
    let Some(model) = stories() else { return };
    chat(&model, &[], "Hi\n").fails(1, &["no chat template", "generate"]);
    let Some(folder) = storyteller() else { return };
    std::fs::remove_file(folder.path().join("tokenizer.json")).expect("it was there");
    chat(folder.path(), &[], "Hi\n").fails(1, &["tokenizer.json"]);
    let Some(folder) = storyteller() else { return };
    let run = run_with(&["chat", "--model", text(folder.path())], b"Once \xff\n");
    run.fails(1, &["UTF-8", "byte 5"]);
}

#[test]
fn chat_models_of_every_family_answer() {
    for name in ["llama_mha", "mistral_sw", "phi3", "qwen2", "qwen3", "smollm3"] {
        let Some(model) = shared(&format!("fixtures/{name}")) else { return };
        let (done, _) = turns(chat(&model, &["--json", "--ignore-eos"], "Hi\nHow are you?\n"));
        assert_eq!(done.len(), 2, "{name}");
        assert!(done.iter().all(|turn| turn["stats"]["new_tokens"] == 24), "{name}: {done:?}");
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_pipe_and_keeps_what_was_said() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    let Some(model) = storyteller() else { return };
    let mut command = crate::support::binary();
    command.args(["chat", "--json", "--ignore-eos", "--max-new-tokens", "480", "--model", text(model.path())]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"Once\nTwice\n").expect("written");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut out = String::new();
    stdout.read_line(&mut out).expect("a token");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
    stdout.read_to_string(&mut out).expect("the rest");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["type"], &last["finish_reason"]), (&"done".into(), &"cancelled".into()), "{last}");
}
