//! From a prompt to tokens: recorded programs, the decoding loop, sampling.

mod engine;
mod generation;
mod options;

pub use engine::{Engine, Hidden};
pub use generation::{Generation, Timing};
pub use options::{FinishReason, GenerateOptions};
