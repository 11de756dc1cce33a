//! Where a page's model comes from, and what the page hears of its files.

use serde::Deserialize;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use super::convert::from_js;
use super::errors::{Failed, invalid};
use crate::source::{Http, HttpOptions, Source, Token};
use crate::weights::Progress;

/// How files are read: part of `OpenOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    cache: Option<String>,
    concurrency: Option<usize>,
    retries: Option<u32>,
    backoff_ms: Option<u64>,
}

impl Options {
    pub fn without_cache(&self) -> Self {
        Self { cache: Some("none".to_owned()), ..self.clone() }
    }
}

/// `ModelSpec` of `web/src/wasm.ts`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Spec {
    Hub { repo: String, revision: Option<String>, endpoint: Option<String>, token: Option<String> },
    Url { url: String, token: Option<String> },
}

impl Default for Spec {
    fn default() -> Self {
        Self::Url { url: String::new(), token: None }
    }
}

pub struct Opened(Source);

impl Opened {
    pub fn source(&self) -> &Source {
        &self.0
    }
}

pub async fn open(spec: &JsValue, options: &Options, _tell: &dyn Fn(Value)) -> Result<Opened, Failed> {
    let mut http = HttpOptions::default();
    if let Some(retries) = options.retries {
        http.retry.retries = retries;
    }
    if let Some(backoff) = options.backoff_ms {
        http.retry.backoff = std::time::Duration::from_millis(backoff);
    }
    let (url, token) = match from_js(spec, "model")? {
        Spec::Hub { repo, revision, endpoint, token } => {
            let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
            (format!("{endpoint}/{repo}/resolve/{}", revision.as_deref().unwrap_or("main")), token)
        }
        Spec::Url { url, token } => (url, token),
    };
    if url.is_empty() {
        return Err(invalid("model", "none is given"));
    }
    http.token = token.as_deref().and_then(Token::new);
    Ok(Opened(Source::Http(Http::open(&url, http)?)))
}

/// Tells of each file when it begins and when it is done.
pub struct Files<'a> {
    opened: &'a Opened,
    tell: &'a dyn Fn(Value),
    small: Vec<&'static str>,
    current: Option<(String, u64)>,
}

impl<'a> Files<'a> {
    pub fn new(opened: &'a Opened, tell: &'a dyn Fn(Value)) -> Self {
        Self { opened, tell, small: Vec::new(), current: None }
    }

    /// Those that are read whole, before the weights.
    pub async fn announce_small(&mut self) -> Result<(), Failed> {
        for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            if let Some(size) = self.opened.source().size(name).await? {
                (self.tell)(json!({ "type": "file", "file": name, "size": size, "from": "network" }));
                self.small.push(name);
            }
        }
        Ok(())
    }

    pub fn progress(&mut self, at: &Progress<'_>) {
        if self.current.is_none() {
            self.small.drain(..).for_each(|name| (self.tell)(json!({ "type": "done", "file": name })));
            (self.tell)(json!({ "type": "stage", "stage": "weights" }));
        }
        if self.current.as_ref().is_none_or(|(name, _)| name != at.file) {
            self.end_current();
            (self.tell)(json!({ "type": "file", "file": at.file, "size": at.size, "from": "network" }));
            self.current = Some((at.file.to_owned(), at.size));
        }
        (self.tell)(json!({
            "type": "progress", "file": at.file, "loaded": at.position, "size": at.size,
            "total_loaded": at.loaded, "total": at.total,
        }));
    }

    fn end_current(&mut self) {
        if let Some((name, _)) = self.current.take() {
            (self.tell)(json!({ "type": "done", "file": name }));
        }
    }

    /// Where the weights came from.
    pub fn finish(mut self) -> &'static str {
        self.end_current();
        "network"
    }
}
