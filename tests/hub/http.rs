//! A folder below an address.

use crate::server::{Reply, Request, Server, nowhere};
use pollster::block_on;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use webweft::error::SourceError;
use webweft::source::{Http, HttpOptions, RetryPolicy, Source, Token};

/// No two pieces alike.
pub fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn open_with(url: &str, token: Option<&str>) -> Source {
    let mut options = HttpOptions::default();
    options.retry = RetryPolicy { retries: 3, backoff: Duration::from_millis(1) };
    options.token = token.and_then(Token::new);
    Source::Http(Http::open(url, options).unwrap())
}

fn open(server: &Server) -> Source {
    open_with(&server.url, None)
}

fn read(source: &Source, range: std::ops::Range<u64>) -> Result<Vec<u8>, SourceError> {
    block_on(source.read("f", range)).map(|bytes| bytes.into_owned())
}

/// The whole file by a stream.
fn stream(source: &Source, chunk: usize) -> Result<Vec<u8>, SourceError> {
    block_on(async {
        let size = source.size("f").await?.unwrap();
        let mut stream = source.stream("f", 0..size);
        let mut all = Vec::new();
        while let Some(piece) = stream.next(chunk).await {
            let piece = piece?;
            assert!(!piece.is_empty() && piece.len() <= chunk);
            all.extend_from_slice(piece);
        }
        Ok(all)
    })
}

/// Serves `f` as it should be.
fn plain(data: Vec<u8>) -> Server {
    Server::start(move |request| match request.path.as_str() {
        "/f" => Reply::file(request, &data, "\"1\""),
        "/empty" => Reply::file(request, b"", "\"2\""),
        _ => Reply::status(404),
    })
}

/// What is answered to the first requests; after that the file.
fn first(replies: impl IntoIterator<Item = Reply>, data: Vec<u8>) -> Server {
    let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
    Server::start(move |request| {
        let reply = replies.lock().unwrap().pop_front();
        reply.unwrap_or_else(|| Reply::file(request, &data, "\"1\""))
    })
}

#[test]
fn files_are_read_as_from_a_folder() {
    for size in [1, 10, 65_535, 65_536, 65_537, 300_000, 2_000_000] {
        let data = bytes(size);
        let (ranged, copy) = (plain(data.clone()), data.clone());
        let whole = Server::start(move |request| match request.path.as_str() {
            "/f" => Reply::status(200).body(copy.as_slice()),
            "/empty" => Reply::status(200),
            _ => Reply::status(404),
        });
        let copy = data.clone();
        let unsized_ = Server::start(move |request| match request.path.as_str() {
            "/f" => Reply { chunked: true, ..Reply::status(200).body(copy.as_slice()) },
            "/empty" => Reply { chunked: true, ..Reply::status(200) },
            _ => Reply::status(404),
        });
        for server in [ranged, whole, unsized_] {
            let source = open(&server);
            let end = size as u64;
            assert_eq!(block_on(source.size("f")).unwrap(), Some(end));
            assert_eq!(block_on(source.size("g")).unwrap(), None);
            assert_eq!(block_on(source.size("empty")).unwrap(), Some(0));
            assert_eq!(*block_on(source.read("empty", 0..0)).unwrap(), *b"");
            assert!(matches!(block_on(source.read("g", 0..0)), Err(SourceError::FileMissing { .. })));
            for range in [0..end, 0..1, end - 1..end, end / 2..end, end..end] {
                assert_eq!(read(&source, range.clone()).unwrap(), data[range.start as usize..range.end as usize]);
            }
            #[allow(clippy::reversed_empty_ranges, reason = "what is refused here")]
            for range in [0..end + 1, end + 1..end + 1, 1..0, u64::MAX..0] {
                assert!(matches!(read(&source, range), Err(SourceError::OutOfRange { .. })));
            }
            assert!(matches!(block_on(source.read_all("f", end - 1)), Err(SourceError::TooLarge { .. })));
            assert_eq!(block_on(source.read_all("f", end)).unwrap().unwrap(), data);
            for chunk in [7_919, 4 << 20] {
                assert!(stream(&source, chunk).unwrap() == data);
            }
        }
    }
}

