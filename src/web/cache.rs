//! The models that a browser keeps.

use serde_json::json;
use wasm_bindgen::prelude::*;

use super::convert::to_js;
use super::errors::Failed;
use crate::source::store::Store;

/// `CacheEntry`s: the models that are kept, the one that was used last first.
///
/// # Errors
/// `StorageError` where the page may keep nothing.
#[wasm_bindgen]
pub async fn cache_list() -> Result<JsValue, JsValue> {
    let entries = async { Store::open(None).await?.list().await }.await;
    let entries = entries.map_err(Failed::from)?.into_iter().map(|entry| {
        json!({
            "key": entry.key, "kind": entry.kind, "name": entry.name, "revision": entry.revision, "commit": entry.commit,
            "bytes": entry.bytes, "files": entry.files, "complete": entry.complete, "created": entry.created,
            "last_used": entry.last_used,
        })
    });
    Ok(to_js(&entries.collect::<Vec<_>>()))
}

/// Deletes a model that is kept; whether there was one.
///
/// # Errors
/// As [`cache_list`].
#[wasm_bindgen]
pub async fn cache_delete(key: String) -> Result<bool, JsValue> {
    let deleted = async { Store::open(None).await?.delete(&key).await }.await;
    Ok(deleted.map_err(Failed::from)?)
}

/// Deletes all that is kept.
///
/// # Errors
/// As [`cache_list`].
#[wasm_bindgen]
pub async fn cache_clear() -> Result<(), JsValue> {
    let cleared = async { Store::open(None).await?.clear().await }.await;
    Ok(cleared.map_err(Failed::from)?)
}
