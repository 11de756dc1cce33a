//! What every use of the browser's own functions needs.

use crate::error::SourceError;
use js_sys::{Function, Promise, Reflect, global};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// A function of the page or worker.
pub(super) fn function(name: &str) -> Result<Function, JsValue> {
    Reflect::get(&global(), &name.into())?.dyn_into()
}

/// The message of an error.
pub(super) fn describe(error: &JsValue) -> String {
    text(error, "message").unwrap_or_else(|| "the browser does not say why".to_owned())
}

/// The name of an error, by which browsers tell them apart: `QuotaExceededError`, `NotFoundError`.
pub(super) fn error_name(error: &JsValue) -> String {
    text(error, "name").unwrap_or_default()
}

fn text(of: &JsValue, property: &str) -> Option<String> {
    Reflect::get(of, &property.into()).ok()?.as_string()
}

/// An error of our own.
pub(super) fn error(message: &str) -> JsValue {
    js_sys::Error::new(message).into()
}

/// Waits for a promise, and takes its value for a `T`, which the browser's own documentation says it is.
pub(super) async fn wait<T: JsCast>(promise: Promise) -> Result<T, JsValue> {
    JsFuture::from(promise).await.map(JsCast::unchecked_into)
}

/// No memory for that many bytes: growing by pieces would hold them twice.
pub(super) fn reserve(out: &mut Vec<u8>, name: &str, count: usize) -> Result<(), SourceError> {
    out.try_reserve_exact(count).map_err(|_| {
        let source = std::io::Error::new(std::io::ErrorKind::OutOfMemory, format!("no memory for {count} bytes"));
        SourceError::Io { name: super::shorten(name), source }
    })
}
