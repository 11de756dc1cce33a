//! Drives the real binary, on whatever adapter there is.

mod batch;
mod bench;
mod built_in;
mod chat;
mod devices;
mod embed;
mod errors;
#[path = "../../../tests/hub/fake_hub.rs"]
mod fake_hub;
mod forward;
mod generate;
mod gguf;
mod inspect;
mod models;
mod offload;
mod profile;
mod prompt_cache;
mod quantize;
#[path = "../../../tests/hub/server.rs"]
mod server;
mod support;
mod terminal;
mod tune;
mod validate;
mod validate_caches;
