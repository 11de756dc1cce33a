//! What a browser keeps of models, in both of the places that it has for it.

use super::{Fetch, data_of, sha256};
use js_sys::{Function, Promise, Reflect, global};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;
use web_time::Duration;
use webweft::error::SourceError;
use webweft::source::browser::{self, Keep, Options, Spec};
use webweft::source::store::{Entry, Place, Store};
use webweft::source::{Origin, RetryPolicy, Source};

const SIZE: u32 = (6 << 20) + 12_345;
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";
const PLACES: [Place; 2] = [Place::Opfs, Place::Caches];
/// `config.json` and the weights; `head` and `data` may be changed before.
const FILES: &str = "const path = new URL(url).pathname;
    if (path.endsWith('config.json')) return new Response('{}', { headers: { ETag: '\"c\"', 'Content-Length': '2' } });
    return path.endsWith('model.safetensors') ? part(head) : new Response(null, { status: 404 });";
const AWAY: &str = "throw new TypeError('no network');";

fn served() -> Fetch {
    Fetch::of(SIZE as usize, FILES)
}

/// A visit to a page: what it opens, and what it is told.
struct Visit {
    source: Source,
    told: Rc<RefCell<Vec<&'static str>>>,
}

impl Visit {
    async fn to(spec: Spec, place: Option<Place>, keep: Keep) -> Result<Self, SourceError> {
        let mut options = Options::default();
        options.retry = RetryPolicy { retries: 1, backoff: Duration::ZERO };
        (options.place, options.keep) = (place, keep);
        let told = Rc::<RefCell<Vec<_>>>::default();
        let of_notice = told.clone();
        let tell = move |notice: browser::Notice| of_notice.borrow_mut().push(notice.code.as_str());
        Ok(Self { source: browser::open(spec, &options, tell).await?, told })
    }

    async fn url(name: &str, place: Place) -> Self {
        Self::to(url(name, None), Some(place), Keep::Stored).await.unwrap()
    }

    /// Opens it as a session does: its config and its absent files, a header, the weights.
    async fn load(&self) -> Result<Vec<u8>, SourceError> {
        assert_eq!(self.source.size("tokenizer.json").await?, None);
        assert_eq!(*self.source.read_all("config.json", 100).await?.unwrap(), *b"{}");
        let size = self.source.size(WEIGHTS).await?.unwrap();
        self.source.read(WEIGHTS, 0..8).await?;
        let mut stream = self.source.stream(WEIGHTS, 100..size - 100);
        let mut all = Vec::new();
        while let Some(piece) = stream.next(1_000_000).await {
            all.extend_from_slice(piece?);
        }
        stream.finish().await?;
        Ok(all)
    }

    async fn loads(&self, from: Origin, told: &[&str]) {
        assert!(self.load().await.unwrap() == data_of(SIZE)[100..SIZE as usize - 100]);
        assert_eq!(*self.told.borrow(), told);
        assert_eq!(self.source.origin("config.json"), from);
    }
}

fn url(name: &str, digest: Option<&str>) -> Spec {
    let digests = digest.map(|digest| BTreeMap::from([(WEIGHTS.to_owned(), digest.to_owned())])).unwrap_or_default();
    Spec::Url { url: format!("https://h/{name}?key=1"), token: None, digests }
}

async fn run(code: &str) -> JsValue {
    let promise = Function::new_no_args(&format!("return (async () => {{ {code} }})();")).call0(&JsValue::UNDEFINED);
    JsFuture::from(Promise::from(promise.unwrap())).await.unwrap()
}

async fn store(place: Place) -> Store {
    Store::open(Some(place)).await.unwrap()
}

async fn entry(place: Place, name: &str) -> Option<Entry> {
    let key = format!("https://h/{name}");
    store(place).await.list().await.unwrap().into_iter().find(|entry| entry.key == key)
}

