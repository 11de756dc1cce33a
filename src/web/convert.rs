//! Values of JavaScript, through JSON: what crosses here is small.

use js_sys::JSON;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

use super::errors::{Failed, invalid};

/// What `value` says; `what` names it in errors.
pub fn from_js<T: DeserializeOwned + Default>(value: &JsValue, what: &'static str) -> Result<T, Failed> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    let text = JSON::stringify(value).ok().and_then(|text| text.as_string());
    let text = text.ok_or_else(|| invalid(what, "it cannot be written as JSON"))?;
    serde_json::from_str(&text).map_err(|error| invalid(what, &error.to_string()))
}

/// A plain object.
pub fn to_js(value: &impl Serialize) -> JsValue {
    let text = serde_json::to_string(value).unwrap_or_default();
    JSON::parse(&text).unwrap_or(JsValue::UNDEFINED)
}