#[test]
fn a_stream_is_one_long_answer() {
    let data = bytes(20 << 20);
    let server = plain(data.clone());
    let source = open(&server);
    block_on(source.size("f")).unwrap();
    server.forget();
    assert!(stream(&source, 1 << 20).unwrap() == data);
    assert_eq!(server.log().len(), 1);
    assert_eq!(server.log()[0].header("range"), Some(format!("bytes=0-{}", data.len() - 1).as_str()));
    server.forget();
    block_on(async {
        let mut stream = source.stream("f", 100..20 << 20);
        assert_eq!(stream.next(50).await.unwrap().unwrap(), &data[100..150]);
        // a gap that is smaller than a request is read away
        stream.skip(1000).await.unwrap();
        assert_eq!(stream.next(50).await.unwrap().unwrap(), &data[1150..1200]);
        assert_eq!(server.log().len(), 1);
        stream.skip(10 << 20).await.unwrap();
        let at = 1200 + (10 << 20);
        assert_eq!(stream.next(50).await.unwrap().unwrap(), &data[at..at + 50]);
        assert_eq!(server.log().len(), 2);
        let mut stream = source.stream("f", (20 << 20) - 10..(20 << 20) + 10);
        assert!(stream.next(10).await.unwrap().is_ok());
        assert!(matches!(stream.next(10).await, Some(Err(SourceError::OutOfRange { .. }))));
        assert!(stream.next(10).await.is_none());
    });
}

#[test]
fn a_broken_answer_is_taken_up_where_it_broke() {
    let data = bytes(5 << 20);
    let (copy, served) = (data.clone(), Mutex::new(0));
    let server = Server::start(move |request| {
        let mut served = served.lock().unwrap();
        *served += 1;
        // the first one tells the size; each later one breaks a little later
        let cut = match *served {
            1 => None,
            2 => Some(0),
            3 => Some(1),
            4 => Some(1_500_000),
            5 => Some(4_000_000),
            _ => None,
        };
        Reply { cut, ..Reply::file(request, &copy, "\"1\"") }
    });
    let source = open(&server);
    assert!(stream(&source, 100_000).unwrap() == data);
    let starts: Vec<_> = server.log().iter().map(|request| request.range().unwrap().start).collect();
    assert_eq!(starts[..3], [0, 0, 0]);
    // what came with the end of a connection may be lost with it
    assert!(starts[3] <= 1 && (1_300_000..=1_500_001).contains(&starts[4]), "{starts:?}");
}

#[test]
fn whole_files_are_begun_again() {
    let data = bytes(3 << 20);
    let (copy, served) = (data.clone(), Mutex::new(0));
    let server = Server::start(move |_| {
        *served.lock().unwrap() += 1;
        let cut = (*served.lock().unwrap() == 2).then_some(2_000_000);
        Reply { cut, ..Reply::status(200).body(copy.as_slice()) }
    });
    assert!(stream(&open(&server), 1 << 20).unwrap() == data);
    assert_eq!(server.log().len(), 3);
}

#[test]
fn tries_end() {
    let server = Server::start(|request| Reply { cut: Some(10), ..Reply::file(request, &bytes(1000), "\"1\"") });
    let error = read(&open(&server), 0..1000).unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { .. }), "{error}");
    assert_eq!(server.log().len(), 4);
    let server = Server::start(|_| Reply::status(500));
    assert!(matches!(read(&open(&server), 0..1), Err(SourceError::Status { status: 500, .. })));
    assert_eq!(server.log().len(), 4);
    let error = read(&open_with(&format!("{}/?token=hidden", nowhere()), None), 0..1).unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { .. }) && !error.to_string().contains("hidden"), "{error}");
    // what is no HTTP at all
    let garbage = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", garbage.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in garbage.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut { stream }, b"SSH-2.0-x\r\n\r\n");
        }
    });
    assert!(matches!(read(&open_with(&url, None), 0..1), Err(SourceError::Unreachable { .. })));
}

