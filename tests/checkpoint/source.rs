//! Folders and memory as sources of bytes.

use super::memory;
use pollster::block_on;
use std::fs;
use std::path::PathBuf;
use webweft::error::SourceError;
use webweft::source::{Folder, Memory, Source, Stream};

/// A folder for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("webweft-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("is created");
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).expect("is written");
    }

    fn open(&self) -> Source {
        Source::Folder(Folder::open(&self.0).expect("opens"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind where that fails: a test must not panic while it unwinds.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn both_kinds_read_alike() {
    let scratch = Scratch::new("alike");
    scratch.write("f", b"0123456789");
    scratch.write("empty", b"");
    fs::create_dir_all(scratch.0.join("folder")).expect("is created");
    let in_memory = memory([("f", b"0123456789".to_vec()), ("empty", Vec::new())]);
    for source in [scratch.open(), in_memory] {
        block_on(async {
            assert_eq!(source.size("f").await.expect("ok"), Some(10));
            assert_eq!(source.size("empty").await.expect("ok"), Some(0));
            for absent in ["g", "folder", "f/g"] {
                assert_eq!(source.size(absent).await.expect("ok"), None, "{absent}");
                let error = source.read(absent, 0..0).await.expect_err("absent");
                assert!(matches!(error, SourceError::FileMissing { .. }) && error.to_string().contains(absent));
            }
            assert_eq!(*source.read("f", 2..5).await.expect("ok"), *b"234");
            assert_eq!(*source.read("f", 10..10).await.expect("ok"), *b"");
            assert_eq!(*source.read("empty", 0..0).await.expect("ok"), *b"");
            #[allow(clippy::reversed_empty_ranges, reason = "what is refused here")]
            for range in [0..11, 11..11, 5..4, 0..u64::MAX, u64::MAX..u64::MAX, u64::MAX..0] {
                let error = source.read("f", range.clone()).await.expect_err("outside");
                assert!(matches!(error, SourceError::OutOfRange { size: 10, .. }), "{range:?}: {error}");
            }
            assert_eq!(source.read_all("f", 10).await.expect("ok").as_deref(), Some(b"0123456789".as_slice()));
            assert_eq!(source.read_all("g", 10).await.expect("ok"), None);
            let error = source.read_all("f", 9).await.expect_err("too large");
            assert!(matches!(error, SourceError::TooLarge { size: 10, cap: 9, .. }), "{error}");
        });
    }
}

#[test]
fn streams_give_all_bytes_in_order() {
    let source = memory([("f", (0..=99).collect())]);
    for chunk in [0, 1, 7, 99, 100, usize::MAX] {
        for range in [0..100, 0..0, 13..57, 99..100] {
            let mut stream = source.stream("f", range.clone());
            let mut all = Vec::new();
            while let Some(piece) = block_on(stream.next(chunk)) {
                let piece = piece.expect("ok");
                assert!(!piece.is_empty() && piece.len() <= chunk.max(1));
                all.extend_from_slice(piece);
            }
            assert!(all.iter().copied().map(u64::from).eq(range));
        }
    }
    let mut stream = source.stream("f", 10..100);
    let next = |stream: &mut Stream<'_>, n| block_on(stream.next(n)).map(|piece| piece.expect("ok").to_vec());
    assert_eq!(next(&mut stream, 2), Some(vec![10, 11]));
    block_on(stream.skip(85)).expect("ok");
    assert_eq!(next(&mut stream, 9), Some(vec![97, 98, 99]));
    assert_eq!(next(&mut stream, 9), None);
    let mut stream = source.stream("f", 10..20);
    block_on(stream.skip(u64::MAX)).expect("ok");
    assert_eq!(next(&mut stream, 1), None);
}

#[test]
fn streams_end_after_an_error() {
    let source = memory([("f", vec![0; 10])]);
    let mut stream = source.stream("f", 5..15);
    assert!(block_on(stream.next(5)).is_some_and(|piece| piece.is_ok()));
    assert!(block_on(stream.next(5)).is_some_and(|piece| piece.is_err()));
    assert!(block_on(stream.next(5)).is_none());
    #[allow(clippy::reversed_empty_ranges, reason = "what is refused here")]
    let mut stream = source.stream("f", 5..2);
    assert!(block_on(stream.next(5)).is_some_and(|piece| piece.is_err()));
    assert!(block_on(stream.next(5)).is_none());
}

#[test]
fn names_do_not_leave_the_folder() {
    let scratch = Scratch::new("names");
    let long = "x".repeat(2000);
    for name in ["", ".", "..", "../f", "a/../../f", "/etc/passwd", "a//b", "a/", "C:\\f", "..\\f", "C:f", "a\0", &long]
    {
        for source in [scratch.open(), Source::Memory(Memory::new())] {
            let errors = [
                block_on(source.size(name)).expect_err("refused"),
                block_on(source.read(name, 0..0)).expect_err("refused"),
                block_on(source.read_all(name, 1)).expect_err("refused"),
            ];
            assert!(errors.iter().all(|error| matches!(error, SourceError::BadName { .. })), "{name:?}");
        }
        assert!(Memory::new().insert(name, []).is_err());
    }
    assert!(block_on(scratch.open().size("a/b.safetensors")).expect("is plain").is_none());
}

#[test]
fn folders_that_are_none() {
    let scratch = Scratch::new("none");
    scratch.write("config.json", b"{}");
    let error = Folder::open(scratch.0.join("absent")).expect_err("absent");
    assert!(matches!(error, SourceError::FolderMissing { .. }) && error.to_string().contains("absent"), "{error}");
    let error = Folder::open(scratch.0.join("config.json")).expect_err("a file");
    assert!(matches!(error, SourceError::NotAFolder { .. }) && error.to_string().contains("config.json"), "{error}");
    let error = Folder::open(scratch.0.join("config.json/x")).expect_err("below a file");
    assert!(matches!(error, SourceError::FolderMissing { .. }), "{error}");
}

/// The Hugging Face cache: `snapshots/<commit>/<name>` links to `../../blobs/<hash>`.
#[cfg(unix)]
#[test]
fn links_of_the_hub_cache_are_followed() {
    let scratch = Scratch::new("links");
    for folder in ["blobs", "snapshots/1"] {
        fs::create_dir_all(scratch.0.join(folder)).expect("is created");
    }
    scratch.write("blobs/hash", b"{}");
    std::os::unix::fs::symlink("../../blobs/hash", scratch.0.join("snapshots/1/config.json")).expect("is linked");
    let source = Source::Folder(Folder::open(scratch.0.join("snapshots/1")).expect("opens"));
    assert_eq!(*block_on(source.read("config.json", 0..2)).expect("is read"), *b"{}");
}

#[test]
fn folders_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let scratch = Scratch::new("threads");
    for name in 0..16_u8 {
        scratch.write(&name.to_string(), &[name; 100]);
    }
    let source = scratch.open();
    shared(&source);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for name in (0..16_u8).chain(0..16) {
                    let bytes = block_on(source.read(&name.to_string(), 0..100)).expect("is read");
                    assert!(bytes.iter().all(|byte| *byte == name));
                }
            });
        }
    });
}
