//! `generate`: what transformers generates, in every form and by every way.

use serde_json::Value;

use crate::support::{Run, copy, generate, read_tensors, run, run_with, shared, stories, text};

/// A prompt of the model's `meta.json`, with its ids and what follows.
struct Case {
    prompt: String,
    text: String,
    ids: String,
    expected: Vec<u64>,
}

fn cases(model: &std::path::Path) -> Vec<Case> {
    let meta = std::fs::read(model.join("meta.json")).expect("meta.json");
    let meta: Value = serde_json::from_slice(&meta).expect("JSON");
    let tensors = read_tensors(&model.join("expected.safetensors"));
    let prompts = meta["prompts"].as_array().expect("prompts");
    let case = |(n, prompt): (usize, &Value)| {
        let ids = |name: &str| tensors[&format!("prompt{n}.{name}")].1.iter().map(|&id| id as u64).collect::<Vec<_>>();
        let expected = ids("greedy_ids");
        assert_eq!(prompt["n_new"], expected.len());
        let list: Vec<_> = ids("input_ids").iter().map(u64::to_string).collect();
        let field = |name: &str| prompt[name].as_str().expect("a text").to_owned();
        Case { prompt: field("prompt"), text: field("text"), ids: list.join(","), expected }
    };
    prompts.iter().enumerate().map(case).collect()
}

#[test]
fn greedy_ids_are_those_of_transformers() {
    let Some(model) = stories() else { return };
    for case in cases(&model) {
        let count = case.expected.len().to_string();
        let flags = ["--dtype", "f32", "--eos-token-id", "1", "--max-new-tokens", &count];
        for prompt in [vec![case.prompt.as_str()], vec!["--prompt-ids", &case.ids]] {
            let run = run(&[&["generate", "--json", "--model", text(&model)], &flags[..], &prompt].concat());
            let (ids, pieces, done) = run.json();
            assert_eq!(ids, case.expected, "{prompt:?}");
            assert_eq!(done["ids"], Value::from(case.expected.clone()));
            // the pieces are what the whole has beyond the prompt; `text` is the new tokens' alone
            assert_eq!(done["text"].as_str().map(str::trim_start), Some(case.text.trim_start()), "{prompt:?}");
            assert_eq!(pieces.trim_start(), case.text.trim_start(), "{prompt:?}");
            let stopped = case.expected.last() == Some(&1);
            assert_eq!(done["finish_reason"], if stopped { "stop" } else { "length" });
        }
    }
}

#[test]
fn stats_add_up() {
    let Some(model) = stories() else { return };
    let (ids, done) = generate(&model, &["Once upon a time", "--max-new-tokens", "9"]);
    let stats = &done["stats"];
    assert_eq!(ids.len(), 9);
    assert_eq!((&stats["prompt_tokens"], &stats["prefill_tokens"]), (&Value::from(5), &Value::from(5)));
    assert_eq!((&stats["new_tokens"], &stats["dtype"]), (&Value::from(9), &Value::from("f32")));
    for name in ["load_ms", "first_token_ms", "prefill_ms", "prefill_tps", "decode_ms", "decode_tps"] {
        assert!(stats[name].as_f64().is_some_and(|v| v > 0.0), "{name}: {stats}");
    }
    let memory = |name: &str| stats["memory"][name].as_u64().unwrap_or_else(|| panic!("{name}: {stats}"));
    let parts = ["weights", "cache", "activations", "staging"].map(memory);
    assert_eq!(parts.iter().sum::<u64>(), memory("total"));
    assert!(memory("weights") >= 260_000 * 4 && memory("cache") > 0 && memory("peak") >= memory("total"));
    assert!(stats["adapter"].as_str().is_some_and(|name| !name.is_empty()));
}

/// What `--memory-json` writes agrees with `--json`, has a time before the weights were there, and nothing that was left behind.
#[test]
fn memory_is_written_as_json() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("memory.json");
    let (_, done) = generate(&model, &["Once upon a time", "--max-new-tokens", "9", "--memory-json", text(&file)]);
    let memory: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    for (name, told) in [("total", "total"), ("peak", "peak")] {
        assert_eq!(memory[name], done["stats"]["memory"][told]);
    }
    for name in ["weights", "cache", "activations", "staging"] {
        assert_eq!(memory["categories"][name], done["stats"]["memory"][name]);
    }
    let list = |name: &str| memory[name].as_array().expect("a list").clone();
    let sum = |items: &[Value]| items.iter().filter_map(|item| item["bytes"].as_u64()).sum::<u64>();
    assert_eq!(memory["total"], sum(&list("labels")));
    assert!(list("labels").iter().any(|label| label["buffers"].as_u64() > Some(1)), "layers are told together");
    let total = |sample: &Value| ["weights", "cache", "activations", "staging"].map(|name| sample[name].as_u64());
    let totals: Vec<u64> = list("timeline").iter().map(|sample| total(sample).into_iter().flatten().sum()).collect();
    assert_eq!(totals.iter().max().copied(), memory["peak"].as_u64(), "{totals:?}");
    assert_eq!(totals.last().copied(), memory["total"].as_u64());
    assert_eq!(list("leaks"), Vec::<Value>::new());
}

