//! A folder below an address, read by ranges.
//!
//! Everything but the requests themselves is the same natively and in browsers, so that what a server can do wrong is tested
//! once. A file is asked for its first 64 KiB, which tell its size and its version, and often are all of it. Long
//! reads are one answer that stays open ([`transfer::Transfer`]), or several at once.

pub(super) mod answer;
pub(super) mod body;
#[cfg(target_arch = "wasm32")]
#[path = "browser.rs"]
pub(crate) mod client;
#[cfg(not(target_arch = "wasm32"))]
#[path = "native.rs"]
pub(crate) mod client;
#[cfg(target_arch = "wasm32")]
mod lanes;
pub(super) mod retry;
pub(super) mod transfer;

pub use retry::RetryPolicy;

use super::digest::{self, Check, Digest};
use super::url::Url;
use super::{Token, check_range, shorten};
use crate::error::SourceError;
use answer::Version;
use body::Body;
use client::Client;
use retry::Retry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use transfer::{Link, Transfer};

/// What the first request of a file asks for.
const HEAD: u64 = 64 << 10;
/// A file that is only given as a whole is kept up to here.
const KEEP: u64 = 1 << 20;
/// A file whose size the server does not tell is read up to here.
const UNSIZED: usize = 64 << 20;

/// How an [`Http`] source asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Goes to the host of the address, and to no other that it redirects to.
    pub token: Option<Token>,
    /// When failed requests are made again.
    pub retry: RetryPolicy,
    /// SHA-256 of files by their names, in hexadecimal digits: such a file is checked, and an altered one refused.
    pub digests: BTreeMap<String, String>,
    /// How many requests for parts of a long file are on their way at once, in a browser; each takes up to 16 MiB of memory. Natively
    /// there is one, and a thread that reads ahead.
    pub concurrency: usize,
}

impl Default for HttpOptions {
    /// Four requests at once, the usual tries, no token, no digests.
    fn default() -> Self {
        Self { token: None, retry: RetryPolicy::default(), digests: BTreeMap::new(), concurrency: 3 }
    }
}

/// The files below an `http` or `https` address.
#[derive(Debug)]
pub struct Http {
    base: Url,
    /// The GGUF file that is meant: that which the address led to, say.
    pub(super) meant: Option<String>,
    client: Client,
    options: Box<HttpOptions>,
    digests: BTreeMap<String, Digest>,
    /// The names of all files, where they are known: nothing else is asked for.
    listed: Option<BTreeSet<String>>,
    /// What is known of the files that were asked for; `None` where there is no such file.
    files: Mutex<BTreeMap<String, Option<Arc<Facts>>>>,
    /// Bytes that are known to be right.
    verified: AtomicU64,
}

/// What the first answer told of a file.
#[derive(Debug)]
pub(super) struct Facts {
    pub size: u64,
    version: Version,
    /// Its first bytes; all of it, where it is small.
    head: Vec<u8>,
    ranges: bool,
    /// What was read of a file with a digest, and used before the whole of it is known to be right.
    seen: Mutex<Vec<(Range<u64>, Digest)>>,
}

/// A request, for the client of the target.
pub(super) struct Request<'a> {
    /// Only the head of the answer.
    pub head: bool,
    pub url: &'a Url,
    pub range: Option<Range<u64>>,
    pub token: Option<&'a Token>,
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "browsers follow by themselves"))]
    pub follow: Follow,
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Follow {
    Everywhere,
    /// One to another host is an answer.
    SameOrigin,
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub what: String,
    /// Whether another try may help.
    pub again: bool,
    /// Whether there was no connection at all.
    pub connecting: bool,
}

impl Failure {
    fn again(what: &str) -> Self {
        Self { what: what.to_owned(), again: true, connecting: false }
    }

    fn connect(what: &str) -> Self {
        Self { connecting: true, ..Self::again(what) }
    }

    fn fatal(what: &str) -> Self {
        Self { again: false, ..Self::again(what) }
    }
}

impl Http {
    /// The folder at `url`: `https://host/path`, below which `config.json` lies; of a GGUF file, its folder. A query (a signature, a token) goes along with
    /// every file. Nothing is asked yet.
    ///
    /// # Errors
    /// [`SourceError::BadUrl`], [`SourceError::BadDigest`].
    pub fn open(url: &str, options: HttpOptions) -> Result<Self, SourceError> {
        let base = Url::parse(url)?;
        let file = base.split_file().filter(|(_, name)| name.ends_with(".gguf"));
        let (base, meant) = file.map_or((base, None), |(folder, name)| (folder, Some(name)));
        if [".safetensors", ".json"].iter().any(|end| base.path().ends_with(end)) {
            return Err(SourceError::BadUrl { url: base.shown(), why: "it is that of a file" });
        }
        let digests = digest::parse_all(&options.digests)?;
        Ok(Self {
            base,
            meant,
            client: Client::new(),
            options: Box::new(options),
            digests,
            listed: None,
            files: Mutex::default(),
            verified: AtomicU64::new(0),
        })
    }

