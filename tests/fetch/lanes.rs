//! A long file by several requests at once.

use super::{Fetch, data_of, nothing_kept, sha256, stream};
use js_sys::{Function, Promise, Reflect, global};
use std::collections::BTreeMap;
use std::future::Future;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::SourceError;
use webweft::source::Source;
use webweft::source::browser::{self, Spec};

const SIZE: u32 = (18 << 20) + 12_345;
const SEGMENT: u64 = 4 << 20;

/// `then` answers; meanwhile it is counted how many requests there are, and each takes its time, later ones less.
fn slow(then: &str) -> Fetch {
    Fetch::of(
        SIZE as usize,
        &format!(
            "self.now = (self.now ?? 0) + 1;
            self.most = Math.max(self.most ?? 0, self.now);
            self.signals = [...(self.signals ?? []), init.signal];
            if (init.cache !== (n ? 'no-store' : 'no-cache')) throw new Error(init.cache);
            await new Promise(done => setTimeout(done, Math.max(1, 60 - 10 * n)));
            self.now -= 1;
            {then}"
        ),
    )
}

fn number(name: &str) -> f64 {
    Reflect::get(&global(), &name.into()).unwrap().as_f64().unwrap()
}

/// Forgets what was counted, ...
fn reset() {
    Function::new_no_args("self.now = 0; self.most = 0; self.signals = [];").call0(&JsValue::UNDEFINED).unwrap();
}

async fn sleep(milliseconds: u32) {
    let code = format!("return new Promise(done => setTimeout(done, {milliseconds}));");
    let promise = Function::new_no_args(&code).call0(&JsValue::UNDEFINED).unwrap();
    JsFuture::from(Promise::from(promise)).await.unwrap();
}

async fn open(concurrency: usize, digest: Option<String>) -> Source {
    reset();
    let mut options = nothing_kept();
    options.concurrency = concurrency;
    let digests = digest.map(|digest| BTreeMap::from([("f".to_owned(), digest)])).unwrap_or_default();
    let spec = Spec::Url { url: "https://h/m".to_owned(), token: None, digests };
    browser::open(spec, &options, |notice| panic!("{notice:?}")).await.unwrap()
}

fn ranges(fetch: &Fetch) -> Vec<(u64, u64)> {
    let range = |line: &String| {
        let (start, end) = line.split("bytes=").nth(1)?.split(' ').next()?.split_once('-')?;
        Some((start.parse().ok()?, end.parse::<u64>().ok()? + 1))
    };
    fetch.asked()[1..].iter().map(|line| range(line).unwrap()).collect()
}

#[wasm_bindgen_test]
async fn lanes_give_the_same_bytes_as_one_answer() {
    let data = data_of(SIZE);
    let digest = sha256(&data).await;
    for (concurrency, requests, most) in [(1, 1, 1.0), (2, 5, 2.0), (4, 5, 4.0), (100, 5, 5.0)] {
        for digest in [None, Some(digest.clone())] {
            let fetch = slow("return part(head);");
            let source = open(concurrency, digest.clone()).await;
            assert!(stream(&source, "f", 3_333_333).await.unwrap() == data);
            let asked = ranges(&fetch);
            assert_eq!((asked.len(), number("most")), (requests, most), "{concurrency} {asked:?}");
            assert!(asked.windows(2).all(|pair| pair[0].1 == pair[1].0), "{asked:?}");
            assert!(requests == 1 || asked[0] == (0, SEGMENT));
            if digest.is_some() {
                source.stream("f", 10..20).finish().await.unwrap();
                assert_eq!(source.verified(), u64::from(SIZE));
            }
            drop(fetch);
        }
    }
}

/// Each is taken up where it broke; one answer that never comes right is the file's error, after the bytes before it.
#[wasm_bindgen_test]
async fn lanes_have_tries_of_their_own() {
    let data = data_of(SIZE);
    let fetch = slow(
        "if (start === 0 && n > 0) return part(head, data.slice(0, 1000000));
        if (start === 8388608) return new Response(null, { status: 503 });
        if (start === 4194304) throw new TypeError('no network');
        return part(head);",
    );
    let source = open(4, None).await;
    let mut stream = source.stream("f", 0..u64::from(SIZE));
    assert!(stream.next(4 << 20).await.unwrap().unwrap() == &data[..4 << 20]);
    let error = stream.next(4 << 20).await.unwrap().unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert!(stream.next(1).await.is_none());
    let asked = ranges(&fetch);
    assert!(asked.contains(&(1_000_000, SEGMENT)), "{asked:?}");
    assert_eq!(asked.iter().filter(|range| range.0 == SEGMENT).count(), 2, "{asked:?}");
    drop(fetch);

    // another file in the middle
    let _fetch = slow("return part(start === 8388608 ? { ...head, ETag: '\"2\"' } : head);");
    let error = super::stream(&open(4, None).await, "f", 1 << 20).await.unwrap_err();
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
}

/// A server that gives ranges at first, and then only whole files.
#[wasm_bindgen_test]
async fn lanes_fall_back_to_one_answer() {
    let data = data_of(SIZE);
    for from in [1, 3] {
        let fetch = slow(&format!(
            "if (n < {from}) return part(head);
            return new Response(data, {{ headers: {{ ETag: '\"1\"', 'Content-Length': data.length }} }});"
        ));
        assert!(stream(&open(4, None).await, "f", 1 << 20).await.unwrap() == data);
        drop(fetch);
    }
}

/// They go on while nobody waits for them, but not beyond what they may hold, and end with the stream.
#[wasm_bindgen_test]
async fn lanes_read_ahead_and_end() {
    let fetch = slow("return part(head);");
    let source = open(2, None).await;
    let mut stream = source.stream("f", 0..u64::from(SIZE));
    stream.next(1000).await.unwrap().unwrap();
    sleep(300).await;
    assert_eq!(ranges(&fetch).len(), 2);
    drop(stream);
    drop(fetch);

    let _fetch = slow("if (n === 0) return part(head); await new Promise(() => {});");
    let source = open(4, None).await;
    source.size("f").await.unwrap();
    reset();
    let mut stream = source.stream("f", 0..u64::from(SIZE));
    let mut waiting = Box::pin(stream.next(1000));
    // polled once: the requests are made, and nothing has come
    std::future::poll_fn(|context| {
        assert!(waiting.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    sleep(100).await;
    let aborted = || {
        let code = "return self.signals.filter(signal => signal.aborted).length * 100 + self.signals.length;";
        Function::new_no_args(code).call0(&JsValue::UNDEFINED).unwrap().as_f64().unwrap()
    };
    assert_eq!(aborted(), 4.0);
    drop(waiting);
    drop(stream);
    assert_eq!(aborted(), 404.0);
}
