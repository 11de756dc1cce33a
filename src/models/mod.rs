//! Architectures, and how their configs are read: `decoder` and `encoder` are the networks, each family's file says what it makes of
//! one.

mod bert;
pub mod config;
pub mod decoder;
pub mod encoder;
mod encoder_workspace;
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
pub use encoder::{Encoder, EncoderConfig};
pub use encoder_workspace::{Bucket, EncoderOutput, EncoderWorkspace, step_bytes};
pub use rope::{RopeConfig, RopeScaling};
pub use workspace::{Room, Workspace};
