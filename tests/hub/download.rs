//! Models of a Hub, downloaded into its cache.

use crate::fake_hub::{COMMIT, FakeHub, Repo, etag};
use crate::http::bytes;
use crate::server::{Reply, nowhere};
use pollster::block_on;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use webweft::error::SourceError;
use webweft::source::{DownloadProgress, Folder, Hub, HubOptions, RetryPolicy, Source, Token};

pub const NAME: &str = "org/model-1";

pub fn model() -> Repo {
    Repo::new([
        ("config.json", b"{\"a\": 1}".to_vec()),
        ("tokenizer.json", bytes(100_000)),
        ("model.safetensors", bytes(3_000_000)),
        ("pytorch_model.bin", bytes(1000)),
        (".gitattributes", bytes(10)),
        ("onnx/model.onnx", bytes(10)),
    ])
}

pub struct Cache {
    pub folder: TempDir,
}

impl Cache {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn options(&self, endpoint: &str) -> HubOptions {
        let mut options = HubOptions::new(self.folder.path().join("hub"));
        options.endpoint = endpoint.to_owned();
        options.retry = RetryPolicy { retries: 3, backoff: Duration::from_millis(1) };
        options
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("hub/models--org--model-1").join(path)
    }

    /// Everything there is: files with their size, links with where they lead.
    pub fn tree(&self) -> BTreeMap<String, String> {
        fn add(root: &Path, folder: &Path, tree: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = path.symlink_metadata().unwrap();
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                if meta.is_dir() {
                    add(root, &path, tree);
                } else if meta.is_symlink() {
                    tree.insert(name, format!("-> {}", fs::read_link(&path).unwrap().to_string_lossy()));
                } else {
                    tree.insert(name, meta.len().to_string());
                }
            }
        }
        let mut tree = BTreeMap::new();
        add(self.folder.path(), self.folder.path(), &mut tree);
        tree
    }
}

pub fn get(options: HubOptions, name: &str, revision: Option<&str>) -> Result<Folder, SourceError> {
    block_on(Hub::new(options).snapshot(&name.parse()?, revision, &mut |_| ()))
}

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap()
}

#[test]
fn the_cache_is_laid_out_as_huggingface_hub_does() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let mut told = Vec::new();
    let folder = block_on(Hub::new(cache.options(&hub.server.url)).snapshot(
        &NAME.parse().unwrap(),
        None,
        &mut |progress| told.push(progress),
    ))
    .unwrap();
    assert_eq!(folder.path(), cache.path(&format!("snapshots/{COMMIT}")));
    assert_eq!(read(&folder, "tokenizer.json"), bytes(100_000));
    assert_eq!(read(&folder, "model.safetensors"), bytes(3_000_000));

    let files = [
        ("config.json", b"{\"a\": 1}".to_vec(), false),
        ("tokenizer.json", bytes(100_000), false),
        ("model.safetensors", bytes(3_000_000), true),
    ];
    let mut want = BTreeMap::from([("hub/models--org--model-1/refs/main".to_owned(), "40".to_owned())]);
    for (name, bytes, large) in &files {
        let etag = etag(bytes, *large);
        want.insert(format!("hub/models--org--model-1/blobs/{etag}"), bytes.len().to_string());
        want.insert(format!("hub/models--org--model-1/snapshots/{COMMIT}/{name}"), format!("-> ../../blobs/{etag}"));
        want.insert(format!("hub/.locks/models--org--model-1/{etag}.lock"), "0".to_owned());
    }
    for name in [
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "chat_template.json",
        "preprocessor_config.json",
        "processor_config.json",
    ] {
        want.insert(format!("hub/models--org--model-1/.no_exist/{COMMIT}/{name}"), "0".to_owned());
    }
    let tree = cache.tree();
    if cfg!(unix) {
        assert_eq!(tree, want);
    }
    assert_eq!(fs::read_to_string(cache.path("refs/main")).unwrap(), COMMIT);

    let total = 8 + 100_000 + 3_000_000;
    assert_eq!(told.last(), Some(&DownloadProgress { done: total, total }));
    assert!(told.is_sorted_by_key(|progress| progress.done) && told.iter().all(|progress| progress.total == total));
    assert!(told.len() > 4);
}