#[test]
fn a_pipe_gets_the_new_text_only() {
    let Some(model) = stories() else { return };
    let flags = ["generate", "--model", text(&model), "--dtype", "f32", "--max-new-tokens", "12"];
    let (_, done) = generate(&model, &["Once upon a time", "--dtype", "f32", "--max-new-tokens", "12"]);
    let expected = format!("{}\n", done["text"].as_str().expect("a text"));
    let by_argument = run(&[&flags[..], &["Once upon a time", "--stats"]].concat());
    assert!(by_argument.stderr.contains("tokens/s") && by_argument.stderr.contains("weights"), "{by_argument:?}");
    assert_eq!(by_argument.ok(), expected);
    for stdin in ["Once upon a time", "Once upon a time\n", "Once upon a time\r\n"] {
        let run = run_with(&flags, stdin.as_bytes());
        assert_eq!(run.stderr, "");
        assert_eq!(run.ok(), expected, "{stdin:?}");
    }
    // one line break is trimmed, and no more
    assert_ne!(run_with(&flags, b"Once upon a time\n\n").ok(), expected);
}

#[test]
fn one_seed_gives_one_text() {
    let Some(model) = stories() else { return };
    let of = |flags: &[&str]| generate(&model, &[&["Once upon a time", "--max-new-tokens", "40"], flags].concat());
    let (first, _) = of(&["--seed", "7"]);
    assert_eq!(first, of(&["--seed", "7", "--temperature", "1"]).0);
    assert_eq!(first, of(&["--seed", "7", "--lookahead", "0"]).0);
    assert_ne!(first, of(&["--seed", "8"]).0);
    assert_eq!(of(&["--seed", "8", "--top-k", "1"]).0, of(&["--temperature", "0"]).0);
    // without a seed, the stats tell the one that was drawn
    let (ids, done) = of(&["--temperature", "1.5", "--top-p", "0.99"]);
    let seed = done["stats"]["seed"].to_string();
    assert_eq!(ids, of(&["--temperature", "1.5", "--top-p", "0.99", "--seed", &seed]).0);
    assert_ne!(ids, of(&["--temperature", "1.5", "--top-p", "0.99"]).0);
    assert!(of(&[]).1["stats"]["seed"].is_null());
}

#[test]
fn lookahead_changes_nothing() {
    let Some(model) = stories() else { return };
    let of = |lookahead: &str, more: &[&str]| {
        generate(
            &model,
            &[&["The little dog was very", "--max-new-tokens", "70", "--lookahead", lookahead], more].concat(),
        )
    };
    for more in [&[][..], &["--eos-token-id", "1,426"]] {
        let (expected, done) = of("8", more);
        assert_eq!(done["finish_reason"], if more.is_empty() { "length" } else { "stop" });
        for lookahead in ["0", "1", "33", "128"] {
            let (ids, done_too) = of(lookahead, more);
            assert_eq!((ids, &done_too["finish_reason"]), (expected.clone(), &done["finish_reason"]), "{lookahead}");
        }
    }
}

#[test]
fn chunks_of_the_prompt_change_nothing() {
    let Some(model) = stories() else { return };
    let prompt = "Tom and Sara went to the park. \"Look, a big red ball!\" said Sara.";
    let of = |flags: &[&str]| generate(&model, &[&[prompt, "--max-new-tokens", "16"], flags].concat()).0;
    let expected = of(&[]);
    for chunk in ["1", "3", "32", "33"] {
        assert_eq!(of(&["--prefill-chunk", chunk]), expected, "{chunk}");
    }
    assert_eq!(of(&["--portable"]), expected);
    // the context ends the text: 33 tokens of the prompt, 7 more
    assert_eq!(of(&["--context", "40"]), expected[..7]);
}

