//! A small HTTP server on loopback that answers as it is told, wrongly too.
#![allow(dead_code, clippy::unwrap_used)] // included by several tests, none of which uses all of it; a test may panic

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `bytes=a-b`, as `a..b + 1`.
    pub fn range(&self) -> Option<std::ops::Range<usize>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().ok()?..last.parse::<usize>().map_or(usize::MAX, |last| last.saturating_add(1)))
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// Bytes at a time, and the wait between.
    pub slow: Option<(usize, Duration)>,
    /// Without a length, in chunks.
    pub chunked: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A file, in part where that is asked for.
    pub fn file(request: &Request, bytes: &[u8], etag: &str) -> Self {
        let size = bytes.len();
        let reply = match request.range() {
            None => Self::status(200).body(bytes),
            Some(range) if range.start >= size => {
                return Self::status(416).with("Content-Range", format!("bytes */{size}"));
            }
            Some(range) => {
                let end = range.end.min(size);
                let content = format!("bytes {}-{}/{size}", range.start, end - 1);
                Self::status(206).with("Content-Range", content).body(&bytes[range.start..end])
            }
        };
        reply.with("ETag", etag)
    }
}

/// A server with a log. It ends with its value.
pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let answer = Arc::new(answer);
        let (log_, stop_) = (log.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop_.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), answer, log) = (stream, answer.clone(), log_.clone()) else { continue };
                thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { url: format!("http://{address}"), log, stop }
    }

    /// What was asked so far.
    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.log.lock().unwrap().clear();
    }

    /// Requests of a method whose path ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        self.log().iter().filter(|request| request.method == method && request.path.ends_with(end)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // wakes the listener, which then closes
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

/// An address where nobody listens, and where no test's server ever will.
pub fn nowhere() -> String {
    "http://127.0.0.1:1".to_owned()
}

/// The requests of one connection. Whoever asks may go away at any time.
fn serve(stream: TcpStream, answer: &(impl Fn(&Request) -> Reply + ?Sized), log: &Mutex<Vec<Request>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        log.lock().unwrap().push(request.clone());
        let reply = answer(&request);
        if write_reply(&mut writer, &request, &reply).is_none() {
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers })
}

/// `None` where the connection is to end.
fn write_reply(writer: &mut TcpStream, request: &Request, reply: &Reply) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} Reason\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.chunked {
        head += "Transfer-Encoding: chunked\r\n";
    } else if !reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    writer.write_all((head + "\r\n").as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    let body = &reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())];
    let (step, wait) = reply.slow.unwrap_or((1 << 20, Duration::ZERO));
    for piece in body.chunks(step) {
        if reply.chunked {
            writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).ok()?;
        }
        writer.write_all(piece).ok()?;
        if reply.chunked {
            writer.write_all(b"\r\n").ok()?;
        }
        thread::sleep(wait);
    }
    if reply.chunked && reply.cut.is_none() {
        writer.write_all(b"0\r\n\r\n").ok()?;
    }
    reply.cut.is_none().then_some(())
}
