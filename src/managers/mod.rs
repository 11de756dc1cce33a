//! Policy, shared by every target: decisions on plain facts, tested without an adapter.

pub mod batch;
pub mod blocks;
mod concession;
mod context;
mod costs;
mod files;
mod footprint;
mod inspect;
mod kernels;
mod offload;
pub mod pool;
mod precision;
mod prefill;
mod profile;
mod quality;
mod quantization;
mod recommend;
mod roofline;
mod sizes;
pub mod tune;

pub use concession::{Concession, Holding, concede};
pub use context::{CacheOptions, CacheShape, cache_chunk, cache_groups, cache_plan, cache_rows};
pub use costs::Costs;
pub use files::{ModelFiles, max_length, task};
pub use footprint::{Footprint, Model, Needs};
pub use inspect::{Architecture, Inspection, OnGpu, Stored, StoredFile, TokenizerFacts, inspect, inspect_weights};
pub use kernels::{KernelProfile, KernelTimes, chrome_trace};
pub use offload::{Offload, fit};
pub use precision::{Decision, Overflow, PrecisionFacts, PrecisionReport, PrecisionWatch, activations, decide};
pub use prefill::prefill_chunk;
pub use profile::Profile;
pub use quality::{Distribution, Estimate, Prediction, Quality, RelativeError, log_softmax};
pub use quantization::{Dtype, Precision, choose, default_of_pages, resolve};
pub use recommend::{Facts, Format, Recommendation, Wanted, recommend};
pub use roofline::{Roofline, Traffic};
pub use sizes::parse_size;
