//! Everything that runs on a GPU, natively and in browsers. One root, since each costs a browser session.
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[cfg(not(target_arch = "wasm32"))]
mod checkpoint;
mod common;
mod device;
#[cfg(target_arch = "wasm32")]
mod fetch;
mod generate;
mod managers;
mod models;
mod ops;
mod preprocess;
#[cfg(not(target_arch = "wasm32"))]
mod quant;
