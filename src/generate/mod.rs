//! From a prompt to tokens: recorded programs, the decoding loop, sampling, text.

mod config;
mod engine;
mod forward;
mod generation;
mod options;
mod processors;
mod stop;
mod text;

pub use engine::Engine;
pub use forward::Hidden;
pub use generation::{Generation, Logprobs, Timing};
pub use options::{FinishReason, GenerateOptions};
pub use processors::Processors;
pub use text::{Piece, TextGeneration};
