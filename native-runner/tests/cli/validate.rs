//! `validate`: figures that another computation gives, too; thresholds that trip; a history that loses nothing; a page that stands alone.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use webweft::device::{Device, DeviceOptions};
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Folder, Source};

use crate::support::{Run, binary, copy, finish, run, run_with, stories, text};

/// Little of everything, so that a run takes a moment.
const SHORT: [&str; 6] = ["--max-tokens", "120", "--runs", "0", "--no-history", "-q"];

/// Stories.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/held-out.txt");

fn validate(model: &Path, flags: &[&str]) -> Run {
    run(&[&["validate", text(model), "--text", TEXT], &SHORT[..], flags].concat())
}

#[track_caller]
fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

/// A copy of a model with the values of a tensor changed.
fn damaged(model: &Path, change: &[(&str, f32)]) -> tempfile::TempDir {
    let folder = copy(model, &[]);
    let file = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&file).expect("weights");
    for (name, factor) in change {
        let (at, size) = {
            let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
            let data = tensors.tensor(name).expect("a tensor of that name").data();
            (data.as_ptr() as usize - bytes.as_ptr() as usize, data.len())
        };
        for value in bytes[at..at + size].as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) * factor).to_le_bytes();
        }
    }
    fs::write(file, bytes).expect("written");
    folder
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let Some(model) = stories() else { return };
    let run =
        validate(&model, &["--dtype", "f32", "--json", "--max-kl", "0", "--min-top1", "1", "--max-layer-error", "0"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let told = json(&run);
    let (format, quality) = (&told["formats"][0], &told["formats"][0]["quality"]);
    assert_eq!((&format["name"], &told["pass"], &format["pass"]), (&"f32".into(), &true.into(), &true.into()));
    assert_eq!((number(&quality["kl"]["max"]), number(&quality["max_delta"])), (0.0, 0.0));
    assert_eq!((number(&quality["top1"]), number(&quality["top5"])), (1.0, 1.0));
    assert_eq!(number(&quality["perplexity_ratio"]["value"]), 1.0);
    assert_eq!((quality["predictions"].as_u64(), told["text"]["predictions"].as_u64()), (Some(120), Some(120)));
    assert_eq!(numbers(&format["layer_errors"]), [0.0; 7]);
    let states: Vec<_> = told["states"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert_eq!(states, ["embedding", "layer 0", "layer 1", "layer 2", "layer 3", "layer 4", "final norm"]);
    assert!(number(&format["memory"]["weights"]) >= 260_032.0 * 4.0);
    assert!(number(&format["memory"]["peak"]) > number(&format["memory"]["weights"]));
}

/// Log-probabilities of one row, by the definition.
fn log_probabilities(row: &[f32]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
    row.iter().map(|&v| f64::from(v) - sum.ln()).collect()
}

/// Perplexities, divergence, agreement and the error of the last state, from what the library's forward pass gives.
#[test]
fn figures_equal_those_of_another_computation() {
    let Some(model) = stories() else { return };
    let run = validate(&model, &["--dtype", "q4", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let told = json(&run);
    let story = fs::read_to_string(TEXT).expect("the text");
    let (ids, [exact, few]) = pollster::block_on(async {
        let device = Device::open(&DeviceOptions::default()).await.expect("an adapter");
        let source = Source::Folder(Folder::open(&model).expect("a folder"));
        let mut made = Vec::new();
        let mut ids = Vec::new();
        for dtype in [Dtype::F32, Dtype::Q4] {
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            let mut session = Session::open(&device, &source, &options, |_| ()).await.expect("a model");
            ids = session.encode(&story).expect("tokens");
            ids.truncate(121);
            made.push(session.forward(&ids).await.expect("a pass"));
        }
        let made: [_; 2] = made.try_into().expect("two");
        (ids, made)
    });
    let vocab = exact.logits.len() / ids.len();
    let (mut nll, mut kl, mut same) = ([0.0; 2], 0.0, 0);
    for position in 0..120 {
        let rows = [&exact.logits, &few.logits].map(|all| &all[position * vocab..(position + 1) * vocab]);
        let [p, q] = rows.map(log_probabilities);
        let target = ids[position + 1] as usize;
        nll[0] -= p[target];
        nll[1] -= q[target];
        kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        let [a, b] = rows.map(|row| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i));
        same += u32::from(a == b);
    }
    let quality = &told["formats"][0]["quality"];
    #[track_caller]
    fn close(got: &Value, want: f64) {
        let got = number(got);
        assert!((got - want).abs() <= 1e-7 * want.abs(), "{got}, not {want}");
    }
    close(&told["baseline"]["perplexity"]["value"], (nll[0] / 120.0).exp());
    close(&quality["baseline_perplexity"]["value"], (nll[0] / 120.0).exp());
    close(&quality["perplexity"]["value"], (nll[1] / 120.0).exp());
    close(&quality["perplexity_ratio"]["value"], ((nll[1] - nll[0]) / 120.0).exp());
    close(&quality["kl"]["mean"], kl / 120.0);
    close(&quality["top1"], f64::from(same) / 120.0);
    let width = exact.last_hidden_state.len() / ids.len();
    let rows = |all: &[f32]| all.chunks(width).take(120).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>();
    let errors = rows(&exact.last_hidden_state).into_iter().zip(rows(&few.last_hidden_state)).map(|(b, h)| {
        let off = square(&mut b.iter().zip(&h).map(|(b, h)| f64::from(*h) - f64::from(*b)));
        off / square(&mut b.iter().map(|&b| f64::from(b)))
    });
    close(&told["formats"][0]["layer_errors"][6], (errors.sum::<f64>() / 120.0).sqrt());
    // and they are what 4 bits cost
    let ratio = number(&quality["perplexity_ratio"]["value"]);
    assert!((0.9..1.3).contains(&ratio) && number(&quality["top1"]) > 0.7 && kl > 0.0, "{quality}");
    let bits = number(&told["formats"][0]["memory"]["bits_per_weight"]);
    assert!((4.5..8.0).contains(&bits), "{bits}: embedding and head have 16");
}

/// A model with a layer that says nothing, against what it was.
#[test]
fn a_damaged_model_trips_every_threshold() {
    let Some(model) = stories() else { return };
    let broken = damaged(&model, &[("model.layers.2.mlp.down_proj.weight", 0.0)]);
    let page = broken.path().join("page.html");
    let flags =
        ["--dtype", "f32", "--against-model", text(&model), "--max-perplexity-ratio", "1.02", "--max-kl", "0.01"];
    let more = ["--min-top1", "0.99", "--max-layer-error", "0.05", "--max-memory", "1MB", "--html", text(&page)];
    let run = validate(broken.path(), &[&flags[..], &more, &["--json"]].concat());
    assert_eq!(run.code, Some(3), "{run:?}");
    let told = json(&run);
    let format = &told["formats"][0];
    assert_eq!((&told["pass"], &format["pass"]), (&false.into(), &false.into()));
    let checks = format["checks"].as_array().expect("a list");
    assert!(
        checks.len() == 5 && checks.iter().all(|check| check["pass"] == false && check["got"].is_number()),
        "{format}"
    );
    assert!(number(&format["quality"]["perplexity_ratio"]["value"]) > 1.05, "{format}");
    // up to the damaged layer nothing differs, and there much
    let errors = numbers(&format["layer_errors"]);
    assert!(errors[..3] == [0.0; 3] && errors[3] > 0.05, "{errors:?}");
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("1 of 1 fail") && page.contains("✗") && page.contains("--max-layer-error 0.0500"), "{page}");

    let run = validate(broken.path(), &flags);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stdout.contains("FAIL") && run.stdout.contains("--max-kl 0.0100 does not hold: "), "{run:?}");
    let run = validate(broken.path(), &["--dtype", "f32", "--max-perplexity-ratio", "1.0001", "--max-kl", "0"]);
    assert!(run.code == Some(0) && run.stdout.contains("pass"), "against itself it is whole: {run:?}");
}

/// A folder that was quantized before, against what it was made of: the figures are those of quantizing it now.
#[test]
fn what_was_quantized_before_is_measured_against_its_original() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let few = folder.path().join("q4");
    run(&["quantize", text(&model), text(&few), "--dtype", "q4", "-q"]).ok();
    let against = ["--against-model", text(&model), "--json"];
    let told = json(&validate(&few, &[&against[..], &["--dtype", "auto"]].concat()));
    let now = json(&validate(&model, &["--dtype", "q4", "--json"]));
    assert_eq!((&told["formats"][0]["name"], &told["formats"][0]["dtype"]), (&"webweft (q4)".into(), &"q4".into()));
    for name in ["quality", "layer_errors"] {
        assert_eq!(told["formats"][0][name], now["formats"][0][name]);
    }
    assert_ne!(told["model"]["fingerprint"], told["against"]["fingerprint"]);
    // its layers keep their bits: what is around them may have 32 or 16
    let told = json(&validate(&few, &against));
    let names: Vec<_> = told["formats"].as_array().expect("a list").iter().map(|f| f["name"].as_str()).collect();
    assert_eq!(names, [Some("webweft (f32)"), Some("webweft (f16)")]);
}

