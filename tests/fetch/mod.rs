//! A folder below an address, read by a browser. What servers do wrong is tested natively (`tests/hub/http.rs`); here it is that
//! `fetch` gives the same.

mod blobs;
mod hub;
mod lanes;
mod store;

use js_sys::{Function, Promise, Reflect, Uint8Array, global};
use std::collections::BTreeMap;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;
use web_time::Duration;
use webweft::error::SourceError;
use webweft::session::{LoadOptions, Session};
use webweft::source::browser::{self, Keep, Options, Spec};
use webweft::source::{Http, HttpOptions, RetryPolicy, Source, Token};

use crate::common::{device, read_shared, skipped};

const MODEL: &str = "fixtures/llama_mha";

fn open(url: &str) -> Source {
    let mut options = HttpOptions::default();
    options.retry = RetryPolicy { retries: 3, backoff: Duration::from_millis(1) };
    options.token = Token::new("secret");
    Source::Http(Http::open(url, options).unwrap())
}

/// Where the test runner serves the fixtures.
fn served() -> Source {
    let location = Reflect::get(&global(), &"location".into()).unwrap();
    let origin = Reflect::get(&location, &"origin".into()).unwrap().as_string().unwrap();
    open(&format!("{origin}/target/{MODEL}?v=1"))
}

async fn stream(source: &Source, name: &str, chunk: usize) -> Result<Vec<u8>, SourceError> {
    let size = source.size(name).await?.unwrap();
    let mut stream = source.stream(name, 0..size);
    let mut all = Vec::new();
    while let Some(piece) = stream.next(chunk).await {
        all.extend_from_slice(piece?);
    }
    Ok(all)
}

#[wasm_bindgen_test]
async fn files_of_the_test_server_are_read() {
    let Some(config) = read_shared(&format!("{MODEL}/config.json")).await else {
        return skipped("no fixtures");
    };
    let weights = read_shared(&format!("{MODEL}/model.safetensors")).await.unwrap();
    let source = served();
    assert_eq!(*source.read_all("config.json", 1 << 20).await.unwrap().unwrap(), *config);
    assert_eq!(source.size("model.safetensors").await.unwrap(), Some(weights.len() as u64));
    assert_eq!(source.size("no such file.json").await.unwrap(), None);
    assert_eq!(*source.read("model.safetensors", 100_000..300_000).await.unwrap(), weights[100_000..300_000]);
    for chunk in [50_000, 4 << 20] {
        assert!(stream(&source, "model.safetensors", chunk).await.unwrap() == weights);
    }
    let error = source.read("model.safetensors", 0..weights.len() as u64 + 1).await.unwrap_err();
    assert!(matches!(error, SourceError::OutOfRange { .. }), "{error}");
}

#[wasm_bindgen_test]
async fn a_session_opens_from_an_address() {
    if read_shared(&format!("{MODEL}/config.json")).await.is_none() {
        return skipped("no fixtures");
    }
    let device = device().await;
    let memory = crate::models::shared_source(MODEL).await.unwrap();
    let mut logits = Vec::new();
    for source in [memory, served()] {
        let mut session = Session::open(&device, &source, &LoadOptions::default(), |_| ()).await.unwrap();
        logits.push(session.forward(&[1, 5, 9, 20]).await.unwrap().logits);
    }
    assert!(!logits[0].is_empty() && logits[0] == logits[1]);
}

/// Puts a server of ours in place of `fetch` until it is dropped.
struct Fetch(JsValue);

impl Fetch {
    /// `answer`: what to do with `n` (which request this is, from 0), `start`, `end` (of the range) and `head` (what a good answer
    /// has), given the file's bytes in `data`.
    fn answering(answer: &str) -> Self {
        Self::of(3_000_000, answer)
    }

