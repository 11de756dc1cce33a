//! What a Hub refuses, and what is refused of a Hub.

use crate::download::{Cache, NAME, get, model};
use crate::fake_hub::{Access, FakeHub, Repo};
use crate::http::bytes;
use crate::server::{Reply, Server};
use webweft::error::SourceError;
use webweft::source::Token;

fn error_of(hub: &FakeHub, token: Option<&str>, name: &str, revision: Option<&str>) -> SourceError {
    let mut options = Cache::new().options(&hub.server.url);
    options.token = token.and_then(Token::new);
    get(options, name, revision).unwrap_err()
}

#[track_caller]
fn says(error: &SourceError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert!(!text.contains("secret") && !text.contains("wrong-token"), "{text}");
}

#[test]
fn refusals_are_told_apart() {
    let hub = FakeHub::start(NAME, model());
    let url = hub.server.url.as_str();
    let error = error_of(&hub, None, "org/other", None);
    says(&error, &["org/other", "does not exist", "private", "HF_TOKEN", url]);
    assert!(matches!(error, SourceError::RepoNotFound { .. }));
    let error = error_of(&hub, None, NAME, Some("v9"));
    says(&error, &[NAME, "no revision `v9`"]);
    assert!(matches!(error, SourceError::RevisionNotFound { .. }));

    hub.repo(NAME, |repo| repo.access = Access::Private("secret".into()));
    for token in [None, Some("wrong-token")] {
        assert!(matches!(error_of(&hub, token, NAME, None), SourceError::RepoNotFound { .. }));
    }
    hub.repo(NAME, |repo| repo.access = Access::Gated("secret".into()));
    for token in [None, Some("wrong-token")] {
        let error = error_of(&hub, token, NAME, None);
        says(&error, &["gated", &format!("visit {url}/{NAME}"), "accept its terms", "HF_TOKEN"]);
        assert!(matches!(error, SourceError::Gated { .. }));
    }
    let mut options = Cache::new().options(url);
    options.token = Token::new("secret");
    get(options, NAME, None).unwrap();

    hub.repo(NAME, |repo| repo.access = Access::Open);
    let invalid = Reply::status(401).with("X-Error-Message", "Invalid credentials in Authorization header");
    hub.faults(|faults| faults.instead = [invalid].into());
    let error = error_of(&hub, Some("wrong-token"), NAME, None);
    says(&error, &["refuses the token", "HF_TOKEN"]);
    hub.faults(|faults| faults.instead = [Reply::status(429).with("Retry-After", "3600")].into());
    let error = error_of(&hub, None, NAME, None);
    says(&error, &["3600 s", "asked too often"]);
    hub.faults(|faults| faults.instead = [Reply::status(403)].into());
    assert!(matches!(error_of(&hub, None, NAME, None), SourceError::Refused { status: 403, .. }));
}

