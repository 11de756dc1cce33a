//! Policies that need no adapter.

mod autotune;
mod batch;
mod blocks;
#[cfg(not(target_arch = "wasm32"))]
mod blocks_property;
mod pool;
mod precision;
mod profile;
mod tune;
