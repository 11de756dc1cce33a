//! Sources over the network, against servers on loopback that do whatever servers do.
#![cfg(not(target_arch = "wasm32"))]
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

#[path = "hub/download.rs"]
mod download;
#[path = "hub/fake_hub.rs"]
mod fake_hub;
#[path = "hub/http.rs"]
mod http;
#[path = "hub/python.rs"]
mod python;
#[path = "hub/refusals.rs"]
mod refusals;
#[path = "hub/server.rs"]
mod server;