#[test]
fn repositories_that_are_no_models_are_told_before_anything_is_fetched() {
    let missing = |name: &str| {
        let mut repo = model();
        repo.files.remove(name);
        let hub = FakeHub::start(NAME, repo);
        let error = error_of(&hub, None, NAME, None);
        assert_eq!(hub.requests(), 1);
        error
    };
    let error = missing("config.json");
    says(&error, &["config.json", NAME]);
    assert!(matches!(error, SourceError::EntryNotFound { .. }));
    let error = missing("model.safetensors");
    says(&error, &["no safetensors", "pytorch_model.bin"]);
    assert!(matches!(error, SourceError::NoSafetensors { .. }));
    let error = error_of(&FakeHub::start("m", Repo::new([("config.json", vec![])])), None, "m", None);
    assert!(matches!(error, SourceError::NoSafetensors { found: None, .. }));
    // listed, and not there
    let hub = FakeHub::start(NAME, model());
    hub.faults(|faults| faults.commit = None);
    hub.repo(NAME, |repo| {
        repo.files.insert(
            "model.safetensors.index.json".into(),
            (br#"{"weight_map": {"a": "gone.safetensors"}}"#.to_vec(), false),
        );
        repo.files.remove("model.safetensors");
    });
    let error = error_of(&hub, None, NAME, None);
    assert!(matches!(&error, SourceError::EntryNotFound { file, .. } if file == "gone.safetensors"), "{error}");
}

#[test]
fn a_hostile_hub_writes_nowhere_else() {
    let hub = FakeHub::start(NAME, model());
    for etag in ["../../../../evil", "..", ".hidden", "a/b", "", "a\\b", &"a".repeat(200)] {
        hub.faults(|faults| faults.etag = Some(etag.to_owned()));
        let error = error_of(&hub, None, NAME, None);
        assert!(matches!(error, SourceError::HubAnswer { .. }), "{etag}: {error}");
    }
    hub.faults(|faults| faults.commit = Some("../../..".into()));
    assert!(matches!(error_of(&hub, None, NAME, None), SourceError::HubAnswer { .. }));
    hub.faults(|faults| faults.commit = None);
    for commit in ["../../../../evil", "main", "", "0123456789ABCDEF0123456789ABCDEF01234567"] {
        hub.repo(NAME, |repo| repo.commit = commit.into());
        let error = error_of(&hub, None, NAME, None);
        assert!(matches!(error, SourceError::HubAnswer { .. }), "{commit}: {error}");
    }
    let mut repo = model();
    for name in ["../evil.jinja", "/tmp/evil.jinja", "a\\evil.jinja", "x/../../evil.jinja", "deep/evil.jinja"] {
        repo.files.insert(name.into(), (b"evil".to_vec(), false));
    }
    let (hub, cache) = (FakeHub::start(NAME, repo), Cache::new());
    get(cache.options(&hub.server.url), NAME, None).unwrap();
    assert!(cache.tree().keys().all(|path| !path.contains("evil")));
    assert!(hub.server.log().iter().all(|request| !request.path.contains("evil")));

    let mut repo = model();
    repo.files.remove("model.safetensors");
    let index = br#"{"weight_map": {"a": "../../../evil.safetensors"}}"#.to_vec();
    repo.files.insert("model.safetensors.index.json".into(), (index, false));
    let error = error_of(&FakeHub::start(NAME, repo), None, NAME, None);
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
}

#[test]
fn what_is_no_hub_is_told() {
    for body in
        [&b""[..], b"<html>", b"[]", b"{}", br#"{"sha": 7}"#, br#"{"sha": "0123456789abcdef0123456789abcdef01234567"}"#]
    {
        let server = Server::start(move |_| Reply::status(200).body(body));
        let error = get(Cache::new().options(&server.url), NAME, None).unwrap_err();
        assert!(matches!(error, SourceError::HubAnswer { .. }) && error.to_string().contains("HF_ENDPOINT"), "{error}");
    }
    // no commit, no hash, no size
    for drop in ["X-Repo-Commit", "ETag"] {
        let hub = FakeHub::start(NAME, model());
        let inner = hub.server.url.clone();
        let server = Server::start(move |request| {
            if request.path.starts_with("/api/") {
                let sha = crate::fake_hub::COMMIT;
                let files = r#"[{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]"#;
                return Reply::status(200).body(format!(r#"{{"sha": "{sha}", "siblings": {files}}}"#));
            }
            let reply = Reply::status(200).with("X-Repo-Commit", crate::fake_hub::COMMIT).with("ETag", "\"a\"");
            Reply {
                headers: reply.headers.into_iter().filter(|(name, _)| name != drop).collect(),
                ..Reply::status(200)
            }
        });
        let error = get(Cache::new().options(&server.url), NAME, None).unwrap_err();
        assert!(matches!(error, SourceError::HubAnswer { .. }) && error.to_string().contains(drop), "{inner} {error}");
    }
    let mut options = Cache::new().options("no address");
    options.token = Token::new("secret");
    says(&get(options, NAME, None).unwrap_err(), &["no address"]);
}

#[test]
fn names_are_checked_before_anyone_is_asked() {
    let hub = FakeHub::start(NAME, model());
    for name in ["../x", "a/b/c", "", "a--b"] {
        assert!(matches!(error_of(&hub, None, name, None), SourceError::BadRepo { .. }), "{name}");
    }
    for revision in ["../../x", "", "/etc", "a\\b", "a b"] {
        assert!(matches!(error_of(&hub, None, NAME, Some(revision)), SourceError::BadRevision { .. }), "{revision}");
    }
    assert_eq!(hub.requests(), 0);
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    // a file where the folder is to be
    std::fs::write(cache.folder.path().join("hub"), b"").unwrap();
    let error = get(cache.options(&hub.server.url), NAME, None).unwrap_err();
    assert!(matches!(error, SourceError::CacheWrite { .. }), "{error}");
    says(&error, &["HF_HUB_CACHE", "cannot be written"]);
}

/// A folder that is read-only, with all that is needed in it, is as good as any.
#[cfg(unix)]
#[test]
fn a_read_only_cache_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    get(cache.options(&hub.server.url), NAME, None).unwrap();
    let set = |mode| {
        for folder in ["", "refs", "blobs", "snapshots", ".no_exist"] {
            std::fs::set_permissions(cache.path(folder), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o555);
    let result = get(cache.options(&hub.server.url), NAME, Some("refs/pr/1"));
    hub.repo(NAME, |repo| {
        repo.files.insert("config.json".into(), (bytes(99), false));
        repo.commit = "e".repeat(40);
    });
    let changed = get(cache.options(&hub.server.url), NAME, None);
    set(0o755);
    result.unwrap();
    // whoever may do everything may do this, too
    if let Err(error) = changed {
        assert!(matches!(error, SourceError::CacheWrite { .. }), "{error}");
    }
}