/// Products that f32 does not hold: the layer is named, and nothing passes.
#[test]
fn what_is_not_finite_fails_and_is_named() {
    let Some(model) = stories() else { return };
    let [gate, up] = ["gate", "up"].map(|name| format!("model.layers.2.mlp.{name}_proj.weight"));
    let broken = damaged(&model, &[(&gate, 1e25), (&up, 1e25)]);
    let against = ["--dtype", "f32", "--against-model", text(&model)];
    let run = validate(broken.path(), &[&against[..], &["--json", "--max-kl", "100"]].concat());
    assert_eq!(run.code, Some(3), "{run:?}");
    let told = json(&run);
    let format = &told["formats"][0];
    assert_eq!((&format["quality"], &format["pass"]), (&Value::Null, &false.into()));
    assert_eq!(format["non_finite"]["first"], "layer 2");
    assert!(format["non_finite"]["positions"].as_u64().is_some_and(|count| (1..=120).contains(&count)), "{format}");
    assert_eq!((&format["checks"][0]["got"], &format["checks"][0]["pass"]), (&Value::Null, &false.into()));
    let run = validate(broken.path(), &against);
    assert_eq!(run.code, Some(3), "also where nothing was asked for: {run:?}");
    assert!(run.stdout.contains("not finite at") && run.stdout.contains("first in: layer 2"), "{run:?}");
    validate(broken.path(), &["--dtype", "f32"]).fails(1, &["baseline", "not finite", "layer 2"]);
}