/// Changes something of the browser until it is dropped.
struct Changed(JsValue, &'static str, JsValue);

impl Changed {
    fn new(of: &[&str], name: &'static str, code: &str) -> Self {
        let of = of.iter().fold(JsValue::from(global()), |at, name| Reflect::get(&at, &(*name).into()).unwrap());
        let before = Reflect::get(&of, &name.into()).unwrap();
        let new = Function::new_with_args("before", &format!("return {code};")).call1(&JsValue::UNDEFINED, &before);
        Reflect::set(&of, &name.into(), &new.unwrap()).unwrap();
        Self(of, name, before)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        Reflect::set(&self.0, &self.1.into(), &self.2).unwrap();
    }
}

#[wasm_bindgen_test]
async fn a_second_visit_needs_no_network() {
    for place in PLACES {
        let fetch = served();
        Visit::url("twice", place).await.loads(Origin::Network, &[]).await;
        drop(fetch);
        let fetch = Fetch::answering(AWAY);
        let visit = Visit::url("twice", place).await;
        visit.loads(Origin::Cache, &["offline"]).await;
        // asked twice of one file, and no more
        assert!(fetch.asked().len() <= 2, "{:?}", fetch.asked());
        // a file that nobody asked for before may be there
        assert!(matches!(visit.source.size("other.json").await, Err(SourceError::Unreachable { .. })));
        drop(fetch);
        let fetch = served();
        Visit::url("twice", place).await.loads(Origin::Cache, &[]).await;
        assert!(fetch.asked().iter().all(|line| line.contains("bytes=0-65535 ")), "{:?}", fetch.asked());

        let entry = entry(place, "twice").await.unwrap();
        assert_eq!((entry.kind.as_str(), entry.name.as_str(), entry.complete), ("url", "https://h/twice", true));
        assert_eq!(entry.bytes, u64::from(SIZE) + 2);
        assert_eq!(entry.files, [("config.json".to_owned(), 2), (WEIGHTS.to_owned(), u64::from(SIZE))]);
        assert!(entry.created > 1e12 && entry.last_used >= entry.created);
        // nothing is kept of what is only read from there
        let nothing = Visit::to(url("twice", None), Some(place), Keep::Nothing).await.unwrap();
        nothing.loads(Origin::Network, &[]).await;
        assert!(store(place).await.delete(&entry.key).await.unwrap());
        assert!(!store(place).await.delete(&entry.key).await.unwrap());
        Visit::url("twice", place).await.loads(Origin::Network, &[]).await;
        store(place).await.clear().await.unwrap();
        assert!(store(place).await.list().await.unwrap().is_empty());
    }
}

/// A visit that ends in the middle of a file.
async fn broken_off(name: &str, digest: Option<&str>, place: Place) {
    let visit = Visit::to(url(name, digest), Some(place), Keep::Stored).await.unwrap();
    visit.source.read_all("config.json", 100).await.unwrap();
    let mut stream = visit.source.stream(WEIGHTS, 0..SIZE.into());
    stream.next(2_500_000).await.unwrap().unwrap();
    drop(stream);
}

#[wasm_bindgen_test]
async fn a_part_is_never_taken_as_whole() {
    for place in PLACES {
        let fetch = served();
        broken_off("part", None, place).await;
        assert!(!entry(place, "part").await.unwrap().complete);
        drop(fetch);
        let away = Fetch::answering(AWAY);
        let error = Visit::url("part", place).await.load().await.unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
        drop(away);
        let fetch = served();
        let visit = Visit::url("part", place).await;
        visit.loads(Origin::Cache, &[]).await;
        assert!(fetch.asked().iter().any(|line| line.contains("bytes=0-4194303 ")), "{:?}", fetch.asked());
        assert!(entry(place, "part").await.unwrap().complete);
        store(place).await.clear().await.unwrap();
    }
}

#[wasm_bindgen_test]
async fn a_part_is_gone_on_with_and_checked() {
    let digest = sha256(&data_of(SIZE)).await;
    let visit = async || Visit::to(url("on", Some(&digest)), Some(Place::Opfs), Keep::Stored).await.unwrap();
    let fetch = served();
    broken_off("on", Some(&digest), Place::Opfs).await;
    drop(fetch);
    let fetch = served();
    let again = visit().await;
    again.loads(Origin::Cache, &[]).await;
    assert_eq!(again.source.verified(), u64::from(SIZE));
    let weights: Vec<_> = fetch.asked().into_iter().filter(|line| line.contains(WEIGHTS)).collect();
    assert!(weights.len() == 2 && weights[1].contains("bytes=2500000-"), "{weights:?}");
    drop(fetch);
    // by its digest it is known to be right, and nobody is asked for it
    let fetch = served();
    visit().await.loads(Origin::Cache, &[]).await;
    assert!(fetch.asked().iter().all(|line| !line.contains(WEIGHTS)), "{:?}", fetch.asked());
    drop(fetch);
    // of another content than was kept
    let _fetch = served();
    let other = Visit::to(url("on", Some(&"0".repeat(64))), Some(Place::Opfs), Keep::Stored).await.unwrap();
    assert!(matches!(other.load().await, Err(SourceError::Corrupt { .. })));
    assert_eq!(*other.told.borrow(), ["cache_stale"]);
    assert!(!entry(Place::Opfs, "on").await.unwrap().complete);

    // a part that was damaged meanwhile is found out, and not kept
    broken_off("on", Some(&digest), Place::Opfs).await;
    run("const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('webweft');
        for await (const folder of root.values()) {
            const file = await folder.getFileHandle('data-model.safetensors');
            const handle = await file.createSyncAccessHandle();
            handle.write(new Uint8Array(100), { at: 1000 });
            handle.close();
        }")
    .await;
    assert!(matches!(visit().await.load().await, Err(SourceError::Corrupt { .. })));
    visit().await.loads(Origin::Cache, &[]).await;
    store(Place::Opfs).await.clear().await.unwrap();
}

#[wasm_bindgen_test]
async fn another_version_is_fetched() {
    for place in PLACES {
        // by its ETag, by when it was modified, and by its beginning where the server tells nothing; none that is the same
        for (change, stale) in [
            ("", false),
            ("head.ETag = '\"2\"'; data[5] = 1;", true),
            ("delete head.ETag; data[5] = 1;", false),
            ("delete head.ETag; head['Last-Modified'] = 'Sun, 06 Nov 1994 08:49:37 GMT'; data[5] = 2;", true),
            ("delete head.ETag; head['Last-Modified'] = 'Sun, 06 Nov 1994 08:49:38 GMT'; data[5] = 3;", true),
            ("delete head.ETag; data[5] = 4;", true),
            ("delete head.ETag; data[5] = 4;", false),
        ] {
            let fetch = Fetch::of(SIZE as usize, &format!("{change} {FILES}"));
            let visit = Visit::url("stale", place).await;
            visit.load().await.unwrap();
            let want: &[&str] = if stale { &["cache_stale"] } else { &[] };
            assert_eq!(*visit.told.borrow(), want, "{change}");
            let at: u8 = change.rsplit_once("data[5] = ").map_or(data_of(6)[5], |(_, rest)| rest[..1].parse().unwrap());
            assert_eq!(*visit.source.read(WEIGHTS, 5..6).await.unwrap(), [at], "{change}");
            let again = Visit::url("stale", place).await;
            again.source.size(WEIGHTS).await.unwrap();
            assert_eq!((again.source.origin(WEIGHTS), again.told.borrow().len()), (Origin::Cache, 0), "{change}");
            drop(fetch);
        }
        // shorter, and gone
        let fetch = Fetch::of(1_000_000, FILES);
        let visit = Visit::url("stale", place).await;
        assert_eq!(visit.source.size(WEIGHTS).await.unwrap(), Some(1_000_000));
        assert_eq!(*visit.told.borrow(), ["cache_stale"]);
        visit.load().await.unwrap();
        drop(fetch);
        let _fetch = Fetch::answering("return new Response(null, { status: 404 });");
        let visit = Visit::url("stale", place).await;
        assert_eq!(visit.source.size(WEIGHTS).await.unwrap(), None);
        assert_eq!(*visit.told.borrow(), ["cache_stale"]);
        assert!(entry(place, "stale").await.unwrap().files.iter().all(|(name, _)| name != WEIGHTS));
        store(place).await.clear().await.unwrap();
    }
}

/// No room, private windows, another tab at the same file: the model opens, and the page is told.
#[wasm_bindgen_test]
async fn without_a_place_the_network_is_read() {
    let refuse = |name: &str| format!("() => {{ throw new DOMException('no', '{name}'); }}");
    let _fetch = served();
    let handle = ["FileSystemSyncAccessHandle", "prototype"];
    // no room for the weights: what is there besides is kept
    let quota = Changed::new(
        &handle,
        "write",
        "function (bytes, options) {
        if (options.at + bytes.length > 3000000) throw new DOMException('full', 'QuotaExceededError');
        return before.call(this, bytes, options);
    }",
    );
    Visit::url("full", Place::Opfs).await.loads(Origin::Network, &["cache_unavailable"]).await;
    drop(quota);
    let short = Changed::new(
        &handle,
        "write",
        "function (bytes, options) {
        return options.at > 3000000 ? 0 : before.call(this, bytes, options);
    }",
    );
    Visit::url("full", Place::Opfs).await.loads(Origin::Cache, &["cache_unavailable"]).await;
    drop(short);
    let left = entry(Place::Opfs, "full").await.unwrap();
    assert!(!left.complete && left.bytes == 2, "{left:?}");

    let put = Changed::new(&["Cache", "prototype"], "put", &format!("async {}", refuse("QuotaExceededError")));
    Visit::url("full", Place::Caches).await.loads(Origin::Network, &["cache_unavailable"]).await;
    drop(put);

    let opfs =
        Changed::new(&["StorageManager", "prototype"], "getDirectory", &format!("async {}", refuse("SecurityError")));
    // there is still the other place
    Visit::to(url("private", None), None, Keep::Stored).await.unwrap().loads(Origin::Network, &[]).await;
    assert!(entry(Place::Caches, "private").await.unwrap().complete);
    let caches = Changed::new(&["CacheStorage", "prototype"], "open", &format!("async {}", refuse("SecurityError")));
    let neither = Visit::to(url("private", None), None, Keep::Stored).await.unwrap();
    neither.loads(Origin::Network, &["cache_unavailable"]).await;
    assert!(matches!(Store::open(None).await, Err(SourceError::Storage { .. })));
    drop((opfs, caches));

    // another tab holds the weights
    Visit::url("locked", Place::Opfs).await.source.read_all("config.json", 100).await.unwrap();
    run("const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('webweft');
        self.held = [];
        for await (const folder of root.values()) {
            const file = await folder.getFileHandle('data-model.safetensors', { create: true });
            self.held.push(await file.createSyncAccessHandle());
        }")
    .await;
    Visit::url("locked", Place::Opfs).await.loads(Origin::Cache, &["cache_unavailable"]).await;
    run("self.held.forEach(handle => handle.close());").await;
    Visit::url("locked", Place::Opfs).await.loads(Origin::Cache, &[]).await;
    assert!(entry(Place::Opfs, "locked").await.unwrap().complete);
    for place in PLACES {
        store(place).await.clear().await.unwrap();
    }
}

#[wasm_bindgen_test]
async fn what_is_damaged_or_gone_is_fetched() {
    let change = async |code: &str| {
        let all = "const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('webweft');
            for await (const folder of root.values()) {";
        run(&format!("{all} {code} }}")).await;
    };
    let truncate = |file: &str| {
        format!(
            "const handle = await (await folder.getFileHandle('{file}')).createSyncAccessHandle();
            handle.truncate(50); handle.close();"
        )
    };
    let _fetch = served();
    Visit::url("damaged", Place::Opfs).await.load().await.unwrap();
    for code in [
        truncate("data-model.safetensors"),
        truncate("whole-model.safetensors"),
        truncate("entry"),
        "await folder.removeEntry('data-model.safetensors');".to_owned(),
        "await folder.removeEntry('whole-model.safetensors');".to_owned(),
        "for await (const name of folder.keys()) await folder.removeEntry(name);".to_owned(),
    ] {
        change(&code).await;
        assert!(entry(Place::Opfs, "damaged").await.is_none_or(|entry| !entry.complete), "{code}");
        let visit = Visit::url("damaged", Place::Opfs).await;
        assert!(visit.load().await.unwrap() == data_of(SIZE)[100..SIZE as usize - 100], "{code}");
        assert!(visit.told.borrow().is_empty(), "{code}");
        assert!(entry(Place::Opfs, "damaged").await.unwrap().complete, "{code}");
    }
    // while it is read: the next visit fetches it
    let visit = Visit::url("damaged", Place::Opfs).await;
    let mut stream = visit.source.stream(WEIGHTS, 0..SIZE.into());
    stream.next(1000).await.unwrap().unwrap();
    change("await folder.removeEntry('data-model.safetensors');").await;
    let mut result = Ok(());
    while let Some(piece) = stream.next(1_000_000).await {
        result = piece.map(|_| ());
    }
    assert!(matches!(result, Ok(()) | Err(SourceError::Changed { .. })));
    drop(stream);
    Visit::url("damaged", Place::Opfs).await.loads(Origin::Cache, &[]).await;
    store(Place::Opfs).await.clear().await.unwrap();
}

/// Whoever opens a model may go away while the browser opens a file.
#[wasm_bindgen_test]
async fn a_visit_that_is_given_up_locks_nothing() {
    let _fetch = served();
    let opened = Changed::new(
        &["FileSystemFileHandle", "prototype"],
        "createSyncAccessHandle",
        "async function () {
        const handle = await before.call(this);
        await new Promise(done => setTimeout(done, 20));
        return handle;
    }",
    );
    for milliseconds in (0..200).step_by(25) {
        let visit = Visit::url("left", Place::Opfs).await;
        let mut stream = visit.source.stream(WEIGHTS, 0..SIZE.into());
        let code = format!("return new Promise(done => setTimeout(done, {milliseconds}));");
        let time = Function::new_no_args(&code).call0(&JsValue::UNDEFINED).unwrap();
        let (mut next, mut late) = (Box::pin(stream.next(1000)), JsFuture::from(Promise::from(time)));
        // whichever is first
        poll_fn(|context| match (next.as_mut().poll(context), Pin::new(&mut late).poll(context)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
    drop(opened);
    run("await new Promise(done => setTimeout(done, 200));").await;
    let visit = Visit::url("left", Place::Opfs).await;
    visit.load().await.unwrap();
    assert!(visit.told.borrow().is_empty() && entry(Place::Opfs, "left").await.unwrap().complete);
    store(Place::Opfs).await.clear().await.unwrap();
}

/// Weights in another form, kept in place of their own.
#[wasm_bindgen_test]
async fn files_of_our_own_are_kept_beside() {
    let name = "webweft-q4.safetensors";
    let quantized = async |place| Visit::to(url("q4", None), Some(place), Keep::Quantized).await.unwrap();
    let made_of = [WEIGHTS.to_owned()];
    for place in PLACES {
        let fetch = served();
        let visit = quantized(place).await;
        visit.loads(Origin::Network, &[]).await;
        assert_eq!(visit.source.size(name).await.unwrap(), None);
        let mut keeper = visit.source.keeper(name, &made_of).await.unwrap().unwrap();
        keeper.append(&[1; 100_000]);
        keeper.append(&[2; 50_000]);
        assert_eq!(quantized(place).await.source.size(name).await.unwrap(), None);
        assert!(keeper.size() == 150_000 && keeper.finish().await);
        let entry = entry(place, "q4").await.unwrap();
        assert_eq!((entry.complete, entry.bytes), (true, 150_002));
        assert!(matches!(visit.source.keeper("q4", &made_of).await, Err(SourceError::BadName { .. })));
        let missing = visit.source.keeper(name, &["no.safetensors".to_owned()]).await;
        assert!(matches!(missing, Err(SourceError::FileMissing { .. })));
        drop(fetch);

        for (answer, told) in [(FILES.to_owned(), vec![]), (AWAY.to_owned(), vec!["offline"])] {
            let fetch = Fetch::of(SIZE as usize, &answer);
            let visit = quantized(place).await;
            let all = super::stream(&visit.source, name, 70_000).await.unwrap();
            assert!(all[..100_000] == [1; 100_000] && all[100_000..] == [2; 50_000]);
            assert_eq!((visit.source.origin(name), &*visit.told.borrow()), (Origin::Cache, &told));
            assert!(fetch.asked().iter().all(|line| !line.contains("webweft-")));
            drop(fetch);
        }
        let _fetch = Fetch::of(SIZE as usize, &format!("head.ETag = '\"2\"'; {FILES}"));
        let visit = quantized(place).await;
        assert_eq!(visit.source.size(name).await.unwrap(), None);
        assert_eq!(*visit.told.borrow(), ["cache_stale"]);
        store(place).await.clear().await.unwrap();
    }
}

fn hub(commit: &str, config: &str, digest: &str) -> String {
    format!(
        "const path = new URL(url).pathname;
        if (path.startsWith('/api/')) {{
            const siblings = [
                {{ rfilename: 'config.json', size: 2, blobId: '{config}' }},
                {{ rfilename: 'model.safetensors', size: data.length, blobId: 'x', lfs: {{ sha256: '{digest}', size: data.length }} }},
            ];
            return Response.json({{ sha: '{commit}', siblings }});
        }}
        return path.endsWith('config.json') ? new Response('{{}}') : part(head);"
    )
}

#[wasm_bindgen_test]
async fn models_of_the_hub_are_kept_by_their_content() {
    let digest = sha256(&data_of(SIZE)).await;
    let visit = async |revision: Option<&str>, place| {
        let (repo, endpoint) = ("org/model".to_owned(), Some("https://hub".to_owned()));
        let spec = Spec::Hub { repo, revision: revision.map(str::to_owned), endpoint, token: None };
        Visit::to(spec, Some(place), Keep::Stored).await
    };
    let other = "f".repeat(40);
    for place in PLACES {
        let fetch = Fetch::of(SIZE as usize, &hub(COMMIT, "a", &digest));
        let first = visit(None, place).await.unwrap();
        first.loads(Origin::Network, &[]).await;
        assert_eq!(first.source.verified(), u64::from(SIZE));
        visit(Some(COMMIT), place).await.unwrap().loads(Origin::Network, &[]).await;
        drop(fetch);
        let asked = async |answer: &str, revision, told: &[&str]| {
            let fetch = Fetch::of(SIZE as usize, answer);
            visit(revision, place).await.unwrap().loads(Origin::Cache, told).await;
            fetch.asked()
        };
        // only where the branch leads to
        assert_eq!(asked(&hub(COMMIT, "a", &digest), None, &[]).await.len(), 1);
        // a commit never changes
        assert_eq!(asked(AWAY, Some(COMMIT), &[]).await.len(), 0);
        asked(AWAY, None, &["offline"]).await;
        // another commit with the same weights
        let fetch = Fetch::of(SIZE as usize, &hub(&other, "b", &digest));
        visit(None, place).await.unwrap().loads(Origin::Network, &["cache_stale"]).await;
        let lines = fetch.asked();
        drop(fetch);
        assert!(lines.iter().all(|line| !line.contains(WEIGHTS)), "{lines:?}");
        let entries = store(place).await.list().await.unwrap();
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["https://hub/org/model@main", &format!("https://hub/org/model@{COMMIT}")]);
        assert_eq!((entries[0].commit.as_deref(), entries[0].complete), (Some(other.as_str()), true));
        assert_eq!((entries[0].kind.as_str(), entries[0].revision.as_deref()), ("hub", Some("main")));
        store(place).await.clear().await.unwrap();
        let _fetch = Fetch::answering(AWAY);
        assert!(matches!(visit(None, place).await.err(), Some(SourceError::Unreachable { .. })));
    }
}
