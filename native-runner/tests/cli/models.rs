//! A model by its name on the Hub, and by its address: the same text as from its folder.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fake_hub::{Access, COMMIT, FakeHub, Repo};
use crate::server::{Reply, Server, nowhere};
use crate::support::{Run, binary, finish, run, shared, text};

const NAME: &str = "org/tiny";
const FILES: [&str; 4] = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
const PROMPT: [&str; 4] = ["--prompt-ids", "1,5,9,20", "--max-new-tokens", "8"];

fn files(model: &Path) -> Vec<(&'static str, Vec<u8>)> {
    FILES.iter().map(|name| (*name, std::fs::read(model.join(name)).expect("a file of the fixture"))).collect()
}

/// The binary with nothing in its environment that speaks of a Hub but these.
fn with_home(home: &Path, endpoint: &str) -> Command {
    let mut command = binary();
    let tokens = ["HF_TOKEN", "HF_TOKEN_PATH"];
    let caches = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_DISABLE_SYMLINKS"];
    for name in [&tokens[..], &caches, &["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]].concat() {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", endpoint).env("NO_PROXY", "127.0.0.1");
    command
}

fn with(home: &Path, endpoint: &str, more: &[(&str, &str)], arguments: &[&[&str]]) -> Run {
    let mut command = with_home(home, endpoint);
    command.envs(more.iter().copied()).args(arguments.concat());
    finish(command, b"")
}

#[test]
fn a_name_on_the_hub_is_as_good_as_a_folder() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let want = run(&[&["generate", "--model", text(&model)], &PROMPT[..]].concat()).ok();
    let hub = FakeHub::start(NAME, Repo::new(files(&model)));
    let home = tempfile::tempdir().expect("a folder");
    let of = |more: &[(&str, &str)], name: &str, flags: &[&str]| {
        with(home.path(), &hub.server.url, more, &[&["generate", "--model", name], &PROMPT, flags])
    };
    assert_eq!(of(&[], NAME, &[]).ok(), want);
    assert!(home.path().join("hub/models--org--tiny/refs/main").is_file());
    hub.cdn.forget();
    for flags in [&["--revision", "refs/pr/1"][..], &["--revision", COMMIT]] {
        assert_eq!(of(&[], NAME, flags).ok(), want);
    }
    assert_eq!(of(&[], "org/tiny@refs/pr/1", &[]).ok(), want);
    hub.server.forget();
    assert_eq!(of(&[("HF_HUB_OFFLINE", "1")], NAME, &[]).ok(), want);
    assert!(hub.server.log().is_empty() && hub.cdn.log().is_empty());
    // no Hub at all, and what was downloaded before
    assert_eq!(of(&[("HF_ENDPOINT", &nowhere())], NAME, &[]).ok(), want);

    // a folder of that name is taken first
    let here = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(here.path().join(NAME)).expect("made");
    let mut command = binary();
    command.args(["generate", "x", "--model", NAME]).env("HF_ENDPOINT", &hub.server.url).current_dir(here.path());
    finish(command, b"").fails(1, &["no config.json"]);
    assert!(hub.server.log().is_empty());
}

/// A look needs configs and headers alone: a model of the Hub is not downloaded for it.
#[test]
fn inspect_downloads_nothing() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let hub = FakeHub::start(NAME, Repo::new(files(&model)));
    let home = tempfile::tempdir().expect("a folder");
    let of_name = with(home.path(), &hub.server.url, &[], &[&["inspect", NAME, "--json"]]).ok();
    let of_folder = run(&["inspect", text(&model), "--json"]).ok();
    let parse = |text: &str| {
        let mut json = serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        let object = json.as_object_mut().expect("an object");
        // where it is, and what the Hub of this test does not have
        object.retain(|name, _| name != "place" && name != "chat_templates");
        json
    };
    assert_eq!(parse(&of_name), parse(&of_folder));
    assert!(!home.path().join("hub").exists() && !hub.cdn.log().is_empty());
}