#[test]
fn bad_input_is_told() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let of =
        |path: &Path| run(&[&["validate", text(&model), "--dtype", "q4", "--text", text(path)], &SHORT[..]].concat());
    of(&file("empty", b"")).fails(1, &["too short", "0 tokens"]);
    of(&file("latin", b"caf\xe9")).fails(1, &["latin", "UTF-8", "byte 3"]);
    of(&folder.path().join("nowhere")).fails(1, &["nowhere", "cannot be read"]);
    run(&["validate", text(&model)]).fails(2, &["--text"]);
    run(&["validate", "./nowhere", "--text", TEXT]).fails(1, &["nowhere"]);
    let nowhere = folder.path().join("no/such/page.html");
    for (flags, code, words) in [
        (&["--dtype", "q5"][..], 2, &["q5", "nf4"][..]),
        (&["--against", "all"], 2, &["all"]),
        (&["--min-top1", "1.5"], 2, &["from 0 to 1"]),
        (&["--max-kl", "-1"], 2, &["from 0 on"]),
        (&["--max-perplexity-ratio", "nan"], 2, &["above 0"]),
        (&["--context", "8", "--stride", "8"], 2, &["--stride 8", "8 positions"]),
        (&["--context", "1"], 2, &["--context"]),
        (&["--context", "4096"], 1, &["context"]),
        (&["--html", text(&nowhere)], 1, &["page.html", "cannot be written"]),
        (&["--against-model", text(&assets())], 1, &["512 tokens", "1024", "vocabulary"]),
    ] {
        validate(&model, flags).fails(code, words);
    }
    let unwritable = [&["validate", text(&model), "--text", TEXT, "--history", text(folder.path())][..]].concat();
    run(&unwritable).fails(1, &["history", "cannot be written"]);
    // as many tokens, and others
    let other = copy(&model, &[]);
    let tokenizer = other.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&tokenizer).expect("a tokenizer")).expect("JSON");
    json["model"]["merges"] = Value::Array(Vec::new());
    fs::write(tokenizer, json.to_string()).expect("written");
    validate(other.path(), &["--dtype", "f32", "--against-model", text(&model)])
        .fails(1, &["tokenizers", "different tokens"]);
    // what has no tokenizer takes the baseline's tokens
    let bare = copy(&model, &["tokenizer.json"]);
    let flags = ["--dtype", "f32", "--against-model", text(&model), "--max-kl", "0"];
    assert_eq!(validate(bare.path(), &flags).code, Some(0));
}

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories")
}