#[test]
fn what_is_there_is_not_downloaded_again() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let options = || cache.options(&hub.server.url);
    let again = |revision: Option<&str>| {
        hub.server.forget();
        hub.cdn.forget();
        get(options(), NAME, revision).unwrap();
        hub.requests()
    };
    get(options(), NAME, None).unwrap();
    // where the branch leads to may change
    assert_eq!(again(None), 1);
    assert_eq!(again(Some(COMMIT)), 0);
    // another revision of the same commit
    assert_eq!(again(Some("refs/pr/1")), 1);
    assert_eq!(fs::read_to_string(cache.path("refs/refs/pr/1")).unwrap(), COMMIT);
    // a new commit, of which one file is new
    hub.repo(NAME, |repo| {
        repo.commit = "f".repeat(40);
        repo.files.insert("config.json".into(), (b"{}".to_vec(), false));
    });
    hub.server.forget();
    hub.cdn.forget();
    let folder = get(options(), NAME, None).unwrap();
    assert_eq!(read(&folder, "config.json"), b"{}");
    assert_eq!(hub.cdn.log().len(), 0);
    assert_eq!((hub.server.count("GET", "config.json"), hub.server.count("GET", "tokenizer.json")), (1, 0));
    assert_eq!(fs::read_to_string(cache.path("refs/main")).unwrap(), "f".repeat(40));
    // one file went missing
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    assert!(again(Some(&"f".repeat(40))) > 0 && folder.path().join("tokenizer.json").is_file());
}

#[test]
fn shards_are_those_that_the_index_names() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let mut repo = model();
    repo.files.remove("model.safetensors");
    repo.files.insert("model.safetensors.index.json".into(), (index.to_vec(), false));
    for (name, size) in [("model-1.safetensors", 1000), ("model-2.safetensors", 2000), ("consolidated.safetensors", 3)]
    {
        repo.files.insert(name.into(), (bytes(size), true));
    }
    let (hub, cache) = (FakeHub::start("m", repo), Cache::new());
    let folder = get(cache.options(&hub.server.url), "m", None).unwrap();
    assert_eq!(
        (read(&folder, "model-1.safetensors"), read(&folder, "model-2.safetensors")),
        (bytes(1000), bytes(2000))
    );
    assert!(
        !folder.path().join("consolidated.safetensors").exists() && !folder.path().join("pytorch_model.bin").exists()
    );
    hub.server.forget();
    get(cache.options(&hub.server.url), "m", Some(COMMIT)).unwrap();
    assert_eq!(hub.server.log().len(), 0);
    // a shard is missing: the snapshot is not whole
    fs::remove_file(folder.path().join("model-2.safetensors")).unwrap();
    let mut offline = cache.options(&hub.server.url);
    offline.offline = true;
    assert!(matches!(get(offline, "m", None), Err(SourceError::NotCached { .. })));
}

#[test]
fn a_download_is_taken_up_where_it_broke() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let hash = etag(&bytes(3_000_000), true);
    // cuts: config and tokenizer whole, the weights four times: one more than is tried
    hub.faults(|faults| faults.cuts = [8, 100_000, 300_000, 10, 10, 10].into());
    let error = get(cache.options(&hub.server.url), NAME, None).unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    let left = fs::metadata(cache.path(&format!("blobs/{hash}.incomplete"))).unwrap().len();
    // what came with the end of a connection may be lost with it
    assert!((150_000..=300_030).contains(&left), "{left}");
    hub.cdn.forget();
    let mut first = None;
    let folder = block_on(Hub::new(cache.options(&hub.server.url)).snapshot(&NAME.parse().unwrap(), None, &mut |p| {
        first.get_or_insert(p.done);
    }));
    assert_eq!(read(&folder.unwrap(), "model.safetensors"), bytes(3_000_000));
    assert_eq!(hub.cdn.log()[0].header("range"), Some(format!("bytes={left}-2999999").as_str()));
    assert_eq!(first, Some(left));
    assert!(!cache.path(&format!("blobs/{hash}.incomplete")).exists());
}

