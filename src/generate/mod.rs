//! From a prompt to tokens: recorded programs, the decoding loop, sampling.

mod engine;
mod generation;
mod options;
mod processors;

pub use engine::{Engine, Hidden};
pub use generation::{Generation, Logprobs, Timing};
pub use options::{FinishReason, GenerateOptions};
pub use processors::Processors;