#[test]
fn refusals_have_their_own_errors() {
    for status in [401, 403] {
        let server = Server::start(move |_| Reply::status(status));
        let error = read(&open_with(&format!("{}/m?token=hidden", server.url), None), 0..1).unwrap_err();
        assert!(matches!(&error, SourceError::Refused { status: got, .. } if *got == status), "{error}");
        assert!(error.to_string().contains("/m/f`") && !error.to_string().contains("hidden"), "{error}");
        assert_eq!(server.log().len(), 1);
    }
    let server = Server::start(|_| Reply::status(404));
    assert!(matches!(read(&open(&server), 0..1), Err(SourceError::FileMissing { .. })));
    let server = Server::start(|_| Reply::status(418));
    assert!(matches!(read(&open(&server), 0..1), Err(SourceError::Status { status: 418, .. })));
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for() {
    for status in [429, 503] {
        let server = first([Reply::status(status).with("Retry-After", "1")], bytes(10));
        let began = Instant::now();
        assert_eq!(read(&open(&server), 0..10).unwrap(), bytes(10));
        assert!(began.elapsed() >= Duration::from_secs(1));
        let server = first([Reply::status(status).with("Retry-After", "86400")], bytes(10));
        let error = read(&open(&server), 0..10).unwrap_err();
        assert!(matches!(error, SourceError::RateLimited { after: Some(86400), .. }), "{error}");
        assert!(error.to_string().contains("86400 s"), "{error}");
    }
    let server = first([Reply::status(429), Reply::status(500), Reply::status(502)], bytes(10));
    assert_eq!(read(&open(&server), 0..10).unwrap(), bytes(10));
    let server = Server::start(|_| Reply::status(429));
    assert!(matches!(read(&open(&server), 0..1), Err(SourceError::RateLimited { status: 429, after: None, .. })));
}

#[test]
fn other_bytes_than_asked_for_are_an_error() {
    let wrong = |content_range: &'static str| {
        let server = Server::start(move |request| {
            let reply = Reply::file(request, &bytes(200_000), "\"1\"");
            if request.range().unwrap().start == 0 {
                return reply;
            }
            Reply { headers: vec![("Content-Range".into(), content_range.into())], ..reply }
        });
        read(&open(&server), 100_000..200_000).unwrap_err()
    };
    for range in ["bytes 0-99999/200000", "bytes 100001-199999/200000", "bytes 100000-200000/200001", "nonsense", ""] {
        let error = wrong(range);
        assert!(matches!(error, SourceError::WrongRange { .. }), "{range}: {error}");
        assert!(error.to_string().contains("bytes 100000-199999"), "{error}");
    }
    let error = wrong("bytes 100000-199999/300000");
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
    // a part of what was asked for is fine: the rest is asked for, too
    let server = Server::start(|request: &Request| {
        let data = bytes(200_000);
        let range = request.range().unwrap();
        let (start, end) = (range.start, (range.start + 30_000).min(range.end).min(data.len()));
        Reply::status(206).with("Content-Range", format!("bytes {start}-{}/200000", end - 1)).body(&data[start..end])
    });
    assert!(read(&open(&server), 1..200_000).unwrap() == bytes(200_000)[1..]);
    let server = first([Reply::status(200).with("Content-Encoding", "gzip").body(*b"xyz")], bytes(10));
    assert!(matches!(read(&open(&server), 0..1), Err(SourceError::Unreachable { .. })));
}