#[test]
fn windows_and_standard_input() {
    let Some(model) = stories() else { return };
    let story = b"Once upon a time, there was a little girl who had a red ball. She liked to play with it every day.";
    let of = |flags: &[&str]| {
        let run = run_with(
            &[&["validate", text(&model), "--text", "-", "--dtype", "f32", "--json"], &SHORT[2..], flags].concat(),
            story,
        );
        assert_eq!(run.code, Some(0), "{run:?}");
        let told = json(&run);
        (told["text"]["predictions"].as_u64(), number(&told["baseline"]["perplexity"]["value"]))
    };
    let (count, whole) = of(&[]);
    let (cut, short) = of(&["--context", "8"]);
    let (slid, better) = of(&["--context", "8", "--stride", "2"]);
    assert!(count == cut && count == slid && count > Some(20), "{count:?} {cut:?} {slid:?}");
    assert!(whole < better && better < short, "what is seen before helps: {whole} {better} {short}");
    assert_eq!(of(&["--max-tokens", "5"]).0, Some(5));
}

#[test]
fn runs_are_remembered_and_none_is_lost() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("history.jsonl");
    let flags = ["validate", text(&model), "--text", TEXT, "--max-tokens", "60", "--runs", "0", "--dtype", "q4,q8"];
    let history = ["--history", text(&file)];
    let first = run(&[&flags[..], &history].concat());
    assert!(first.code == Some(0) && !first.stdout.contains("since"), "{first:?}");
    // what cannot be read stays where it is
    let mut lines = fs::read(&file).expect("a line");
    lines.extend(b"{\"date\": \"torn");
    fs::write(&file, &lines).expect("written");
    let page = folder.path().join("page.html");
    let second = run(&[&flags[..], &history, &["--json", "--html", text(&page)]].concat());
    assert!(second.code == Some(0) && second.stderr.contains("1 line of the history"), "{second:?}");
    let told = json(&second);
    assert_eq!(told["history"].as_array().map(Vec::len), Some(1));
    for format in told["formats"].as_array().expect("a list") {
        let change = &format["change"];
        assert_eq!(
            (number(&change["kl"]), number(&change["perplexity_ratio"])),
            (0.0, 0.0),
            "the same adapter computes the same"
        );
        assert_eq!(change["other_files"], false);
    }
    assert!(fs::read_to_string(&page).expect("a page").contains("run by run"));
    let now = fs::read(&file).expect("lines");
    assert!(now.starts_with(&lines) && now.len() > lines.len() && now.ends_with(b"}\n"));
    // what is cut otherwise is no same run
    let third = run(&[&flags[..], &history, &["--context", "64", "-q"]].concat());
    assert!(third.code == Some(0) && third.stderr.is_empty() && !third.stdout.contains("since"), "{third:?}");
    let fourth = run(&[&flags[..], &history, &["-q"]].concat());
    assert!(fourth.stdout.contains("q4: since 20") && fourth.stdout.contains("KL unchanged"), "{fourth:?}");
    // where nothing is said, it lies in the folder for state
    let mut command = binary();
    command.args(flags).env("XDG_STATE_HOME", folder.path());
    assert_eq!(finish(command, b"").code, Some(0));
    let kept = fs::read_to_string(folder.path().join("webweft/validate.jsonl")).expect("a history");
    assert_eq!(kept.lines().count(), 1);
}

