//! What the cache holds, as a file and back.

use js_sys::{Function, Uint8Array};
use serde_json::json;
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, Blob};

use super::convert::to_js;
use super::errors::{self, Failed};
use super::{Model, until_aborted};
use crate::source::{Blobs, Source};

/// What the file is called where nobody sees it.
const NAME: &str = "saved cache";

#[wasm_bindgen]
impl Model {
    /// Saves what the cache holds of `ids`, or without them of the text that ended last: `on_bytes` hears of the file piece by piece, and
    /// what it throws ends this. `{ tokens, bytes }`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn save_cache(
        &self,
        ids: Option<Vec<u32>>,
        on_bytes: Function,
        signal: AbortSignal,
    ) -> Result<JsValue, JsValue> {
        let shared = self.opened.model()?;
        let work = async {
            let mut session = shared.lock().await;
            let ids = ids.unwrap_or_else(|| session.engine().cached().to_vec());
            let mut saved = session.save_cache(&ids).await.map_err(Failed::from)?;
            while let Some(bytes) = saved.next().await.map_err(Failed::from)? {
                on_bytes.call1(&JsValue::NULL, &Uint8Array::from(bytes.as_slice()))?;
            }
            Ok(to_js(&json!({ "tokens": saved.tokens(), "bytes": saved.size() })))
        };
        until_aborted(&signal, work).await.unwrap_or_else(|| Err(errors::aborted().into()))
    }

    /// Puts back what was saved; how many tokens it holds.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn restore_cache(&self, file: Blob, signal: AbortSignal) -> Result<u32, JsValue> {
        let shared = self.opened.model()?;
        let work = async {
            let mut files = Blobs::new();
            files.insert(NAME, file)?;
            Ok(shared.lock().await.restore_cache(&Source::Blobs(files), NAME).await? as u32)
        };
        until_aborted(&signal, work).await.unwrap_or_else(|| Err(errors::aborted())).map_err(Failed::into)
    }
}