#[test]
fn a_file_that_changes_is_an_error() {
    let change = |name: &'static str, before: &'static str, after: &'static str, size: usize| {
        let served = Mutex::new(0);
        let server = Server::start(move |request| {
            let mut served = served.lock().unwrap();
            *served += 1;
            let (value, size) = if *served > 2 { (after, size) } else { (before, 3 << 20) };
            let mut reply = Reply::file(request, &bytes(size), "");
            reply.headers.retain(|(name, _)| name != "ETag");
            // the second one breaks off, and meanwhile the file is replaced
            reply.cut = (*served == 2).then_some(1_000_000);
            reply.with(name, value)
        });
        let result = stream(&open(&server), 1 << 20);
        matches!(result, Err(SourceError::Changed { .. }))
    };
    assert!(change("ETag", "\"1\"", "\"2\"", 3 << 20));
    assert!(change("ETag", "W/\"1\"", "W/\"2\"", 3 << 20));
    assert!(change("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT", 3 << 20));
    assert!(change("X-Nothing", "", "", (3 << 20) + 1));
    // now shorter than where it broke off
    assert!(change("X-Nothing", "", "", 1000));
    assert!(!change("ETag", "\"1\"", "\"1\"", 3 << 20));
}

#[test]
fn redirects_are_followed_without_the_token() {
    let cdn = Server::start(|request| match request.path.as_str() {
        "/blob" if request.query == "signed=1" => Reply::file(request, &bytes(100_000), "\"1\""),
        _ => Reply::status(404),
    });
    let to = format!("{}/blob?signed=1", cdn.url);
    let server = Server::start(move |request| match (request.path.as_str(), request.query.as_str()) {
        ("/m/f", "key=1") => Reply::status(302).with("Location", "/moved/f?key=2"),
        ("/moved/f", "key=2") => Reply::status(307).with("Location", to.clone()),
        _ => Reply::status(404),
    });
    let source = open_with(&format!("{}/m/?key=1#part", server.url), Some("secret"));
    assert!(read(&source, 0..100_000).unwrap() == bytes(100_000));
    assert!(server.log().iter().all(|request| request.header("authorization") == Some("Bearer secret")));
    assert!(!cdn.log().is_empty() && cdn.log().iter().all(|request| request.header("authorization").is_none()));
    assert!(!format!("{source:?}").contains("secret"));

    let server = Server::start(|request| Reply::status(302).with("Location", request.path.clone()));
    let error = read(&open(&server), 0..1).unwrap_err();
    assert!(error.to_string().contains("redirects too often"), "{error}");
    for location in ["file:///etc/passwd", "gopher://h/", "http://"] {
        let server = Server::start(move |_| Reply::status(302).with("Location", location));
        assert!(matches!(read(&open(&server), 0..1), Err(SourceError::Unreachable { .. })), "{location}");
    }
}

#[test]
fn slow_bodies_arrive() {
    let server = Server::start(|request| {
        let slow = Some((20_000, Duration::from_millis(5)));
        Reply { slow, ..Reply::file(request, &bytes(300_000), "\"1\"") }
    });
    assert!(stream(&open(&server), 50_000).unwrap() == bytes(300_000));
}

/// While the taker is busy, the network is not idle: what the taker waits for was read meanwhile.
#[test]
fn reading_goes_on_while_the_taker_is_busy() {
    let data = bytes(4 << 20);
    let server = Server::start(move |request| {
        let slow = Some((256 << 10, Duration::from_millis(20)));
        Reply { slow, ..Reply::file(request, &data, "\"1\"") }
    });
    let source = open(&server);
    let rest_at_once = || {
        block_on(async {
            let size = source.size("f").await.unwrap().unwrap();
            let mut stream = source.stream("f", 0..size);
            stream.next(256 << 10).await.unwrap().unwrap();
            // 16 pieces of 20 ms
            std::thread::sleep(Duration::from_millis(1500));
            let began = Instant::now();
            while let Some(piece) = stream.next(256 << 10).await {
                piece.unwrap();
            }
            began.elapsed() < Duration::from_millis(200)
        })
    };
    // a machine that does other things may be late now and then
    assert!((0..5).any(|_| rest_at_once()), "the rest came piece by piece");
}

