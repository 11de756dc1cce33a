//! Architectures, and how their configs are read: `decoder` is the network, each family's file says what it makes of it.

pub mod config;
pub mod decoder;
mod gemma;
pub mod gguf;
mod gpt2;
mod llama;
mod opt;
mod phi;
pub mod rope;
mod workspace;

pub use config::ModelConfig;
pub use decoder::{Decoder, DecoderConfig};
pub use rope::{RopeConfig, RopeScaling};
pub use workspace::{Room, Workspace};