#[test]
fn a_server_that_only_gives_whole_files_is_good_enough() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    hub.faults(|faults| {
        faults.whole_only = true;
        faults.cuts = [8, 100_000, 2_000_000].into();
    });
    let folder = get(cache.options(&hub.server.url), NAME, None).unwrap();
    assert_eq!(read(&folder, "model.safetensors"), bytes(3_000_000));
}

#[test]
fn damage_is_found_and_removed() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let weights = etag(&bytes(3_000_000), true);
    for (name, end) in
        [("config.json", "config.json"), ("tokenizer.json", "tokenizer.json"), ("model.safetensors", &weights)]
    {
        hub.faults(|faults| faults.flip = Some((end.to_owned(), 7)));
        let error = get(cache.options(&hub.server.url), NAME, None).unwrap_err();
        assert!(matches!(&error, SourceError::Corrupt { file, .. } if file == name), "{name}: {error}");
        assert!(error.to_string().contains("its hash is"), "{error}");
        assert!(cache.tree().keys().all(|path| !path.ends_with(".incomplete")));
    }
    get(cache.options(&hub.server.url), NAME, None).unwrap();
}

/// A proxy answers with a page of its own: what was downloaded before is not thrown away.
#[test]
fn what_is_another_file_does_not_cost_the_first_half() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let incomplete = cache.path(&format!("blobs/{}.incomplete", etag(&bytes(3_000_000), true)));
    fs::create_dir_all(cache.path("blobs")).unwrap();
    fs::write(&incomplete, &bytes(3_000_000)[..1_000_000]).unwrap();
    hub.faults(|faults| faults.page = Some(Reply::status(200).body(*b"<html>please log in</html>")));
    let error = get(cache.options(&hub.server.url), NAME, None).unwrap_err();
    assert!(matches!(error, SourceError::HubAnswer { .. }), "{error}");
    assert_eq!(fs::metadata(&incomplete).unwrap().len(), 1_000_000);
    hub.cdn.forget();
    get(cache.options(&hub.server.url), NAME, None).unwrap();
    assert_eq!(hub.cdn.log()[0].header("range"), Some("bytes=1000000-2999999"));
}

#[test]
fn a_listing_that_breaks_off_is_asked_for_again() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let cut = Reply { cut: Some(10), ..Reply::status(200).body(vec![b' '; 1000]) };
    hub.faults(|faults| faults.instead = [cut].into());
    get(cache.options(&hub.server.url), NAME, None).unwrap();
}

#[test]
fn a_damaged_rest_of_an_earlier_run_is_no_end() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let hash = etag(&bytes(3_000_000), true);
    for left in [vec![0; 1000], vec![0; 3_000_000], vec![0; 4_000_000], bytes(3_000_000), bytes(2_999_999)] {
        fs::create_dir_all(cache.path("blobs")).unwrap();
        let _ = fs::remove_file(cache.path(&format!("blobs/{hash}")));
        let _ = fs::remove_dir_all(cache.path("snapshots"));
        fs::write(cache.path(&format!("blobs/{hash}.incomplete")), left).unwrap();
        let folder = get(cache.options(&hub.server.url), NAME, None).unwrap();
        assert_eq!(read(&folder, "model.safetensors"), bytes(3_000_000));
        assert!(!cache.path(&format!("blobs/{hash}.incomplete")).exists());
    }
}

#[test]
fn two_downloads_at_once_share_the_work() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let folder = get(cache.options(&hub.server.url), NAME, None).unwrap();
                assert_eq!(read(&folder, "model.safetensors"), bytes(3_000_000));
            });
        }
    });
    assert_eq!(hub.cdn.log().len(), 1);
    assert_eq!((hub.server.count("GET", "config.json"), hub.server.count("GET", "tokenizer.json")), (1, 1));
}

#[test]
fn a_lock_of_another_process_is_waited_for() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let locks = cache.folder.path().join("hub/.locks/models--org--model-1");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", etag(&bytes(3_000_000), true)))).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| get(cache.options(&hub.server.url), NAME, None).unwrap());
        std::thread::sleep(Duration::from_millis(500));
        assert!(!run.is_finished() && hub.cdn.log().is_empty());
        lock.unlock().unwrap();
        run.join().unwrap();
    });
    assert_eq!(hub.cdn.log().len(), 1);
}

