//! Architectures, from their configurations alone.

pub mod config;
mod llama;
pub mod rope;

pub use config::{LlamaConfig, ModelConfig};
pub use llama::Llama;
