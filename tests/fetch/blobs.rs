//! Files of a page.

use super::{data, stream};
use js_sys::{Array, Function, Reflect, Uint8Array};
use std::collections::BTreeMap;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::SourceError;
use webweft::session::{LoadOptions, Session};
use webweft::source::browser::{Options, Spec, open};
use webweft::source::{Origin, Source};

use crate::common::{device, read_shared, skipped};

fn blob(bytes: &[u8]) -> web_sys::Blob {
    web_sys::Blob::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(bytes))).unwrap()
}

async fn files<'a>(files: impl IntoIterator<Item = (&'a str, web_sys::Blob)>) -> Result<Source, SourceError> {
    let files = files.into_iter().map(|(name, blob)| (name.to_owned(), blob)).collect::<BTreeMap<_, _>>();
    open(Spec::Files { files }, &Options::default(), |notice| panic!("{notice:?}")).await
}

#[wasm_bindgen_test]
async fn blobs_are_read_as_a_folder() {
    let data: Vec<u8> = data().repeat(3);
    let end = data.len() as u64;
    let source = files([("f", blob(&data)), ("empty", blob(&[]))]).await.unwrap();
    assert_eq!(source.size("f").await.unwrap(), Some(end));
    assert_eq!(source.size("empty").await.unwrap(), Some(0));
    assert_eq!(source.size("g").await.unwrap(), None);
    assert_eq!(source.origin("f"), Origin::Local);
    assert_eq!(*source.read("empty", 0..0).await.unwrap(), *b"");
    assert!(*source.read_all("f", end).await.unwrap().unwrap() == *data);
    assert_eq!(*source.read("f", end - 3..end).await.unwrap(), data[data.len() - 3..]);
    #[allow(clippy::reversed_empty_ranges, reason = "what is refused here")]
    for range in [0..end + 1, end + 1..end + 1, 1..0, u64::MAX..0] {
        assert!(matches!(source.read("f", range).await, Err(SourceError::OutOfRange { .. })));
    }
    assert!(matches!(source.read("g", 0..0).await, Err(SourceError::FileMissing { .. })));
    assert!(matches!(source.read("../f", 0..0).await, Err(SourceError::BadName { .. })));
    assert!(matches!(files([("/f", blob(&[]))]).await, Err(SourceError::BadName { .. })));
    for chunk in [7_919, 1 << 20, 100 << 20] {
        assert!(stream(&source, "f", chunk).await.unwrap() == data);
    }
}

/// Within a piece, to its end, over several of them.
#[wasm_bindgen_test]
async fn streams_of_blobs_leave_out() {
    let data: Vec<u8> = data().repeat(5);
    let source = files([("f", blob(&data))]).await.unwrap();
    let mut stream = source.stream("f", 10..data.len() as u64 + 1);
    let mut at = 10;
    for skip in [0, 5, (2 << 20) - 115, 1, 2 << 20, (4 << 20) + 3, 100] {
        stream.skip(skip as u64).await.unwrap();
        at += skip;
        assert!(stream.next(100).await.unwrap().unwrap() == &data[at..at + 100], "{at}");
        at += 100;
    }
    stream.skip((data.len() - at - 1) as u64).await.unwrap();
    assert_eq!(stream.next(1).await.unwrap().unwrap(), &data[data.len() - 1..]);
    assert!(matches!(stream.next(1).await, Some(Err(SourceError::OutOfRange { .. }))));
    assert!(stream.next(1).await.is_none());
}

/// A browser gives no other bytes than those that a file had when the page was given it; how it says so is taken from the
/// specification, since a page cannot change a user's file.
#[wasm_bindgen_test]
async fn files_that_changed_are_errors() {
    let breaking = |code: &str| {
        let blob = blob(&data());
        Function::new_with_args("blob", code).call1(&JsValue::UNDEFINED, &blob).unwrap();
        blob
    };
    let refusing = |name: &str| {
        format!(
            "blob.slice = () => ({{ arrayBuffer: async () => {{ throw new DOMException('it was edited', '{name}'); }} }});"
        )
    };
    for (code, words) in [
        (refusing("NotReadableError"), "it was edited"),
        (refusing("NotFoundError"), "it is gone"),
        ("blob.slice = () => new Blob([new Uint8Array(7)]);".to_owned(), "shorter"),
    ] {
        let source = files([("f", breaking(&code))]).await.unwrap();
        for error in [source.read("f", 0..10).await.unwrap_err(), stream(&source, "f", 100).await.unwrap_err()] {
            assert!(matches!(&error, SourceError::Changed { .. }) && error.to_string().contains(words), "{error}");
        }
    }
}

#[wasm_bindgen_test]
async fn a_session_opens_from_files() {
    let names = ["config.json", "model.safetensors"];
    let mut read = Vec::new();
    for name in names {
        let Some(bytes) = read_shared(&format!("{}/{name}", super::MODEL)).await else {
            return skipped("no fixtures");
        };
        // a `File`, as a page is given by its user
        let file = Function::new_with_args("bytes, name", "return new File([bytes], name);");
        let file = file.call2(&JsValue::UNDEFINED, &Uint8Array::from(&*bytes), &name.into()).unwrap();
        assert!(Reflect::has(&file, &"lastModified".into()).unwrap());
        read.push((name, file.unchecked_into::<web_sys::Blob>()));
    }
    let device = device().await;
    let memory = crate::models::shared_source(super::MODEL).await.unwrap();
    let mut logits = Vec::new();
    for source in [memory, files(read).await.unwrap()] {
        let mut session = Session::open(&device, &source, &LoadOptions::default(), |_| ()).await.unwrap();
        logits.push(session.forward(&[1, 5, 9, 20]).await.unwrap().logits);
    }
    assert!(!logits[0].is_empty() && logits[0] == logits[1]);
}
