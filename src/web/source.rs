//! Where a page's model comes from, and what the page hears of its files.

use std::collections::BTreeMap;
use std::time::Duration;

use js_sys::{Function, Object, Reflect};
use serde::Deserialize;
use serde_json::{Value, json};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

use super::convert::{from_js, to_js};
use super::errors::{Failed, invalid};
use crate::error::SourceError;
use crate::source::browser::{self, Keep, Notice};
use crate::source::{Origin, Source, Token};
use crate::weights::Progress;

/// How files are read: part of `OpenOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    cache: Option<String>,
    concurrency: Option<usize>,
    pub gguf_file: Option<String>,
    /// of a profile, for a model of the Hub whose revision nobody says
    #[serde(skip)]
    pub revision: Option<String>,
    retries: Option<u32>,
    backoff_ms: Option<u64>,
}

impl Options {
    /// A look keeps nothing. What is kept is read.
    pub fn keeping_nothing_new(&self) -> Self {
        let cache = if self.cache.as_deref() == Some("none") { "none" } else { "quantized" };
        Self { cache: Some(cache.to_owned()), ..self.clone() }
    }

    /// What is kept of models that are opened.
    pub fn keep(&self) -> Result<Keep, Failed> {
        match self.cache.as_deref() {
            None | Some("stored") => Ok(Keep::Stored),
            Some("quantized") => Ok(Keep::Quantized),
            Some("none") => Ok(Keep::Nothing),
            Some(other) => Err(invalid("cache", &format!("{other:?} is none of stored, quantized, none"))),
        }
    }

    fn read(&self) -> Result<browser::Options, Failed> {
        let gguf_file = self.gguf_file.clone();
        let mut options = browser::Options { keep: self.keep()?, gguf_file, ..browser::Options::default() };
        if let Some(retries) = self.retries {
            options.retry.retries = retries;
        }
        if let Some(backoff) = self.backoff_ms {
            options.retry.backoff = Duration::from_millis(backoff);
        }
        if let Some(requests) = self.concurrency {
            if !(1..=16).contains(&requests) {
                return Err(invalid("concurrency", &format!("{requests} is not in 1 to 16")));
            }
            options.concurrency = requests;
        }
        Ok(options)
    }
}

/// `ModelSpec` of `web/src/wasm.ts`, but for files, which JSON does not hold.
#[derive(Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Spec {
    Hub {
        repo: String,
        revision: Option<String>,
        endpoint: Option<String>,
        token: Option<String>,
    },
    Url {
        url: String,
        token: Option<String>,
        #[serde(default)]
        digests: BTreeMap<String, String>,
    },
    #[serde(rename = "")]
    #[default]
    None,
}

/// The name or the address of a model, where it has one.
pub fn name(spec: &JsValue) -> Option<String> {
    ["repo", "url"].iter().find_map(|key| Reflect::get(spec, &(*key).into()).ok()?.as_string())
}

fn read_spec(spec: &JsValue, profiled: Option<&str>) -> Result<browser::Spec, Failed> {
    let kind = Reflect::get(spec, &"kind".into()).ok().and_then(|kind| kind.as_string());
    if kind.as_deref() == Some("files") {
        let files = Reflect::get(spec, &"files".into()).ok().and_then(|files| files.dyn_into::<Object>().ok());
        let files = files.ok_or_else(|| invalid("model", "its files are missing"))?;
        let entries = Object::entries(&files);
        let files = entries.iter().map(|entry| {
            let entry: js_sys::Array = entry.unchecked_into();
            let name = entry.get(0).as_string().unwrap_or_default();
            let blob = entry.get(1).dyn_into::<Blob>();
            let blob = blob.map_err(|_| invalid("model", &format!("{name:?} is no File and no Blob")))?;
            Ok((name, blob))
        });
        return Ok(browser::Spec::Files { files: files.collect::<Result<_, Failed>>()? });
    }
    let token = |token: Option<String>| match token {
        None => Ok(None),
        Some(text) => match Token::new(&text) {
            Some(token) => Ok(Some(token)),
            None => Err(invalid("token", "it is empty, or has characters that a header cannot have")),
        },
    };
    Ok(match from_js(spec, "model")? {
        Spec::Hub { repo, revision, endpoint, token: given } => {
            let revision = revision.or_else(|| profiled.map(str::to_owned));
            browser::Spec::Hub { repo, revision, endpoint, token: token(given)? }
        }
        Spec::Url { url, token: given, digests } => browser::Spec::Url { url, token: token(given)?, digests },
        Spec::None => return Err(invalid("model", "none is given")),
    })
}

/// Opens what `spec` means; `on_event` hears of notices.
pub async fn open(spec: &JsValue, options: &Options, on_event: Option<&Function>) -> Result<Source, Failed> {
    let on_event = on_event.cloned();
    let on_notice = move |notice: Notice| {
        let event = json!({ "type": "notice", "code": notice.code.as_str(), "message": notice.message });
        if let Some(on_event) = &on_event {
            // A listener that throws is the page's own affair.
            let _ = on_event.call1(&JsValue::NULL, &to_js(&event));
        }
    };
    Ok(browser::open(read_spec(spec, options.revision.as_deref())?, &options.read()?, on_notice).await?)
}

/// Tells of each file when it begins and when it is done.
pub struct Files<'a> {
    source: &'a Source,
    tell: &'a dyn Fn(Value),
    small: Vec<&'static str>,
    current: Option<(String, u64)>,
    /// where the first weights came from
    from: Option<Origin>,
}

impl<'a> Files<'a> {
    pub fn new(source: &'a Source, tell: &'a dyn Fn(Value)) -> Self {
        Self { source, tell, small: Vec::new(), current: None, from: None }
    }

    /// Those that are read whole, before the weights.
    pub async fn announce_small(&mut self) -> Result<(), SourceError> {
        for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            if let Some(size) = self.source.size(name).await? {
                self.begin(name, size);
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
            self.begin(at.file, at.size);
            self.from.get_or_insert(self.source.origin(at.file));
            self.current = Some((at.file.to_owned(), at.size));
        }
        (self.tell)(json!({
            "type": "progress", "file": at.file, "loaded": at.position, "size": at.size,
            "total_loaded": at.loaded, "total": at.total,
        }));
    }

    fn begin(&self, name: &str, size: u64) {
        let from = self.source.origin(name).as_str();
        (self.tell)(json!({ "type": "file", "file": name, "size": size, "from": from }));
    }

    fn end_current(&mut self) {
        if let Some((name, _)) = self.current.take() {
            (self.tell)(json!({ "type": "done", "file": name }));
        }
    }

    /// Where the weights came from.
    pub fn finish(mut self) -> &'static str {
        self.end_current();
        self.from.unwrap_or(Origin::Local).as_str()
    }
}