#[test]
fn any_size_may_be_claimed() {
    for size in [u64::MAX, u64::MAX / 2, 1 << 62] {
        let server = Server::start(move |request| {
            let range = request.range().unwrap();
            let content = format!("bytes {}-{}/{size}", range.start, range.end.wrapping_sub(1));
            Reply::status(206).with("Content-Range", content).body(vec![0; (range.end - range.start).min(100_000)])
        });
        let source = open(&server);
        assert_eq!(block_on(source.size("f")).unwrap(), Some(size));
        assert!(matches!(block_on(source.read_all("f", 1 << 30)), Err(SourceError::TooLarge { .. })));
        assert!(matches!(read(&source, 0..size), Err(SourceError::Io { .. })));
        assert_eq!(read(&source, size - 10..size).unwrap(), [0; 10]);
    }
}

/// Whatever is answered, reading ends, with bytes or with an error.
#[test]
fn no_answer_makes_it_panic_or_wait() {
    fn pick<'a>(state: &mut u64, of: &[&'a str]) -> &'a str {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        of[(*state >> 33) as usize % of.len()]
    }
    let state = Mutex::new(1);
    let server = Server::start(move |request| {
        let state = &mut *state.lock().unwrap();
        let status = pick(state, &["200", "206", "206", "206", "404", "416", "500", "301", "204", "304", "412", "999"]);
        let mut reply = Reply::file(request, &bytes(100_000), "\"1\"");
        reply.status = status.parse().unwrap();
        if pick(state, &["good", "bad"]) == "bad" {
            reply.headers.clear();
            let ranges = [
                "bytes 0-65535/100000",
                "bytes 0-0/1",
                "bytes */0",
                "bytes */x",
                "bytes 5-4/9",
                "bytes 0-9/3",
                "",
                "x",
            ];
            reply = reply.with("Content-Range", pick(state, &ranges));
            reply = reply.with("Content-Length", pick(state, &["0", "1", "99999999999", "-1", "18446744073709551615"]));
            reply = reply.with("ETag", pick(state, &["\"1\"", "", "W/\"2\""]));
            reply = reply.with("Location", pick(state, &["", "/f", "//", "http://", "f?x", "\u{fffd}"]));
            reply = reply.with("Retry-After", pick(state, &["0", "-5", "99999999999999999999", "soon"]));
            reply = reply.with("Content-Encoding", pick(state, &["identity", "identity", "gzip"]));
        }
        reply.cut = Some(pick(state, &["0", "1", "1000", "65536", "100000"]).parse().unwrap());
        reply
    });
    let mut read_well = 0;
    for _ in 0..300 {
        let mut options = HttpOptions::default();
        options.retry = RetryPolicy { retries: 1, backoff: Duration::ZERO };
        let source = Source::Http(Http::open(&server.url, options).unwrap());
        read_well += usize::from(read(&source, 10..100).is_ok());
        if let Ok(Some(_)) = block_on(source.size("f")) {
            let _ = stream(&source, 30_000);
        }
    }
    assert!(read_well > 10, "{read_well}");
}

fn open_checked(server: &Server, digest: &str) -> Result<Source, SourceError> {
    let mut options = HttpOptions::default();
    options.retry = RetryPolicy { retries: 3, backoff: Duration::from_millis(1) };
    options.digests.insert("f".to_owned(), digest.to_owned());
    Http::open(&server.url, options).map(Source::Http)
}

fn sha256(bytes: &[u8]) -> String {
    crate::fake_hub::etag(bytes, true)
}