    /// The same, where all names are known.
    pub(super) fn with_names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.listed = Some(names.into_iter().collect());
        self
    }

    /// The same, of which this GGUF file is meant.
    pub(super) fn with_meant(self, meant: Option<String>) -> Self {
        Self { meant, ..self }
    }

    /// The names that are known: of all files, or of none.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.listed.iter().flatten()
    }

    /// The address, without its query.
    #[must_use]
    pub fn describe(&self) -> String {
        self.base.shown()
    }

    fn link(&self, name: &str) -> Link {
        Link {
            client: self.client.clone(),
            url: self.base.file(name),
            token: self.options.token.clone(),
            policy: self.options.retry,
        }
    }

    /// What is known of a file, asked for now if nothing is. The name has been checked.
    pub(super) async fn facts(&self, name: &str) -> Result<Option<Arc<Facts>>, SourceError> {
        if self.listed.as_ref().is_some_and(|names| !names.contains(name)) {
            return Ok(None);
        }
        // Nothing that could panic happens under the lock.
        if let Some(known) = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(known.clone());
        }
        let facts = self.ask(name).await?.map(Arc::new);
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), facts.clone());
        Ok(facts)
    }

    async fn ask(&self, name: &str) -> Result<Option<Facts>, SourceError> {
        let link = self.link(name);
        let mut transfer = Transfer::new(link.clone(), 0..HEAD, Version::default());
        if !transfer.connect().await? {
            return Ok(None);
        }
        let mut size = transfer.version().size;
        if size.is_none() && transfer.gives_ranges() {
            size = self.size_by_head(&link).await?;
            let hidden = || link.unreachable("the server does not tell its size");
            size = Some(size.ok_or_else(hidden)?);
        }
        let mut head = Vec::new();
        let size = match size {
            Some(size) => {
                let whole = !transfer.gives_ranges() && size <= KEEP;
                if whole {
                    transfer.widen(size);
                }
                transfer.fill(&mut head, if whole { size } else { size.min(HEAD) } as usize).await?;
                size
            }
            // The end of the answer is that of the file.
            None => {
                transfer.widen(u64::MAX);
                while transfer.read(&mut head, UNSIZED).await? > 0 {
                    if head.len() > UNSIZED {
                        return Err(link.unreachable("it is large and the server does not tell its size"));
                    }
                }
                head.len() as u64
            }
        };
        let version = Version { size: Some(size), ..transfer.version().clone() };
        Ok(Some(Facts { size, version, head, ranges: transfer.gives_ranges(), seen: Mutex::default() }))
    }

    /// For a server that hides the size in its answer to a range.
    async fn size_by_head(&self, link: &Link) -> Result<Option<u64>, SourceError> {
        let response = link.exchange(true, None, Follow::Everywhere, &mut Retry::new(link.policy)).await?;
        Ok(if response.status() == 200 { response.head()?.content_length } else { None })
    }

    /// Bytes of a file. The name has been checked.
    pub(super) async fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        let facts = self.facts(name).await?.ok_or_else(|| self.missing(name))?;
        facts.check(name, &range)?;
        let mut out = Vec::new();
        if range.end <= facts.head.len() as u64 {
            out.extend_from_slice(&facts.head[range.start as usize..range.end as usize]);
        } else {
            let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            self.body(name, range.clone(), &facts).fill(&mut out, count).await?;
        }
        if let Some(want) = self.digests.get(name) {
            if range == (0..facts.size) {
                let mut check = Check::new(*want, Vec::new());
                check.update(&out);
                self.judge(name, check)?;
            } else {
                facts.remember(range, digest::of(&out));
            }
        }
        Ok(out)
    }

    /// The SHA-256 that a file must have, if that is known.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn digest(&self, name: &str) -> Option<String> {
        self.digests.get(name).map(digest::hex)
    }

    pub(super) fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// What a stream of the whole file is checked against, if that is known.
    pub(super) fn checking(&self, name: &str, facts: &Facts) -> Option<Check> {
        let seen = || facts.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.digests.get(name).map(|want| Check::new(*want, seen()))
    }

    /// Says of a file that has passed whether it is right.
    pub(super) fn judge(&self, name: &str, check: Check) -> Result<(), SourceError> {
        let bytes = check.bytes();
        match check.verdict() {
            Some(detail) => Err(SourceError::Corrupt { repo: self.describe(), file: shorten(name), detail }),
            None => {
                self.verified.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// The bytes of a range, which has been checked against `facts`.
    pub(super) fn body(&self, name: &str, range: Range<u64>, facts: &Facts) -> Body {
        Body::new(self.link(name), range, facts, self.options.concurrency)
    }

    pub(super) fn missing(&self, name: &str) -> SourceError {
        SourceError::FileMissing { place: self.describe(), name: shorten(name) }
    }
}

impl Facts {
    /// Notes what was read; a header is read by few reads, and who reads more of them than are noted is no loader.
    fn remember(&self, range: Range<u64>, digest: Digest) {
        const MOST: usize = 64;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MOST && !seen.contains(&(range.clone(), digest)) {
            seen.push((range, digest));
        }
    }

    /// Refuses a range that does not lie within the file.
    pub(super) fn check(&self, name: &str, range: &Range<u64>) -> Result<(), SourceError> {
        check_range(name, self.size, range)
    }

    /// What tells its version.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// How much of the file's beginning is known.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn head_size(&self) -> u64 {
        self.head.len() as u64
    }

    /// Whether that is how the file begins.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn begins(&self, head: &[u8]) -> bool {
        self.head == head
    }

    /// Whether reading on is better than asking anew at another place: always, where only whole files are given.
    pub(super) fn skips(&self, gap: u64) -> bool {
        gap <= 1 << 20 || !self.ranges
    }
}