    /// The same, of a file of another size.
    fn of(size: usize, answer: &str) -> Self {
        let before = Reflect::get(&global(), &"fetch".into()).unwrap();
        let code = format!(
            "const data = new Uint8Array({size});
            for (let i = 0; i < data.length; i++) data[i] = Math.imul(i, 2654435761) >>> 24;
            let n = -1;
            self.asked = [];
            self.fetch = async (url, init) => {{
                const range = new Headers(init.headers).get('Range');
                self.asked.push(`${{init.method}} ${{url}} ${{range}} ${{new Headers(init.headers).get('Authorization')}}`);
                n += 1;
                let [start, end] = /bytes=(\\d+)-(\\d+)/.exec(range ?? 'bytes=0-0').slice(1).map(Number);
                end = Math.min(end + 1, data.length);
                const head = {{ 'Content-Range': `bytes ${{start}}-${{end - 1}}/${{data.length}}`, ETag: '\"1\"' }};
                const part = (headers, body) => new Response(body ?? data.slice(start, end), {{ status: 206, headers }});
                {answer}
            }};"
        );
        Function::new_no_args(&code).call0(&JsValue::UNDEFINED).unwrap();
        Self(before)
    }

    fn asked(&self) -> Vec<String> {
        let asked = Reflect::get(&global(), &"asked".into()).unwrap();
        js_sys::Array::from(&asked).iter().map(|line| line.as_string().unwrap()).collect()
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        Reflect::set(&global(), &"fetch".into(), &self.0).unwrap();
    }
}

fn data() -> Vec<u8> {
    data_of(3_000_000)
}

fn data_of(size: u32) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What is kept has tests of its own.
fn nothing_kept() -> Options {
    let mut options = Options::default();
    options.retry = RetryPolicy { retries: 2, backoff: Duration::from_millis(1) };
    options.keep = Keep::Nothing;
    options
}

/// By the browser's own hand.
async fn sha256(bytes: &[u8]) -> String {
    let code = "return crypto.subtle.digest('SHA-256', bytes).then(hash => \
        Array.from(new Uint8Array(hash), byte => byte.toString(16).padStart(2, '0')).join(''));";
    let digest = Function::new_with_args("bytes", code).call1(&JsValue::UNDEFINED, &Uint8Array::from(bytes)).unwrap();
    JsFuture::from(Promise::from(digest)).await.unwrap().as_string().unwrap()
}

#[wasm_bindgen_test]
async fn an_altered_file_is_refused() {
    let digest = sha256(&data()).await;
    for (answer, good) in [("return part(head);", true), ("data[2999999] ^= n > 0; return part(head);", false)] {
        let fetch = Fetch::answering(answer);
        let digests = BTreeMap::from([("f".to_owned(), digest.clone())]);
        let spec = Spec::Url { url: "https://h/m".to_owned(), token: None, digests };
        let source = browser::open(spec, &nothing_kept(), |notice| panic!("{notice:?}")).await.unwrap();
        let mut stream = source.stream("f", 100_000..200_000);
        assert!(stream.next(1000).await.unwrap().unwrap() == &data()[100_000..101_000]);
        let result = stream.finish().await;
        assert_eq!(result.is_ok(), good);
        assert!(good || matches!(result, Err(SourceError::Corrupt { .. })));
        assert_eq!(source.verified(), if good { 3_000_000 } else { 0 });
        drop(fetch);
    }
}

