//! Policy, shared by every target: decisions on plain facts, tested without an adapter.

mod context;
mod inspect;
mod prefill;
mod quantization;
mod roofline;

pub use context::CacheShape;
pub use inspect::{Architecture, Inspection, OnGpu, Stored, StoredFile, TokenizerFacts, inspect, inspect_weights};
pub use prefill::prefill_chunk;
pub use quantization::{Dtype, Precision, choose, resolve};
pub use roofline::{Roofline, Traffic};
