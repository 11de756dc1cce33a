//! A range of a file as one long answer, taken up where it broke off.

use super::answer::{self, Version};
use super::client::{Client, Response};
use super::retry::{Retry, RetryPolicy, retry_after};
use super::{Follow, Request};
use crate::error::SourceError;
use crate::source::Token;
use crate::source::url::Url;
use std::ops::Range;

/// A file that is only given as a whole is begun again, and read up to where it broke off, to here at most.
const SKIP: u64 = 64 << 20;

/// A file and how it is asked for.
#[derive(Clone, Debug)]
pub(in crate::source) struct Link {
    pub client: Client,
    pub url: Url,
    pub token: Option<Token>,
    pub policy: RetryPolicy,
}

impl Link {
    /// Asks until there is an answer that is worth looking at: silence, overload and failures of the server are tried again.
    pub async fn exchange(
        &self,
        head: bool,
        range: Option<Range<u64>>,
        follow: Follow,
        retry: &mut Retry,
    ) -> Result<Response, SourceError> {
        let request = Request { head, url: &self.url, range, token: self.token.as_ref(), follow };
        loop {
            match self.client.send(&request).await {
                Ok(response) if matches!(response.status(), 408 | 425 | 429 | 500 | 502..=504) => {
                    let after = response.header("retry-after").and_then(|text| retry_after(&text));
                    let error = self.status(response.status(), after.map(|after| after.as_secs()));
                    drop(response);
                    retry.failed(error, after).await?;
                }
                Ok(response) => {
                    retry.progress(0);
                    return Ok(response);
                }
                Err(failure) => {
                    let error = self.unreachable(&failure.what);
                    match (failure.again, failure.connecting) {
                        (false, _) => return Err(error),
                        (true, true) => retry.not_connected(error).await?,
                        (true, false) => retry.failed(error, None).await?,
                    }
                }
            }
        }
    }

    /// An error for a status that is none of those that are awaited.
    pub fn status(&self, status: u16, after: Option<u64>) -> SourceError {
        let url = self.url.shown();
        match status {
            401 | 403 => SourceError::Refused { url, status },
            429 => SourceError::RateLimited { url, status, after },
            503 if after.is_some() => SourceError::RateLimited { url, status, after },
            _ => SourceError::Status { url, status },
        }
    }

    pub fn unreachable(&self, detail: &str) -> SourceError {
        SourceError::Unreachable { url: self.url.shown(), detail: detail.to_owned() }
    }
}

/// What is to be read, and the answer that is being read.
#[derive(Debug)]
pub(in crate::source) struct Transfer {
    link: Link,
    range: Range<u64>,
    /// What the answers so far say of the file.
    version: Version,
    /// Whether another version is an error: not where the bytes are checked against a hash.
    watch: bool,
    /// Whether a thread is to read ahead.
    ahead: bool,
    /// Whether an answer that has the whole file is of no use.
    parts: bool,
    ranges: bool,
    response: Option<Response>,
    /// Bytes that the answer still has of the range, where that is known.
    left: Option<u64>,
    retry: Retry,
}

impl Transfer {
    /// Nothing is asked before the first byte is wanted.
    pub fn new(link: Link, range: Range<u64>, version: Version) -> Self {
        let retry = Retry::new(link.policy);
        Self {
            link,
            range,
            version,
            watch: true,
            ahead: false,
            parts: false,
            ranges: true,
            response: None,
            left: None,
            retry,
        }
    }

    /// A thread reads ahead (natively; browsers do so themselves).
    pub fn read_ahead(mut self) -> Self {
        self.ahead = true;
        self
    }

    /// Takes only answers that begin where it was asked.
    #[cfg(target_arch = "wasm32")]
    pub fn only_ranges(mut self) -> Self {
        self.parts = true;
        self
    }