#[test]
fn an_end_token_ends_the_text() {
    let Some(model) = stories() else { return };
    let of = |flags: &[&str]| generate(&model, &[&["Once upon a time", "--max-new-tokens", "20"], flags].concat());
    let (all, done) = of(&["--ignore-eos"]);
    assert_eq!((all.len(), &done["finish_reason"]), (20, &Value::from("length")));
    let end = all[6];
    let first = all.iter().position(|&id| id == end).expect("it is there");
    let (ids, done) = of(&["--eos-token-id", &format!("2, {end}")]);
    assert_eq!(ids, all[..=first]);
    assert_eq!(done["finish_reason"], "stop");
    assert_eq!(of(&["--eos-token-id", ""]).0, all);
}

#[test]
fn wild_sampling_never_breaks_a_character() {
    let Some(model) = stories() else { return };
    for seed in ["1", "2", "3"] {
        // bytes at random: `run` checks that they come out as UTF-8
        let flags = ["naïve 🚀", "--temperature", "20", "--max-new-tokens", "150", "--seed", seed, "--ignore-eos"];
        let run = run(&[&["generate", "--model", text(&model)], &flags[..]].concat());
        assert!(!run.ok().is_empty());
        let (ids, _) = generate(&model, &flags);
        assert_eq!(ids.len(), 150);
    }
}

#[test]
fn ids_do_without_a_tokenizer() {
    let Some(model) = stories() else { return };
    let folder = copy(&model, &["tokenizer.json"]);
    let flags = ["--prompt-ids", "1,403,407,261,378", "--dtype", "f32", "--max-new-tokens", "3"];
    let (ids, done) = generate(folder.path(), &flags);
    assert_eq!((ids, &done["text"]), (vec![432, 383, 286], &Value::from("")));
    let run = run(&[&["generate", "--model", text(folder.path())], &flags[..]].concat());
    assert_eq!(run.ok(), "432,383,286\n");
}

#[test]
fn other_types_stay_close() {
    let Some(model) = stories() else { return };
    for dtype in ["f16", "q4"] {
        let (ids, done) = generate(&model, &["Once upon a time", "--dtype", dtype, "--max-new-tokens", "4"]);
        assert_eq!((ids.len(), &done["stats"]["dtype"]), (4, &Value::from(dtype)));
    }
}

#[test]
fn greedy_ids_of_a_fixture() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let tensors = read_tensors(&model.join("expected.safetensors"));
    let list = |name: &str| tensors[name].1.iter().map(|&id| (id as u64).to_string()).collect::<Vec<_>>();
    let prompt = list("input_ids").join(",");
    let flags = ["--prompt-ids", &prompt, "--dtype", "f32", "--ignore-eos", "--max-new-tokens", "32"];
    let (ids, _) = generate(&model, &flags);
    assert_eq!(ids.iter().map(u64::to_string).collect::<Vec<_>>(), list("greedy_ids"));
}

#[test]
fn tensors_that_nobody_uses_are_told() {
    let Some(model) = stories() else { return };
    let folder = copy(&model, &["model.safetensors"]);
    let bytes = std::fs::read(model.join("model.safetensors")).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("weights");
    let mut tensors: Vec<(String, _)> = file.tensors();
    let two = [0; 8];
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "strange.weight", "odd.bias"] {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &two);
        tensors.push((name.to_owned(), view.expect("8 bytes")));
    }
    safetensors::serialize_to_file(tensors, None, &folder.path().join("model.safetensors")).expect("written");
    let of = |flags: &[&str]| -> Run {
        run(&[&["generate", "Once", "--max-new-tokens", "1", "--model", text(folder.path())], flags].concat())
    };
    let warned = of(&[]);
    let expected = "warning: 2 tensors of the checkpoint are not used by this architecture: ";
    assert!(warned.stderr.starts_with(expected) && warned.stderr.lines().count() == 1, "{warned:?}");
    assert!(warned.stderr.contains("strange.weight") && warned.stderr.contains("odd.bias"), "{warned:?}");
    assert_eq!(of(&["-q"]).stderr, "");
    warned.ok();
    // once, however often the model is opened
    let story = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/held-out.txt");
    let flags = ["--dtype", "q8,q4", "--max-tokens", "20", "--runs", "0", "--no-history", "--text", story];
    let measured = run(&[&["validate", text(folder.path())], &flags[..]].concat());
    assert!(measured.stderr.starts_with(expected) && measured.stderr.lines().count() == 1, "{measured:?}");
}

