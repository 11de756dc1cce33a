//! The origin's caches, where there is no private file system, or no worker to write it. A file is an answer to an address that
//! nobody has; it is there wholly or not at all.

use super::backend::find;
use crate::source::js;
use js_sys::{Array, Uint8Array};
use std::collections::BTreeSet;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, Cache, CacheStorage, Request, Response};

/// The cache of all that is ours.
const NAME: &str = "webweft";
/// No host has this name (RFC 2606).
const BASE: &str = "https://webweft.invalid/";

#[derive(Clone, Debug)]
pub(super) struct Caches {
    cache: Cache,
}

impl Caches {
    pub async fn open() -> Result<Self, JsValue> {
        let caches: CacheStorage = find(&["caches"])?.unchecked_into();
        Ok(Self { cache: js::wait(caches.open(NAME)).await? })
    }

    /// `folder/file` of all there are.
    async fn paths(&self) -> Result<Vec<(String, String)>, JsValue> {
        let keys: Array = js::wait(self.cache.keys()).await?;
        let path = |key: JsValue| {
            let url = key.unchecked_into::<Request>().url();
            let (folder, file) = url.strip_prefix(BASE)?.split_once('/')?;
            Some((folder.to_owned(), file.to_owned()))
        };
        Ok(keys.iter().filter_map(path).collect())
    }

    pub async fn folders(&self) -> Result<Vec<String>, JsValue> {
        let folders: BTreeSet<_> = self.paths().await?.into_iter().map(|(folder, _)| folder).collect();
        Ok(folders.into_iter().collect())
    }

    pub async fn files(&self, folder: &str) -> Result<Vec<String>, JsValue> {
        let paths = self.paths().await?.into_iter();
        Ok(paths.filter(|(of, _)| of == folder).map(|(_, file)| file).collect())
    }

    pub async fn get(&self, folder: &str, file: &str) -> Result<Option<Blob>, JsValue> {
        let found: JsValue = js::wait(self.cache.match_with_str(&url(folder, file))).await?;
        if found.is_undefined() {
            return Ok(None);
        }
        js::wait(found.unchecked_into::<Response>().blob()?).await.map(Some)
    }

    pub fn writer(&self, folder: &str, file: &str) -> Gathering {
        Gathering { cache: self.cache.clone(), url: url(folder, file), parts: Array::new() }
    }

    pub async fn remove(&self, folder: &str, file: &str) -> Result<(), JsValue> {
        js::wait::<JsValue>(self.cache.delete_with_str(&url(folder, file))).await.map(|_| ())
    }

    pub async fn remove_folder(&self, folder: &str) -> Result<bool, JsValue> {
        let files = self.files(folder).await?;
        for file in &files {
            self.remove(folder, file).await?;
        }
        Ok(!files.is_empty())
    }
}

/// A file that is being written: blobs, which browsers keep on disk when they are many.
#[derive(Debug)]
pub(super) struct Gathering {
    cache: Cache,
    url: String,
    parts: Array,
}

impl Gathering {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), JsValue> {
        let part = Blob::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(bytes)))?;
        self.parts.push(&part);
        Ok(())
    }

    pub async fn finish(self) -> Result<(), JsValue> {
        let whole = Blob::new_with_blob_sequence(&self.parts)?;
        let answer = Response::new_with_opt_blob(Some(&whole))?;
        js::wait::<JsValue>(self.cache.put_with_str(&self.url, &answer)).await.map(|_| ())
    }
}

fn url(folder: &str, file: &str) -> String {
    format!("{BASE}{folder}/{file}")
}