    /// Takes bytes of any version that has the size: they are going to be checked against a hash.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn unwatched(mut self) -> Self {
        self.watch = false;
        self
    }

    /// What the answers so far say of the file.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether the server gave a part where it was asked for one.
    pub fn gives_ranges(&self) -> bool {
        self.ranges
    }

    /// Wants more of an answer that has the whole file.
    pub fn widen(&mut self, end: u64) {
        self.range.end = end;
        self.left = self.left.and(self.version.size).map(|size| size.min(end).saturating_sub(self.range.start));
    }

    /// Asks, if no answer is there; `false` where there is no such file. A range that begins at the end of the file, or
    /// beyond it, gives an empty answer if nothing was known of the file before.
    pub async fn connect(&mut self) -> Result<bool, SourceError> {
        while self.response.is_none() {
            let asked = self.range.clone();
            let mut response =
                self.link.exchange(false, Some(asked.clone()), Follow::Everywhere, &mut self.retry).await?;
            let url = self.link.url.shown();
            match response.status() {
                404 | 410 => return Ok(false),
                416 if self.version.size.is_none() => {
                    let size = response.header("content-range").and_then(|text| answer::unsatisfied_size(&text));
                    self.version.size = Some(size.unwrap_or(asked.start));
                    self.left = Some(0);
                    self.response = Some(response);
                    return Ok(true);
                }
                412 | 416 => return Err(SourceError::Changed { url, detail: "it has become shorter".to_owned() }),
                200 | 206 if response.is_encoded() => {
                    return Err(self.link.unreachable("it comes compressed, which was not asked for"));
                }
                200 | 206 => {}
                status => return Err(self.link.status(status, None)),
            }
            let none = Version { size: self.version.size, ..Version::default() };
            let before = if self.watch { &self.version } else { &none };
            let body = answer::check(&url, &response.head()?, &asked, before)?;
            let now = body.version;
            let version = &mut self.version;
            version.etag = version.etag.take().or(now.etag);
            version.modified = version.modified.take().or(now.modified);
            version.size = version.size.or(now.size);
            self.ranges = response.status() == 206;
            self.left = body.left;
            if body.skip > if self.parts { 0 } else { SKIP } {
                return Err(SourceError::RangesIgnored { url, at: asked.start });
            }
            if self.ahead && asked.end - asked.start > 1 << 20 {
                response.read_ahead();
            }
            self.response = Some(response);
            if body.skip > 0 {
                self.discard_body(body.skip).await?;
            }
        }
        Ok(true)
    }

    /// Reads away what stands before the range in an answer that has the whole file; without an answer afterwards where it
    /// broke off.
    async fn discard_body(&mut self, mut bytes: u64) -> Result<(), SourceError> {
        let mut away = Vec::new();
        while bytes > 0
            && let Some(response) = &mut self.response
        {
            away.clear();
            let most = usize::try_from(bytes).unwrap_or(usize::MAX).min(256 << 10);
            let error = match response.read(&mut away, most).await {
                Ok(read) if read > 0 => {
                    bytes -= read as u64;
                    continue;
                }
                Ok(_) => "it ends too early".to_owned(),
                Err(failure) => failure.what,
            };
            self.response = None;
            self.retry.failed(self.link.unreachable(&error), None).await?;
        }
        Ok(())
    }

    /// Appends `count` bytes, which the range must have.
    pub async fn fill(&mut self, out: &mut Vec<u8>, count: usize) -> Result<(), SourceError> {
        let target = out.len().saturating_add(count);
        // All at once: growing would hold the bytes twice. A server may claim any size, and then there is no such memory.
        out.try_reserve_exact(count).map_err(|_| {
            let source = std::io::Error::new(std::io::ErrorKind::OutOfMemory, format!("no memory for {count} bytes"));
            SourceError::Io { name: self.link.url.shown(), source }
        })?;
        while out.len() < target {
            if self.read(out, target - out.len()).await? == 0 {
                return Err(self.link.unreachable("it ends too early"));
            }
        }
        Ok(())
    }

    /// Appends at most `most` bytes, and at least one but for the end of the range.
    pub async fn read(&mut self, out: &mut Vec<u8>, most: usize) -> Result<usize, SourceError> {
        while self.range.start < self.range.end && most > 0 {
            if !self.connect().await? {
                let url = self.link.url.shown();
                return Err(SourceError::Changed { url, detail: "it is gone".to_owned() });
            }
            let Some(response) = &mut self.response else { continue };
            let left = self.left.unwrap_or(u64::MAX).min(self.range.end - self.range.start);
            let most = most.min(usize::try_from(left).unwrap_or(usize::MAX));
            let what = match response.read(out, most).await {
                Ok(0) if self.left.is_none() => {
                    // An answer that did not tell its length: this is the end of the file.
                    self.range.end = self.range.start;
                    self.response = None;
                    return Ok(0);
                }
                Ok(0) => format!("it ends at byte {}, before byte {}", self.range.start, self.range.end),
                Ok(read) => {
                    self.took(read as u64).await;
                    return Ok(read);
                }
                Err(failure) => failure.what,
            };
            self.response = None;
            self.retry.failed(self.link.unreachable(&what), None).await?;
        }
        Ok(0)
    }

    async fn took(&mut self, bytes: u64) {
        self.range.start += bytes;
        self.left = self.left.map(|left| left - bytes);
        self.retry.progress(bytes);
        if self.left == Some(0)
            && let Some(mut response) = self.response.take()
            && self.ranges
        {
            // Reading its end lets the connection be used again. What comes beyond it is nobody's.
            let _ = response.read(&mut Vec::new(), 1).await;
        }
    }

    /// Goes on `bytes` further, through the answer that is open, as far as the range goes.
    pub async fn discard(&mut self, bytes: u64) -> Result<(), SourceError> {
        let mut rest = bytes;
        let mut away = Vec::new();
        while rest > 0 {
            away.clear();
            let most = usize::try_from(rest).unwrap_or(usize::MAX).min(256 << 10);
            match self.read(&mut away, most).await? {
                0 => return Ok(()),
                read => rest -= read as u64,
            }
        }
        Ok(())
    }
}