#[test]
fn without_links_the_files_are_moved() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let mut options = cache.options(&hub.server.url);
    options.symlinks = false;
    let folder = get(options.clone(), NAME, None).unwrap();
    let path = folder.path().join("model.safetensors");
    assert!(path.symlink_metadata().unwrap().is_file() && fs::read(path).unwrap() == bytes(3_000_000));
    assert_eq!(fs::read_dir(cache.path("blobs")).unwrap().count(), 0);
    hub.cdn.forget();
    get(options, NAME, None).unwrap();
    assert!(hub.cdn.log().is_empty());
}

#[test]
fn a_renamed_repository_is_found() {
    let (hub, cache) = (FakeHub::start("new/name", model()), Cache::new());
    hub.state.lock().unwrap().renamed.insert(NAME.into(), "new/name".into());
    let folder = get(cache.options(&hub.server.url), NAME, None).unwrap();
    assert_eq!(read(&folder, "model.safetensors"), bytes(3_000_000));
    assert!(cache.path("refs/main").exists());
}

#[test]
fn the_cache_answers_where_the_hub_does_not() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let away = nowhere();
    let offline = |endpoint: &str| {
        let mut options = cache.options(endpoint);
        options.offline = true;
        options
    };
    let error = get(offline(&away), NAME, None).unwrap_err();
    assert!(matches!(error, SourceError::NotCached { .. }) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let error = get(cache.options(&away), NAME, None).unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }) && error.to_string().contains(&away), "{error}");
    get(cache.options(&hub.server.url), NAME, None).unwrap();
    hub.server.forget();
    for revision in [None, Some("main"), Some(COMMIT)] {
        get(offline(&hub.server.url), NAME, revision).unwrap();
        get(cache.options(&away), NAME, revision).unwrap();
    }
    assert_eq!(hub.server.log().len(), 0);
    assert!(matches!(get(offline(&away), NAME, Some("v2")), Err(SourceError::NotCached { .. })));
    // the Hub is there, and out of order
    hub.faults(|faults| faults.instead = vec![Reply::status(502); 4].into());
    get(cache.options(&hub.server.url), NAME, None).unwrap();
    // what is not whole is of no use
    fs::remove_file(cache.path(&format!("snapshots/{COMMIT}/model.safetensors"))).unwrap();
    assert!(matches!(get(offline(&away), NAME, None), Err(SourceError::NotCached { .. })));
    // a ref that is no commit leads nowhere
    fs::write(cache.path("refs/main"), "../../../..").unwrap();
    assert!(matches!(get(offline(&away), NAME, None), Err(SourceError::NotCached { .. })));
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    hub.repo(NAME, |repo| repo.access = crate::fake_hub::Access::Private("secret".into()));
    let mut options = cache.options(&hub.server.url);
    options.token = Token::new("secret");
    get(options, NAME, None).unwrap();
    assert!(hub.server.log().iter().all(|request| request.header("authorization") == Some("Bearer secret")));
    assert!(!hub.cdn.log().is_empty());
    assert!(hub.cdn.log().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_look_downloads_nothing() {
    let (hub, cache) = (FakeHub::start(NAME, model()), Cache::new());
    let look = |token: Option<&str>| {
        let mut options = cache.options(&hub.server.url);
        options.token = token.and_then(Token::new);
        block_on(Hub::new(options).look(&NAME.parse().unwrap(), None))
    };
    let source = look(None).unwrap();
    assert!(matches!(source, Source::Http(_)));
    assert_eq!(block_on(source.size("model.safetensors")).unwrap(), Some(3_000_000));
    assert_eq!(*block_on(source.read("model.safetensors", 0..10)).unwrap(), bytes(10));
    assert_eq!(hub.cdn.log().iter().map(|request| request.range().unwrap().len()).max(), Some(1 << 16));
    assert!(cache.tree().is_empty());
    // what the Hub has a SHA-256 of is checked, and what it does not list is not asked for
    hub.faults(|faults| faults.flip = Some((etag(&bytes(3_000_000), true), 2_000_000)));
    assert!(matches!(block_on(source.read_all("model.safetensors", 1 << 30)), Err(SourceError::Corrupt { .. })));
    assert_eq!(block_on(source.read_all("model.safetensors", 1 << 30)).unwrap().unwrap(), bytes(3_000_000));
    assert_eq!(source.verified(), 3_000_000);
    let asked = hub.requests();
    assert_eq!(block_on(source.size("generation_config.json")).unwrap(), None);
    assert_eq!(hub.requests(), asked);
    hub.repo(NAME, |repo| repo.access = crate::fake_hub::Access::Gated("secret".into()));
    assert!(matches!(look(None), Err(SourceError::Gated { .. })));
    let source = look(Some("secret")).unwrap();
    assert_eq!(*block_on(source.read("config.json", 0..8)).unwrap(), *b"{\"a\": 1}");
    hub.repo(NAME, |repo| repo.access = crate::fake_hub::Access::Open);
    get(cache.options(&hub.server.url), NAME, None).unwrap();
    assert!(matches!(look(None), Ok(Source::Folder(_))));
}

/// A repository of GGUF files has no config.json, and of its many files one is fetched.
#[test]
fn of_gguf_files_the_one_that_is_meant_is_downloaded() {
    let repo = Repo::new([
        ("README.md", b"hello".to_vec()),
        ("m-Q4_K_M.gguf", bytes(2_000)),
        ("m-Q8_0-00001-of-00002.gguf", bytes(3_000)),
        ("m-Q8_0-00002-of-00002.gguf", bytes(4_000)),
        ("mmproj-m.gguf", bytes(10)),
    ]);
    let (hub, cache) = (FakeHub::start(NAME, repo), Cache::new());
    let options = |gguf_file: Option<&str>| {
        let mut options = cache.options(&hub.server.url);
        options.gguf_file = gguf_file.map(str::to_owned);
        options
    };
    let names = |folder: &Folder| {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let meant = |folder: Folder| Source::Folder(folder).gguf().unwrap();
    let large = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
    let folder = get(options(Some("q8_0")), NAME, None).unwrap();
    assert_eq!(names(&folder), large);
    assert_eq!(read(&folder, large[1]), bytes(4_000));
    assert_eq!(meant(folder).as_deref(), Some(large[0]));
    // by default another one, although one is there: by a branch and by a commit
    for revision in [None, Some(COMMIT)] {
        let folder = get(options(None), NAME, revision).unwrap();
        assert_eq!(meant(folder).as_deref(), Some("m-Q4_K_M.gguf"), "{revision:?}");
    }
    // what is there is not asked for again, nor without a network
    hub.cdn.forget();
    let folder = get(options(Some("Q8_0")), NAME, Some(COMMIT)).unwrap();
    assert_eq!(meant(folder).as_deref(), Some(large[0]));
    assert!(hub.cdn.log().is_empty());
    let mut offline = options(Some("m-Q4_K_M.gguf"));
    (offline.offline, offline.endpoint) = (true, nowhere());
    assert_eq!(meant(get(offline, NAME, None).unwrap()).as_deref(), Some("m-Q4_K_M.gguf"));

    let error = get(options(Some("Q2_K")), NAME, None).unwrap_err();
    assert!(matches!(&error, SourceError::GgufChoice { .. }), "{error:?}");
    for word in ["Q2_K", "m-Q4_K_M.gguf", "--gguf-file"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    // a look reads headers at the address
    let looked = block_on(Hub::new(options(Some("Q8_0"))).look(&NAME.parse().unwrap(), None)).unwrap();
    assert!(matches!(looked, Source::Folder(_)));
    let elsewhere = Cache::new();
    let mut fresh = elsewhere.options(&hub.server.url);
    fresh.gguf_file = Some("Q8_0".to_owned());
    let looked = block_on(Hub::new(fresh).look(&NAME.parse().unwrap(), None)).unwrap();
    assert_eq!((matches!(looked, Source::Http(_)), looked.gguf().unwrap().as_deref()), (true, Some(large[0])));
}
