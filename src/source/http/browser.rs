//! Requests through `fetch`. The browser follows redirects (without the token, to another host), keeps connections, reads ahead
//! and asks for no compression where a range is asked for; what other origins do not expose, it hides.

use super::answer::{Head, Version};
use super::{Failure, Request};
use crate::error::SourceError;
use crate::source::js::{describe, function};
use js_sys::{Array, Promise, Reflect, Uint8Array, global};
use std::time::Duration;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, Headers, ReadableStreamDefaultReader, RequestCache, RequestInit};

/// A connection that stays silent for so long is given up, as natively.
const SILENCE: Duration = Duration::from_secs(30);

/// Nothing: connections are the browser's.
#[derive(Clone, Debug)]
pub(in crate::source) struct Client;

impl Client {
    pub fn new() -> Self {
        Self
    }

    /// Sends a request.
    pub async fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let odd = |value: JsValue| Failure::fatal(&describe(&value));
        let headers = Headers::new().map_err(odd)?;
        if let Some(range) = &request.range {
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.set("Range", &value).map_err(odd)?;
        }
        if let Some(token) = request.token {
            headers.set("Authorization", &token.bearer()).map_err(odd)?;
        }
        let abort = Aborting(AbortController::new().map_err(odd)?);
        let init = RequestInit::new();
        init.set_method(if request.head { "HEAD" } else { "GET" });
        init.set_headers(&headers);
        init.set_signal(Some(&abort.0.signal()));
        // The browser's own cache: a version that it remembers is asked for again, and of long ranges it keeps no copy. It would
        // also let only one request at a time have an address.
        let is_long = request.range.as_ref().is_some_and(|range| range.end.saturating_sub(range.start) > super::HEAD);
        init.set_cache(if is_long { RequestCache::NoStore } else { RequestCache::NoCache });
        // Pages and workers both have it, as a property of what is global there.
        let fetch = function("fetch").map_err(odd)?;
        let answer = fetch.call2(&global(), &request.url.text().into(), &init).map_err(odd)?;
        let answer = Promise::from(answer);
        let answer = in_time(&answer, |error| {
            let hint = "no connection, or the server does not allow this page (CORS)";
            Failure::connect(&format!("{}: {hint}", describe(error)))
        });
        let response = answer.await?.unchecked_into::<web_sys::Response>();
        tracing::debug!(url = request.url.shown(), range = ?request.range, status = response.status(), "answered");
        Ok(Response { response, _abort: abort, reader: None, current: None, taken: 0 })
    }
}

/// An answer: its head, and its body as it comes. Dropped, it ends its request.
#[derive(Debug)]
pub(in crate::source) struct Response {
    response: web_sys::Response,
    _abort: Aborting,
    reader: Option<ReadableStreamDefaultReader>,
    /// What the reader gave last, and how much of it was taken.
    current: Option<Uint8Array>,
    taken: u32,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.response.status()
    }

    /// A header, if this page may see it.
    pub fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }

    /// What [`check`](super::answer::check) looks at.
    #[allow(clippy::unnecessary_wraps, reason = "as natively")]
    pub fn head(&self) -> Result<Head, SourceError> {
        let number = |text: String| text.trim().parse().ok();
        // An encoded body arrives decoded: this is not its length.
        let length = if self.has_encoding() { None } else { self.header("content-length").and_then(number) };
        let kind = Reflect::get(&self.response, &"type".into()).ok().and_then(|kind| kind.as_string());
        Ok(Head {
            status: self.status(),
            content_range: self.header("content-range"),
            content_length: length,
            version: Version { etag: self.header("etag"), modified: self.header("last-modified"), size: None },
            hides: kind.as_deref() == Some("cors"),
        })
    }

    fn has_encoding(&self) -> bool {
        self.header("content-encoding").is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"))
    }

    /// Whether the bytes are other ones than those of the file: a part of what was encoded.
    pub fn is_encoded(&self) -> bool {
        self.status() == 206 && self.has_encoding()
    }

    /// Browsers do so themselves.
    #[allow(clippy::unused_self, reason = "as natively")]
    pub fn read_ahead(&mut self) {}

    /// Appends at most `most` bytes of the body; 0 is its end.
    pub async fn read(&mut self, out: &mut Vec<u8>, most: usize) -> Result<usize, Failure> {
        let broken = |error: JsValue| Failure::again(&describe(&error));
        loop {
            if let Some(current) = &self.current
                && self.taken < current.length()
            {
                let count = (current.length() - self.taken).min(u32::try_from(most).unwrap_or(u32::MAX));
                let part = current.subarray(self.taken, self.taken + count);
                out.reserve(count as usize);
                part.copy_to_uninit(&mut out.spare_capacity_mut()[..count as usize]);
                // SAFETY: there is room for `count` more bytes, and they were just written.
                unsafe { out.set_len(out.len() + count as usize) };
                self.taken += count;
                return Ok(count as usize);
            }
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let Some(body) = self.response.body() else { return Ok(0) };
                    none.insert(body.get_reader().unchecked_into())
                }
            };
            let piece = in_time(&reader.read(), |error| Failure::again(&describe(error))).await?;
            if Reflect::get(&piece, &"done".into()).map_err(broken)?.is_truthy() {
                return Ok(0);
            }
            self.current = Some(Reflect::get(&piece, &"value".into()).map_err(broken)?.unchecked_into());
            self.taken = 0;
        }
    }
}

/// Ends its request when it is dropped, answered or not.
#[derive(Debug)]
struct Aborting(AbortController);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for a promise, but no longer than [`SILENCE`].
async fn in_time(promise: &Promise, failed: impl FnOnce(&JsValue) -> Failure) -> Result<JsValue, Failure> {
    let odd = |error: JsValue| Failure::fatal(&describe(&error));
    let mut timer = Err(JsValue::UNDEFINED);
    let late = Promise::new(&mut |_, reject| {
        let milliseconds = JsValue::from_f64(SILENCE.as_secs_f64() * 1e3);
        timer = function("setTimeout").and_then(|set| set.call2(&global(), &reject, &milliseconds));
    });
    let result = JsFuture::from(Promise::race(&Array::of2(promise, &late))).await;
    let clear = function("clearTimeout").map_err(odd)?;
    clear.call1(&global(), &timer.map_err(odd)?).map_err(odd)?;
    // The timer gives no reason.
    result.map_err(|error| if error.is_undefined() { Failure::again("no answer in time") } else { failed(&error) })
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    let wait = Promise::new(&mut |resolve, _| {
        // Without timers there is no wait.
        let milliseconds = JsValue::from_f64(time.as_secs_f64() * 1e3);
        if function("setTimeout").and_then(|set| set.call2(&global(), &resolve, &milliseconds)).is_err() {
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    });
    // It is never refused.
    let _ = JsFuture::from(wait).await;
}
