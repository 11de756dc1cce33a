//! Policy, shared by every target: decisions on plain facts, tested without an adapter.

mod quantization;

pub use quantization::{Dtype, Precision, resolve};