#[test]
fn an_empty_prompt_begins_at_the_first_token() {
    let Some(model) = stories() else { return };
    let of = |flags: &[&str]| generate(&model, &[&["--max-new-tokens", "8"], flags].concat());
    let (want, done) = of(&["--prompt-ids", "1"]);
    assert_eq!(done["stats"]["prompt_tokens"], 1);
    for flags in [&["--prompt-ids", ""][..], &[""], &["<s>"], &[]] {
        assert_eq!(of(flags).0, want, "{flags:?}");
    }
    // where the model has none, that is an error
    let folder = copy(&model, &["config.json", "generation_config.json"]);
    let config = std::fs::read_to_string(model.join("config.json")).expect("a config");
    let without = config.replace("\"bos_token_id\": 1", "\"bos_token_id\": null");
    std::fs::write(folder.path().join("config.json"), without).expect("written");
    run(&["generate", "--model", text(folder.path()), "--prompt-ids", ""]).fails(1, &["prompt is empty"]);
}

#[test]
fn a_stop_string_is_not_part_of_the_text() {
    let Some(model) = stories() else { return };
    let flags = ["generate", "Once upon a time", "--model", text(&model), "--max-new-tokens", "40"];
    let whole = run(&flags).ok();
    // in the middle of a word, and of tokens
    let stop = &whole[30..36];
    let before = &whole[..whole.find(stop).expect("it is there")];
    for lookahead in ["8", "0"] {
        let more = ["--stop", "never there", "--stop", stop, "--lookahead", lookahead];
        assert_eq!(run(&[&flags[..], &more].concat()).ok(), format!("{before}\n"), "{stop:?}");
        let json = run(&[&flags[..], &more, &["--json"]].concat());
        let (ids, pieces, done) = json.json();
        assert_eq!((pieces.as_str(), &done["text"]), (before, &Value::from(before)));
        assert_eq!((ids.len() < 40, &done["finish_reason"]), (true, &Value::from("stop")));
    }
}

#[test]
fn log_probabilities_are_told() {
    let Some(model) = stories() else { return };
    let flags = ["generate", "Once upon a time", "--model", text(&model), "--max-new-tokens", "5", "--json"];
    let lines = |more: &[&str]| -> Vec<Value> {
        let out = run(&[&flags[..], more].concat()).ok();
        out.lines().take(5).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    assert!(lines(&[]).iter().all(|line| line.get("logprob").is_none() && line.get("top_logprobs").is_none()));
    for line in lines(&["--logprobs=3"]) {
        let top = line["top_logprobs"].as_array().expect("a list");
        assert_eq!(
            (top.len(), &top[0]["id"], &top[0]["logprob"]),
            (3, &line["id"], &line["logprob"]),
            "greedy: {line}"
        );
        let logprob = |i: usize| top[i]["logprob"].as_f64().expect("a number");
        assert!(logprob(0) <= 0.0 && logprob(0) >= logprob(1) && logprob(1) >= logprob(2), "{line}");
        assert!(top.iter().all(|t| t["text"].as_str().is_some_and(|text| !text.is_empty())), "{line}");
    }
    for line in lines(&["--logprobs", "--seed", "3"]) {
        assert!(line["logprob"].as_f64().is_some_and(|v| v <= 0.0), "{line}");
        assert_eq!(line["top_logprobs"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn penalties_change_the_text_alike_with_any_lookahead() {
    let Some(model) = stories() else { return };
    let of = |flags: &[&str]| generate(&model, &[&["Once upon a time", "--max-new-tokens", "60"], flags].concat()).0;
    let plain = of(&[]);
    for flags in [
        &["--repetition-penalty", "1.3"][..],
        &["--presence-penalty", "1.5"],
        &["--frequency-penalty", "0.6"],
        &["--no-repeat-ngram-size", "2"],
        &["--min-p", "0.1", "--typical-p", "0.9", "--seed", "5"],
    ] {
        let ids = of(flags);
        assert_ne!(ids, plain, "{flags:?}");
        assert_eq!(ids, of(&[flags, &["--lookahead", "0"]].concat()), "{flags:?}");
    }
    let ids = of(&["--no-repeat-ngram-size", "2"]);
    let pairs: std::collections::BTreeSet<_> = ids.windows(2).collect();
    assert_eq!(pairs.len(), ids.len() - 1, "no pair twice");
    // an end that comes at once, but for the least length
    let end = plain[0].to_string();
    assert_eq!(of(&["--eos-token-id", &end]), [plain[0]]);
    let longer = of(&["--eos-token-id", &end, "--min-new-tokens", "12"]);
    assert!(longer.len() >= 12 && !longer[..12].contains(&plain[0]), "{longer:?}");
}