/// Every tag that is opened is closed, in order.
fn assert_balanced(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = page.strip_prefix("<!doctype html>").expect("a page");
    for tag in body.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} has no end"));
        let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()), "<{inside}> is no tag");
        assert_eq!(inside.matches('"').count() % 2, 0, "<{inside}>");
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !inside.ends_with('/') && name != "meta" {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn the_page_stands_alone_and_trusts_no_name() {
    let Some(model) = stories() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let copied = copy(&model, &[]);
    let hostile = folder.path().join("<script>alert(1)<!--&\"'");
    fs::rename(copied.path(), &hostile).expect("moved");
    let page = folder.path().join("page.html");
    let history = folder.path().join("history");
    let flags = ["--text", TEXT, "--max-tokens", "40", "--runs", "1", "--html", text(&page), "--max-kl", "0.0001"];
    for runs in 0..2 {
        let run = run(&[&["validate", text(&hostile), "--history", text(&history)], &flags[..]].concat());
        assert_eq!(run.code, Some(3), "{run:?}");
        let html = fs::read_to_string(&page).expect("a page");
        assert_balanced(&html);
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<!--", "NaN", "inf\""] {
            assert!(!html.contains(word), "{word} in {html}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)&lt;!--&amp;&quot;&#39;"), "{html}");
        // every dtype but the baseline's, every cache, and every plot
        for name in ["f16", "q8", "q4a", "q4", "nf4", "f32, f16 cache", "f32, q8 cache", "f32, q4 cache"] {
            assert!(html.contains(&format!("<th scope=\"row\">{name}</th>")), "{name}");
        }
        assert_eq!(html.matches("<figure>").count(), 7 + 2 * runs, "{html}");
        assert!(html.contains("prefers-color-scheme: dark") && html.contains("width=device-width"));
    }
}

/// The built-in model brings a text along.
#[test]
fn the_built_in_model_needs_no_text() {
    let run = run(&[
        "validate",
        "--dtype",
        "q8",
        "--max-tokens",
        "200",
        "--runs",
        "0",
        "--no-history",
        "--json",
        "--max-kl",
        "0.001",
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let told = json(&run);
    assert_eq!(
        (told["model"]["name"].as_str(), told["text"]["predictions"].as_u64()),
        (Some("the built-in model"), Some(200))
    );
    let perplexity = number(&told["baseline"]["perplexity"]["value"]);
    assert!((1.2..2.0).contains(&perplexity), "{perplexity}: it was trained on such stories");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_behind() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let mut command = binary();
    command.args(["validate", "--runs", "1000000", "--no-history", "--html", text(&page)]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let files = || fs::read_dir(folder.path()).expect("a folder").count();
    while files() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
    let output = child.wait_with_output().expect("it ends");
    let run = Run::of(output.status.code(), output.stdout, output.stderr);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(130), "", ""), "{run:?}");
    assert_eq!(files(), 0, "the page that was begun is gone");
}
