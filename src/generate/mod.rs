//! From a prompt to tokens: recorded programs, the decoding loop, sampling, text.

mod assistant;
mod batch;
mod concede;
mod config;
mod engine;
mod fork;
mod forward;
mod generation;
mod logits;
mod options;
mod overflow;
mod processors;
mod programs;
mod saved;
mod schedule;
mod select;
mod sequence;
mod speculate;
mod stop;
mod submit;
mod text;
mod texts;
mod timed;

pub(crate) use concede::Settled;
pub use engine::Engine;
pub use forward::Hidden;
pub use generation::{Generation, Logprobs, Timing};
pub use options::{FinishReason, GenerateOptions};
pub use processors::Processors;
pub use saved::SavedCache;
pub use sequence::SequenceId;
pub use text::{Piece, TextGeneration};
pub use texts::Event;
pub(crate) use texts::Texts;
