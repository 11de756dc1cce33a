//! Requests through `ureq`, which blocks: natively that is what awaiting a source means.

use super::answer::{Head, Version};
use super::{Failure, Follow, Request};
use crate::error::SourceError;
use crate::source::url::Url;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// A connection that stays silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 10;
/// Read at once, ...
const PIECE: usize = 256 << 10;
/// ... and so many pieces ahead of whoever takes them: 4 MiB arrive while the GPU is busy with the chunk before.
const AHEAD: usize = 16;

/// Connections, kept for the next request.
#[derive(Clone, Debug)]
pub(in crate::source) struct Client {
    agent: ureq::Agent,
}

impl Client {
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            // Redirects are followed here, so that what goes along to another host is decided in one place.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("webweft/", env!("CARGO_PKG_VERSION")))
            // A range of a compressed file would be a range of other bytes.
            .accept_encoding("identity")
            .tls_config(tls())
            .build();
        Self { agent: config.into() }
    }

    /// Sends a request, and follows where it is told to.
    #[allow(clippy::unused_async, reason = "browsers wait here")]
    pub async fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(request, &url)?;
            let location =
                response.header("location").filter(|_| matches!(response.status, 301 | 302 | 303 | 307 | 308));
            let Some(location) = location else { return Ok(response) };
            let next = url.resolve(&location).map_err(|_| Failure::fatal("it redirects to what is no address"))?;
            if matches!(request.follow, Follow::SameOrigin) && !next.same_origin(&url) {
                return Ok(response);
            }
            if url.is_secure() && !next.is_secure() {
                return Err(Failure::fatal("it redirects from https to http"));
            }
            tracing::debug!(from = url.shown(), to = next.shown(), "redirected");
            url = next;
        }
        Err(Failure::fatal("it redirects too often"))
    }

    fn send_once(&self, request: &Request<'_>, url: &Url) -> Result<Response, Failure> {
        let text = url.text();
        let mut builder = if request.head { self.agent.head(&text) } else { self.agent.get(&text) };
        if let Some(range) = &request.range {
            builder = builder.header("Range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if let Some(token) = request.token
            && url.same_origin(request.url)
        {
            builder = builder.header("Authorization", token.bearer());
        }
        let response = builder.call().map_err(|error| failure(&error))?;
        tracing::debug!(url = url.shown(), range = ?request.range, status = response.status().as_u16(), "answered");
        let (parts, body) = response.into_parts();
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: Reading::Direct(Box::new(body.into_reader())),
        })
    }
}

/// The system's TLS, and the certificates that it trusts.
#[cfg(any(windows, target_vendor = "apple"))]
fn tls() -> ureq::tls::TlsConfig {
    use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
    TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build()
}

/// rustls, and the certificates that Mozilla trusts, or those in the file that `SSL_CERT_FILE` names: networks that look into
/// TLS set it for all programs.
#[cfg(not(any(windows, target_vendor = "apple")))]
fn tls() -> ureq::tls::TlsConfig {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
    let file = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let read = |path| std::fs::read(path).inspect_err(|error| tracing::warn!(%error, "SSL_CERT_FILE cannot be read"));
    let pem = file.and_then(|path| read(path).ok()).unwrap_or_default();
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return TlsConfig::default();
    }
    TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build()
}

/// What `ureq` says, without the address: that may hold a signature.
fn failure(error: &ureq::Error) -> Failure {
    use ureq::Error;
    match error {
        Error::HostNotFound => Failure::connect("the host is not found"),
        Error::ConnectionFailed => Failure::connect("no connection"),
        Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => Failure::connect("no connection in time"),
        Error::Timeout(_) => Failure::again("no answer in time"),
        Error::Io(error) => match error.kind() {
            // what rustls does not like
            io::ErrorKind::InvalidData => Failure::fatal(&format!("TLS: {error}")),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::TimedOut
            | io::ErrorKind::WouldBlock => Failure::again(&error.to_string()),
            // refused, no route, no such name
            _ => Failure::connect(&error.to_string()),
        },
        Error::Protocol(error) => Failure::again(&error.to_string()),
        Error::BadUri(_) | Error::Http(_) => Failure::fatal("the address cannot be asked"),
        Error::InvalidProxyUrl => Failure::fatal("the address of the proxy is none"),
        other => Failure::fatal(&other.to_string()),
    }
}

/// An answer: its head, and its body as it comes.
pub(in crate::source) struct Response {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Reading,
}

enum Reading {
    Direct(Box<ureq::BodyReader<'static>>),
    /// A thread reads, and stops where nobody takes any more.
    Ahead {
        pieces: Receiver<io::Result<Vec<u8>>>,
        current: Vec<u8>,
        taken: usize,
    },
}

impl Response {
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(str::to_owned)
    }

    /// What [`check`](super::answer::check) looks at.
    pub fn head(&self) -> Result<Head, SourceError> {
        Ok(Head {
            status: self.status,
            content_range: self.header("content-range"),
            content_length: self.header("content-length").and_then(|text| text.trim().parse().ok()),
            version: Version { etag: self.header("etag"), modified: self.header("last-modified"), size: None },
            hides: false,
        })
    }

    /// Whether the bytes are those of the file.
    pub fn is_encoded(&self) -> bool {
        self.header("content-encoding").is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"))
    }

    /// From now on a thread reads ahead: the network and whoever takes the bytes work at the same time.
    pub fn read_ahead(&mut self) {
        let Reading::Direct(reader) = &mut self.body else { return };
        let (sender, pieces) = sync_channel(AHEAD);
        // an empty body in its place; this one is replaced below
        let empty = ureq::Body::builder().data(Vec::new()).into_reader();
        let mut reader = std::mem::replace(&mut **reader, empty);
        std::thread::spawn(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = (&mut reader).take(PIECE as u64).read_to_end(&mut piece);
                let end = piece.len() < PIECE;
                if !piece.is_empty() && sender.send(Ok(piece)).is_err() {
                    return;
                }
                if let Err(error) = read {
                    // nobody left to tell
                    let _ = sender.send(Err(error));
                    return;
                }
                if end {
                    return;
                }
            }
        });
        self.body = Reading::Ahead { pieces, current: Vec::new(), taken: 0 };
    }

    /// Appends at most `most` bytes of the body; 0 is its end.
    #[allow(clippy::unused_async, reason = "browsers wait here")]
    pub async fn read(&mut self, out: &mut Vec<u8>, most: usize) -> Result<usize, Failure> {
        match &mut self.body {
            Reading::Direct(reader) => {
                let before = out.len();
                let most = most.min(PIECE);
                out.resize(before + most, 0);
                let read = loop {
                    match reader.read(&mut out[before..]) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        read => break read,
                    }
                };
                out.truncate(before + read.as_ref().map_or(0, |n| *n));
                read.map_err(|error| Failure::again(&error.to_string()))
            }
            Reading::Ahead { pieces, current, taken } => {
                if *taken == current.len() {
                    match pieces.recv() {
                        Ok(Ok(piece)) => (*current, *taken) = (piece, 0),
                        Ok(Err(error)) => return Err(Failure::again(&error.to_string())),
                        Err(_) => return Ok(0),
                    }
                }
                let count = most.min(current.len() - *taken);
                out.extend_from_slice(&current[*taken..*taken + count]);
                *taken += count;
                Ok(count)
            }
        }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Waits.
#[allow(clippy::unused_async, reason = "browsers wait here")]
pub(crate) async fn sleep(time: Duration) {
    std::thread::sleep(time);
}
