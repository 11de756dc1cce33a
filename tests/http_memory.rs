//! A stream over HTTP takes a bounded amount of host memory. A process of its own: it reads its own RSS.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use webweft::source::{Http, HttpOptions, Source};

const SIZE: u64 = 1 << 30;
const CHUNK: usize = 4 << 20;

/// Anonymous resident memory of this process, in bytes.
fn rss_anon() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 1024
}

/// Serves a file of 1 GiB that is nowhere, as fast as it is taken.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/m", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let block = vec![7; 1 << 20];
        for stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let range =
                request.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            let (first, last) = range.as_ref().and_then(|range| range.split_once('-')).unwrap();
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            let (mut rest, mut stream) = (last - first + 1, stream);
            let head = format!(
                "HTTP/1.1 206 Part\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\nContent-Length: {rest}\r\n\
                 Connection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
            while rest > 0 {
                let now = rest.min(block.len() as u64);
                if stream.write_all(&block[..now as usize]).is_err() {
                    break;
                }
                rest -= now;
            }
        }
    });
    url
}

#[pollster::test]
async fn memory_is_bounded_by_the_chunk() {
    let source = Source::Http(Http::open(&serve(), HttpOptions::default()).unwrap());
    assert_eq!(source.size("f").await.unwrap(), Some(SIZE));
    let before = rss_anon();
    let (mut most, mut sum) = (0, 0);
    let mut stream = source.stream("f", 0..SIZE);
    while let Some(piece) = stream.next(CHUNK).await {
        let piece = piece.unwrap();
        assert!(piece.iter().all(|byte| *byte == 7));
        sum += piece.len() as u64;
        most = most.max(rss_anon() - before);
    }
    assert_eq!(sum, SIZE);
    println!("1 GiB in pieces of 4 MiB: {} KiB of memory at most", most / 1024);
    // a piece, what was read ahead of it (4 MiB), and what passes between
    assert!(most < 3 * CHUNK as i64, "{most}");
}
