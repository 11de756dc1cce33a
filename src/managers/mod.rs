//! Policy, shared by every target: decisions on plain facts, tested without an adapter.

mod prefill;
mod quantization;

pub use prefill::prefill_chunk;
pub use quantization::{Dtype, Precision, resolve};