/// Killed in the middle of a download, it goes on there the next time.
#[test]
fn a_download_that_was_killed_is_taken_up() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let hub = FakeHub::start(NAME, Repo::new(files(&model)));
    let home = tempfile::tempdir().expect("a folder");
    let command = || {
        let mut command = with_home(home.path(), &hub.server.url);
        command.args(["generate", "--model", NAME]).args(PROMPT);
        command
    };
    hub.faults(|faults| faults.slow = Some((1 << 15, Duration::from_millis(200))));
    let blobs = home.path().join("hub/models--org--tiny/blobs");
    let arrived = || {
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        let incomplete = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "incomplete"));
        incomplete.filter_map(|entry| Some(entry.metadata().ok()?.len())).max().unwrap_or(0)
    };
    let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary was built");
    while arrived() < 1 << 17 {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let kept = arrived();
    hub.cdn.forget();
    finish(command(), b"").ok();
    let range = hub.cdn.log()[0].header("range").map(str::to_owned);
    assert!(range.as_ref().is_some_and(|range| range.starts_with(&format!("bytes={kept}-"))), "{range:?}, {kept}");
}

#[test]
fn an_address_is_as_good_as_a_folder() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let want = run(&[&["generate", "--model", text(&model)], &PROMPT[..]].concat()).ok();
    for ranges in [true, false] {
        let files = files(&model);
        let server = Server::start(move |request| {
            let found = files.iter().find(|(name, _)| request.path == format!("/m/{name}"));
            match found {
                Some((_, bytes)) if ranges => Reply::file(request, bytes, "\"1\""),
                Some((_, bytes)) => Reply::status(200).body(bytes.as_slice()),
                None => Reply::status(404),
            }
        });
        let got = run(&[&["generate", "--model", &format!("{}/m?key=1", server.url)], &PROMPT[..]].concat()).ok();
        assert_eq!(got, want);
        assert!(server.log().iter().all(|request| request.query == "key=1"));
        // its first bytes, its header where that is longer, and one long answer
        assert!(server.count("GET", "model.safetensors") <= 3, "{:?}", server.log());
        run(&["generate", "x", "--model", &format!("{}/other?key=1", server.url)])
            .fails(1, &["no config.json", "/other"]);
    }
    run(&["generate", "x", "--model", "ftp://host/m"]).fails(1, &["ftp://host/m", "http"]);
    run(&["generate", "x", "--model", &nowhere()]).fails(1, &["cannot be read", "connection"]);
    run(&["generate", "x", "--model", "https://h/m", "--revision", "v1"]).fails(2, &["--revision v1"]);
}

#[test]
fn what_the_hub_refuses_is_told_in_one_line() {
    let Some(model) = shared("fixtures/llama_mha") else { return };
    let hub = FakeHub::start(NAME, Repo::new(files(&model)));
    let url = hub.server.url.as_str();
    let home = tempfile::tempdir().expect("a folder");
    let of = |more: &[(&str, &str)], name: &str, flags: &[&str]| {
        with(home.path(), url, more, &[&["generate", "--model", name], &PROMPT, flags])
    };
    of(&[], "org/typo", &[]).fails(1, &["no folder `org/typo`", "no such model on the Hub", "HF_TOKEN"]);
    of(&[], "no folder", &[]).fails(1, &["no folder `no folder`", "organization/name"]);
    of(&[], NAME, &["--revision", "v9"]).fails(1, &["no revision `v9`"]);
    of(&[], NAME, &["--revision", "../.."]).fails(1, &["../..", "is no revision"]);
    of(&[("HF_HUB_OFFLINE", "1")], NAME, &[]).fails(1, &["no folder `org/tiny`", "HF_HUB_OFFLINE"]);
    of(&[("HF_ENDPOINT", &nowhere())], NAME, &[]).fails(1, &["no folder `org/tiny`", "cannot be read"]);
    hub.repo(NAME, |repo| repo.access = Access::Gated("secret".into()));
    let gated = of(&[("HF_TOKEN", "hf_wrong")], NAME, &[]);
    gated.fails(1, &["gated", &format!("visit {url}/{NAME}"), "HF_TOKEN"]);
    let told = of(&[("HF_TOKEN", "hf_wrong")], NAME, &["-vvv"]).stderr;
    assert!(told.contains("gated") && !told.contains("hf_wrong"), "{told}");
    of(&[("HF_TOKEN", "secret")], NAME, &["-q"]).ok();
    // the file that `hf auth login` writes
    hub.repo(NAME, |repo| repo.commit = "e".repeat(40));
    std::fs::write(home.path().join("token"), "secret\n").expect("written");
    of(&[], NAME, &[]).ok();
}