#[wasm_bindgen_test]
async fn ranges_are_one_long_answer_taken_up_where_it_broke() {
    let fetch = Fetch::answering("return part(head);");
    let source = open("https://h/m?key=1");
    assert!(stream(&source, "f", 100_000).await.unwrap() == data());
    let asked = fetch.asked();
    assert_eq!(asked[0], "GET https://h/m/f?key=1 bytes=0-65535 Bearer secret");
    assert_eq!(asked[1..], ["GET https://h/m/f?key=1 bytes=0-2999999 Bearer secret"]);
    drop(fetch);

    // one that ends too early, one that breaks off, no connection at all
    let fetch = Fetch::answering(
        "if (n === 1) return part(head, data.slice(0, 1000000));
        if (n === 2) {
            let pulled = 0;
            return part(head, new ReadableStream({ pull(to) {
                if (pulled++) to.error(new Error('cut')); else to.enqueue(data.slice(start, start + 1000000));
            } }, { highWaterMark: 0 }));
        }
        if (n === 3) throw new TypeError('no network');
        return part(head);",
    );
    assert!(stream(&open("https://h/m"), "f", 70_000).await.unwrap() == data());
    let starts: Vec<_> = fetch.asked().iter().map(|line| line.split("bytes=").nth(1).unwrap().to_owned()).collect();
    assert!(starts[2].starts_with("1000000-") && starts[3].starts_with("2000000-"), "{starts:?}");
    assert_eq!(starts.len(), 5);
}

#[wasm_bindgen_test]
async fn wrong_answers_are_errors() {
    let error = async |answer: &str| {
        let fetch = Fetch::answering(answer);
        let error = stream(&open("https://h/m?key=1"), "f", 1 << 20).await.expect_err("wrong");
        drop(fetch);
        assert!(!error.to_string().contains("key=1") && !error.to_string().contains("secret"), "{error}");
        error
    };
    let changed = error("return part(n === 0 ? head : { ...head, ETag: '\"2\"' });").await;
    assert!(matches!(changed, SourceError::Changed { .. }), "{changed}");
    let wrong = error("return part(n === 0 ? head : { ...head, 'Content-Range': 'bytes 7-8/3000000' });").await;
    assert!(matches!(wrong, SourceError::WrongRange { .. }), "{wrong}");
    let refused = error("return new Response(null, { status: 403 });").await;
    assert!(matches!(refused, SourceError::Refused { status: 403, .. }), "{refused}");
    let away = error("throw new TypeError('no network');").await;
    assert!(matches!(away, SourceError::Unreachable { .. }) && away.to_string().contains("CORS"), "{away}");
    let busy = error("return new Response(null, { status: 429, headers: { 'Retry-After': '999' } });").await;
    assert!(matches!(busy, SourceError::RateLimited { after: Some(999), .. }), "{busy}");
}

/// Another origin that allows this page to read, and no more: the size is asked for by itself.
#[wasm_bindgen_test]
async fn headers_that_a_browser_hides_are_done_without() {
    let fetch = Fetch::answering(
        "const answer = init.method === 'HEAD'
            ? new Response(null, { headers: { 'Content-Length': data.length } })
            : part({ 'Content-Length': end - start });
        Object.defineProperty(answer, 'type', { value: 'cors' });
        return answer;",
    );
    let source = open("https://h/m");
    assert_eq!(source.size("f").await.unwrap(), Some(3_000_000));
    assert!(stream(&source, "f", 1 << 20).await.unwrap() == data());
    assert_eq!(fetch.asked().iter().filter(|line| line.starts_with("HEAD")).count(), 1);
}

/// A server that falls silent is given up, and asked again.
#[wasm_bindgen_test]
async fn silence_ends() {
    let timer = Reflect::get(&global(), &"setTimeout".into()).unwrap();
    // seconds become milliseconds
    let quick = "const wait = self.setTimeout; self.setTimeout = (then, ms) => wait.call(self, then, ms / 1000);";
    Function::new_no_args(quick).call0(&JsValue::UNDEFINED).unwrap();
    let fetch = Fetch::answering(
        "if (n === 1) return part(head, new ReadableStream({ pull() { return new Promise(() => {}); } }));
        if (n === 2) return new Promise(() => {});
        return part(head);",
    );
    let all = stream(&open("https://h/m"), "f", 1 << 20).await;
    Reflect::set(&global(), &"setTimeout".into(), &timer).unwrap();
    assert!(all.unwrap() == data());
    assert_eq!(fetch.asked().len(), 4);
}
