//! One cache for Python and for us. Needs a Python with `huggingface_hub`: `WEBWEFT_PYTHON`, else `python3`.

use crate::download::{Cache, NAME, get, model};
use crate::fake_hub::{COMMIT, FakeHub};
use std::path::PathBuf;
use std::process::Command;

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("WEBWEFT_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import huggingface_hub"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("SKIPPED: there is no Python with huggingface_hub (WEBWEFT_PYTHON says which)");
    None
}

/// What a script prints that has the cache and the server of a test.
fn run(python: &PathBuf, cache: &Cache, hub: &FakeHub, offline: bool, script: &str) -> String {
    let mut command = Command::new(python);
    command.args(["-c", script]).env_remove("HF_TOKEN").env("NO_PROXY", "127.0.0.1").env("HF_HUB_DISABLE_XET", "1");
    command.env("HF_HUB_OFFLINE", if offline { "1" } else { "0" });
    command.env("HF_HOME", cache.folder.path()).env("HF_ENDPOINT", &hub.server.url);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_we_download_python_finds() {
    let Some(python) = python() else { return };
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let folder = get(cache.options(&hub.server.url), NAME, None).unwrap();
    let script = format!(
        "from huggingface_hub import snapshot_download, try_to_load_from_cache, scan_cache_dir\n\
         a = snapshot_download('{NAME}', local_files_only=True)\n\
         b = snapshot_download('{NAME}', revision='{COMMIT}', local_files_only=True)\n\
         assert a == b\n\
         assert type(try_to_load_from_cache('{NAME}', 'generation_config.json')) is object\n\
         info = scan_cache_dir()\n\
         assert not info.warnings, info.warnings\n\
         [repo] = info.repos\n\
         [revision] = repo.revisions\n\
         assert revision.refs == {{'main'}} and len(revision.files) == 3, revision\n\
         print(a)"
    );
    assert_eq!(run(&python, &cache, &hub, true, &script), folder.path().to_str().unwrap());
    // with the Hub at hand nothing is downloaded again
    hub.server.forget();
    hub.cdn.forget();
    let script = format!(
        "from huggingface_hub import snapshot_download\n\
         print(snapshot_download('{NAME}', allow_patterns=['*.json', 'model.safetensors']))"
    );
    assert_eq!(run(&python, &cache, &hub, false, &script), folder.path().to_str().unwrap());
    assert_eq!(hub.server.log().iter().filter(|request| request.path.contains("/resolve/")).count(), 0);
    assert!(hub.cdn.log().is_empty());
}

#[test]
fn what_python_downloads_we_find() {
    let Some(python) = python() else { return };
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let script = format!(
        "from huggingface_hub import hf_hub_download\n\
         for name in ['config.json', 'tokenizer.json', 'model.safetensors']:\n    hf_hub_download('{NAME}', name)\n\
         from huggingface_hub.errors import EntryNotFoundError\n\
         for name in ['generation_config.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja',\n    \
                      'chat_template.json', 'preprocessor_config.json', 'processor_config.json']:\n    \
             try:\n        hf_hub_download('{NAME}', name)\n    except EntryNotFoundError:\n        pass"
    );
    run(&python, &cache, &hub, false, &script);
    let mut tree = cache.tree();
    // the same commit, which Python left nothing to ask about
    hub.server.forget();
    get(cache.options(&hub.server.url), NAME, Some(COMMIT)).unwrap();
    assert!(hub.server.log().is_empty());
    let mut offline = cache.options(&hub.server.url);
    offline.offline = true;
    get(offline, NAME, None).unwrap();

    // and what we make of it ourselves is laid out the same
    let own = Cache::new();
    get(own.options(&hub.server.url), NAME, None).unwrap();
    let mut own = own.tree();
    for tree in [&mut tree, &mut own] {
        // later versions add the tag, and things beside the cache
        tree.retain(|path, _| path.starts_with("hub/") && path != "hub/CACHEDIR.TAG");
    }
    assert_eq!(own, tree);
}