/// All of a file is hashed, whatever is wanted of it.
#[test]
fn a_digest_is_of_the_whole_file() {
    let data = bytes(5 << 20);
    let size = data.len() as u64;
    let server = plain(data.clone());
    for (start, skip, take, end) in [
        (0, 0, size, size),
        (100, 0, size - 100, size),
        (10, 3 << 20, 1000, size),
        (3 << 20, 100, 10, (3 << 20) + 200),
        (0, 0, 0, size),
        (size, 0, 0, size),
    ] {
        let source = open_checked(&server, &sha256(&data).to_uppercase()).unwrap();
        block_on(async {
            source.read("f", 0..8).await.unwrap();
            source.read("f", 8..100_000).await.unwrap();
            server.forget();
            let mut stream = source.stream("f", start..end);
            stream.skip(skip).await.unwrap();
            if take > 0 {
                let at = (start + skip) as usize;
                assert!(stream.next(take as usize).await.unwrap().unwrap() == &data[at..at + take as usize]);
            }
            stream.finish().await.unwrap();
            assert_eq!((source.verified(), server.log().len()), (size, 1));
        });
    }
    assert_eq!(open(&server).verified(), 0);
    for digest in ["", "sha256", &sha256(&data)[1..]] {
        assert!(matches!(open_checked(&server, digest), Err(SourceError::BadDigest { .. })));
    }
}

#[test]
fn an_altered_file_is_refused() {
    let data = bytes(3 << 20);
    let corrupt = |error: SourceError, word: &str| {
        assert!(matches!(&error, SourceError::Corrupt { file, .. } if file == "f"), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    // in the header, in what is wanted, between, behind
    for at in [3, 1 << 20, 2 << 20, (3 << 20) - 1] {
        let mut altered = data.clone();
        altered[at] ^= 1;
        let (server, digest) = (plain(altered), sha256(&data));
        let source = open_checked(&server, &digest).unwrap();
        corrupt(block_on(source.read_all("f", 3 << 20)).unwrap_err(), &digest);
        block_on(async {
            let mut stream = source.stream("f", 1_000_000..2_000_000);
            stream.next(500_000).await.unwrap().unwrap();
            corrupt(stream.finish().await.unwrap_err(), &digest);
        });
        assert_eq!(source.verified(), 0);
    }
    // right in the long answer, and not where the header was read
    let (altered, served) = ([&[0; 100], &data[100..]].concat(), Mutex::new(0));
    let (digest, good) = (sha256(&data), data.clone());
    let server = Server::start(move |request| {
        *served.lock().unwrap() += 1;
        Reply::file(request, if *served.lock().unwrap() == 1 { &altered } else { &good }, "\"1\"")
    });
    let source = open_checked(&server, &digest).unwrap();
    block_on(async {
        assert_eq!(*source.read("f", 0..50).await.unwrap(), [0; 50]);
        corrupt(source.stream("f", 200..300).finish().await.unwrap_err(), "were others before");
    });
}

/// What was not read to its end has no verdict.
#[test]
fn a_stream_that_failed_is_not_finished() {
    let data = bytes(3 << 20);
    let copy = data.clone();
    let server = Server::start(move |request| {
        let cut = (request.range().unwrap().start > 0).then_some(0);
        Reply { cut: cut.or(Some(1 << 20)), ..Reply::file(request, &copy, "\"1\"") }
    });
    let source = open_checked(&server, &sha256(&data)).unwrap();
    block_on(async {
        let mut stream = source.stream("f", 0..3 << 20);
        assert!(matches!(stream.next(3 << 20).await, Some(Err(SourceError::Unreachable { .. }))));
        assert!(matches!(stream.finish().await, Err(SourceError::Unreachable { .. })));
    });
}

#[test]
fn names_and_addresses_are_checked() {
    let server = plain(bytes(1));
    for name in ["../f", "/f", "a\\b", "", "http://h/f"] {
        assert!(matches!(block_on(open(&server).size(name)), Err(SourceError::BadName { .. })), "{name}");
    }
    assert!(server.log().is_empty());
    for url in ["h/x", "ftp://h/x", "http://", "https://h/model.safetensors", "https://h/config.json?x"] {
        assert!(matches!(Http::open(url, HttpOptions::default()), Err(SourceError::BadUrl { .. })), "{url}");
    }
}
